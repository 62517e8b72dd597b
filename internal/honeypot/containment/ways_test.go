package containment_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// way is a published way out of a container; the names are of testdata/attack.c.
type way struct {
	name, target string
	answer       []string // of the kernel, in a pot
}

func (w way) String() string { return strings.TrimSpace(w.name + " " + w.target) }

func denied() []string { return []string{"EPERM", "EACCES"} }

func ways() []way {
	out := []way{
		{"clone3_net", "", []string{"EPERM", "ENOSYS"}}, // the C library then uses clone
		{"device", "", []string{"ENOENT"}},
		{"vsock", "", []string{"EAFNOSUPPORT"}},
		{"vsock32", "", []string{"ENOSYS"}},
		{"alg", "", []string{"EAFNOSUPPORT"}},
		{"tipc", "", []string{"EAFNOSUPPORT"}},
	}
	for _, name := range []string{
		"mount", "bind", "remount", "umount", "fsopen", "open_tree", "move_mount", "pivot_root", "cgroup_mount",
		"unshare_user", "unshare_mount", "unshare_net", "unshare_pid", "unshare_ipc", "unshare_uts", "unshare_cgroup",
		"setns", "clone_user", "keyctl", "add_key", "request_key", "bpf", "perf", "userfaultfd", "handle", "mknod",
		"raw", "raw6", "raw_tcp", "packet", "packet_dgram", "bind_device", "iouring", "kexec", "kexec_file", "init_module",
		"finit_module", "delete_module", "reboot", "settime", "sethostname", "syslog", "swapon", "acct", "quotactl", "iopl",
		"fanotify", "realtime",
	} {
		out = append(out, way{name, "", denied()})
	}
	for _, target := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/hostname",
		"/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
		"/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state",
		"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/memory/notify_on_release",
		"/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max",
		"/sys/fs/cgroup/devices/devices.allow",
	} {
		out = append(out, way{"write", target, []string{"EROFS", "EACCES", "EPERM", "ENOENT"}})
	}
	for _, target := range []string{"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/sys/firmware/memmap/0/start"} {
		out = append(out, way{"read", target, []string{"ENODATA", "EPERM", "EACCES", "ENOENT"}})
	}
	return out
}

// absent are answers of a kernel that has no such thing at all.
func absent() []string { return []string{"ENOSYS", "ENOENT", "EAFNOSUPPORT"} }

func TestWaysOutAreClosed(t *testing.T) {
	w := newWard(t)
	p := w.start(t, 0)
	attack := build(t, "attack")
	p.bring(t, attack)
	var script strings.Builder
	for _, way := range ways() {
		fmt.Fprintf(&script, "echo \"%s: $($A %[1]s)\"\n", way)
	}
	answers := func(out string) map[string]string {
		m := make(map[string]string)
		for line := range strings.Lines(out) {
			name, answer, _ := strings.Cut(strings.TrimSpace(line), ": ")
			m[name] = answer
		}
		return m
	}
	inside := answers(p.say(t, "A=/root/attack; "+script.String()))
	control := answers(outside(t, "A="+attack+"; "+script.String()))
	for _, way := range ways() {
		t.Run(strings.ReplaceAll(way.String(), "/", "_"), func(t *testing.T) {
			assert.Contains(t, way.answer, inside[way.String()])
			if answer := control[way.String()]; slices.Contains(absent(), answer) {
				t.Logf("this machine's kernel has it not: %s", answer)
			} else {
				assert.Equal(t, "ok", answer, "it does not succeed where nothing denies it, so that this test can't fail")
			}
		})
	}
}

// What a pot can do that leads nowhere, and shows that the program works there too.
func TestWaysThatStayOpen(t *testing.T) {
	w := newWard(t)
	p := w.start(t, 0)
	p.bring(t, build(t, "attack"))
	assert.Equal(t, "ok", p.say(t, "/root/attack ptrace_child"), "as on every machine")
	assert.Equal(t, "ok", p.say(t, "/root/attack write /etc/passwd"))
	assert.Equal(t, "ok", p.say(t, "/root/attack read /proc/version"))
}

// The processes of the node and of other pots have no number in a pot.
func TestNoProcessOutside(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	attack := build(t, "attack")
	a.bring(t, attack)
	for name, pid := range map[string]int{"the node": os.Getpid(), "another pot": b.pid} {
		for _, how := range []string{"ptrace", "vm_read", "kill", "pidfd"} {
			command := fmt.Sprintf("attack %s %d", how, pid)
			require.Contains(t, []string{"ESRCH", "EPERM"}, a.say(t, "/root/"+command), "%s of %s", how, name)
			if name == "another pot" {
				assert.Equal(t, "ok", outside(t, attack+strings.TrimPrefix(command, "attack")), how)
			}
		}
		assert.Contains(t, a.say(t, fmt.Sprintf("cat /proc/%d/environ; ls /proc/%[1]d/root", pid)), "No such file", name)
	}
}
