// Package journaltest runs a real systemd-journald for tests, in a world of its own.
package journaltest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Journald is a real systemd-journald in a world of its own: mounts and processes. Its journal's files lie in Dir, where a
// journalctl outside reads them.
type Journald struct {
	Dir  string // of its files
	Stop func() // kills it, with all that is in its world

	pid int // of its init, as we see it; journald's
}

// world makes the world. /dev/log is journald's there.
const world = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal /run/sshd /run/olddev
mount --bind "$1" /run/log/journal
mount -t tmpfs tmpfs /var/log
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nRuntimeMaxFileSize=8M\nRuntimeMaxUse=64M\n' >/run/systemd/journald.conf.d/test.conf
mount --bind /dev /run/olddev
mount -t tmpfs -o mode=755 tmpfs /dev
for n in null zero random urandom full tty; do touch /dev/$n; mount --bind /run/olddev/$n /dev/$n; done
mkdir /dev/pts /dev/shm
mount --bind /run/olddev/pts /dev/pts
ln -s /proc/self/fd /dev/fd
ln -s pts/ptmx /dev/ptmx
ln -s /run/systemd/journal/dev-log /dev/log
if [ -n "$2" ]; then
	echo "$2" >/run/boot_id
	mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
fi
[ -z "$3" ] || export LD_PRELOAD="$3"
exec /lib/systemd/systemd-journald
`

// Start starts one that ends with the test.
func Start(t *testing.T) *Journald {
	t.Helper()
	return Boot(t, t.TempDir(), World{})
}

// World is what differs from the world outside.
type World struct {
	BootID string        // with hyphens; empty: the one outside
	Clock  time.Duration // by which its clock is wrong
}

// Boot starts one that writes into a folder.
func Boot(t *testing.T, dir string, w World) *Journald {
	t.Helper()
	j := &Journald{Dir: dir}
	var said bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", world, "sh", j.Dir, w.BootID, wrongClock(t, w.Clock))
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	j.Stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("systemd-journald said: %s", said.String())
		}
	})
	t.Cleanup(j.Stop)
	require.Eventually(t, func() bool { // the entry that says that it started
		b, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/children")
		if err != nil {
			return false
		}
		if j.pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			return false
		}
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(j.pid) + "/comm")
		found, _ := filepath.Glob(filepath.Join(j.Dir, "*", "system.journal"))
		return strings.HasPrefix(string(comm), "systemd-journal") && len(found) == 1 && j.try(t, "logger", "--socket-errors=on", "-t", "test", "it is there") == nil
	}, 20*time.Second, 10*time.Millisecond, "systemd-journald starts (apt-get install systemd)")
	return j
}

// Command is a program in journald's world.
func (j *Journald) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(j.pid), "--mount", "--pid"}, args...)...)
}

// wrongClock makes a library that makes a program's clock wrong. (libfaketime breaks timers of clocks that it does not touch.)
func wrongClock(t *testing.T, by time.Duration) (library string) {
	t.Helper()
	if by == 0 {
		return ""
	}
	const source = `
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
	int r = syscall(SYS_clock_gettime, id, ts);
	if (r == 0 && id == CLOCK_REALTIME) ts->tv_sec += %d;
	return r;
}
`
	library = filepath.Join(t.TempDir(), "clock.so")
	cmd := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-o", library, "-x", "c", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(source, int(by.Seconds())))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return library
}

// Programs writes into a folder what a collector outside needs to be in journald's world: journalctl, which needs no directory
// there, and boot_id. between is a shell's commands that are run after each reading that ends, and before each that follows; "inside"
// runs what is in the world. The file following has the process id of the one that follows.
func (j *Journald) Programs(t *testing.T, dir, between string) (journalctl, bootID string) {
	t.Helper()
	journalctl, bootID = filepath.Join(dir, "journalctl"), filepath.Join(dir, "boot_id")
	out, err := j.Command(t.Context(), "cat", "/proc/sys/kernel/random/boot_id").Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(bootID, out, 0o600))
	const script = `#!/bin/sh
dir=%s
inside() { nsenter --target %d --mount --pid "$@"; }
between() {
:
%s
}
case " $* " in
*" --follow "*)
	between >/dev/null
	echo $$ >$dir/following
	exec nsenter --target %[2]d --mount --pid journalctl "$@";;
esac
inside journalctl "$@"
code=$?
between >/dev/null
exit $code
`
	require.NoError(t, os.WriteFile(journalctl+".new", fmt.Appendf(nil, script, dir, j.pid, between), 0o700)) //nolint:gosec // a program
	require.NoError(t, os.Rename(journalctl+".new", journalctl))
	return journalctl, bootID
}

func (j *Journald) try(t *testing.T, args ...string) error {
	t.Helper()
	return j.Command(t.Context(), args...).Run() //nolint:wrapcheck // only whether it failed
}

// Run runs a program in journald's world.
func (j *Journald) Run(t *testing.T, in string, args ...string) {
	t.Helper()
	cmd := j.Command(t.Context(), args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
}

// Rotate begins a new file.
func (j *Journald) Rotate(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(j.pid, syscall.SIGUSR2))
}

// Vacuum removes all files but the one that is written to.
func (j *Journald) Vacuum(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "journalctl", "--directory="+j.Dir, "--vacuum-files=1").CombinedOutput()
	require.NoError(t, err, string(out))
}
