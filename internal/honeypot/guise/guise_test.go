package guise_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
	"github.com/kokkuri/kokkuri/internal/honeypot/guise"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func bookworm() guise.Machine {
	return guise.Machine{
		Nodename: "web", Release: "6.1.0-28-amd64", Version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)",
		Compiler: "(debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)",
		Hardware: "x86_64", Cmdline: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=UUID=0b6e ro quiet",
		Memory: 2 << 30,
		Usage:  func() guise.Usage { return guise.Usage{Memory: 100 << 20, Load: 0.08, Procs: 92, LastPID: 18233} },
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin starts a pot whose kernel tells of another machine; say runs commands in it as its attacker would.
func begin(t *testing.T, node string) (g *guise.Guises, say func(command string) string, pid int) {
	t.Helper()
	d := pottest.Engine(t, node)
	n, _ := pottest.Net(t)
	id, err := d.Create(t.Context(), engine.Spec{Name: pottest.Name(t, "kktest"), Image: pottest.Image, Hostname: "web", Resolver: n.Gateway(), Guised: true})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context(), id))
	c, _, err := d.Inspect(t.Context(), id)
	require.NoError(t, err)
	g = guise.New(guise.Options{})
	t.Cleanup(g.Close)
	require.NoError(t, g.Covered())
	require.NoError(t, g.Wear(t.Context(), "pot", c.PID, bookworm))
	require.NoError(t, n.Wire(egress.Port{Pot: "pot", Run: c.Run, PID: c.PID}))
	ca, err := inside.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	require.NoError(t, err)
	pot, err := furnish.Open(c.PID)
	require.NoError(t, err)
	defer pot.Close()
	require.NoError(t, pot.Make(furnish.Machine{Hostname: "web", Address: n.Address(0), Authority: ca.PublicKey()}))
	return g, func(command string) string {
		t.Helper()
		var conn net.Conn
		if !assert.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			conn, err = n.Dial(ctx, netip.AddrPortFrom(n.Address(0), 22))
			return err == nil
		}, time.Minute, 50*time.Millisecond) {
			out, _ := exec.Command("sh", "-c", "docker top "+id+" axf -o pid,stat,wchan:30,args; for p in $(docker top "+id+" ax -o pid | tail -n +2); do cat /proc/$p/syscall; cat /proc/$p/stack; done").CombinedOutput()
			t.Fatal(string(out), err)
		}
		client, err := ca.Login(t.Context(), conn, "root", "")
		require.NoError(t, err)
		defer client.Close()
		return run(t, client, command)
	}, c.PID
}

// run runs a command by the pot's SSH server.
func run(t *testing.T, client *inside.Client, command string) string {
	t.Helper()
	p, err := client.Program()
	require.NoError(t, err)
	require.True(t, p.Ask("exec", true, ssh.Marshal(struct{ Command string }{command + " 2>&1"})))
	out, err := io.ReadAll(p)
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

func TestPotIsToldOfAnotherMachine(t *testing.T) {
	_, say, _ := begin(t, "guise-test-1")
	assert.Equal(t, "Linux web 6.1.0-28-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22) x86_64 GNU/Linux", say("uname -a"))
	assert.Equal(t, "web 6.1.0-28-amd64", say("busybox uname -nr"), "a static program")
	assert.Equal(t, "6.1.0-28-amd64", say("cat /proc/sys/kernel/osrelease"))
	assert.Equal(t, "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)", say("sysctl -n kernel.version"))
	assert.Contains(t, say("cat /proc/version"), "Linux version 6.1.0-28-amd64 (debian-kernel@")
	assert.Contains(t, say("cat /proc/meminfo"), "MemTotal:        2097152 kB")
	assert.Regexp(t, `(?m)^Mem: +2048 `, say("free -m"))
	assert.Regexp(t, `(?m)^Mem: +2097152 `, say("busybox free"), "by sysinfo")
	assert.Regexp(t, `load average: 0\.0[78], 0\.0[56], 0\.03$`, say("uptime"))
	assert.Regexp(t, `load average: 0\.0[78], 0\.0[56], 0\.03$`, say("busybox uptime"))
	assert.Regexp(t, `^0\.08 0\.06 0\.03 1/92 18233$`, say("cat /proc/loadavg"))
	assert.Contains(t, say("ps -p 1 -o comm=,args="), "systemd         /sbin/init")
}

// A pot outlives the node: what it asks meanwhile is answered by the next process.
func TestQuestionsWaitForTheNode(t *testing.T) {
	g, say, pid := begin(t, "guise-test-2")
	g.Close()
	answer := make(chan string, 1)
	go func() { answer <- say("uname -r; cat /proc/version") }()
	next := guise.New(guise.Options{})
	t.Cleanup(next.Close)
	select {
	case got := <-answer:
		t.Fatalf("answered by nobody: %s", got)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, next.Wear(t.Context(), "pot", pid, bookworm))
	assert.Contains(t, <-answer, "6.1.0-28-amd64\nLinux version 6.1.0-28-amd64")
}

// Who asks without end waits, and whoever dies while asking leaves nothing.
func TestManyQuestions(t *testing.T) {
	_, say, _ := begin(t, "guise-test-3")
	assert.Equal(t, "done", say("for i in $(seq 20); do for j in 1 2 3 4 5; do timeout -s KILL 0.02 busybox sh -c 'while :; do busybox uname; done' & done >/dev/null 2>&1; wait; done 2>/dev/null; echo done"))
	assert.Equal(t, "6.1.0-28-amd64", say("uname -r"))
}

// A question that somebody in the pot took before the node, by the listener of its first process, is not waited for.
func TestQuestionThatWasTaken(t *testing.T) {
	_, say, pid := begin(t, "guise-test-4")
	assert.Equal(t, "6.1.0-28-amd64", say("uname -r"))
	taken := make(chan error, 1)
	go func() { taken <- guise.TakeNone(pid) }()
	select {
	case err := <-taken:
		require.ErrorIs(t, err, unix.EINTR)
	case <-time.After(time.Minute):
		t.Fatal("it waits for the next one")
	}
	assert.Equal(t, "6.1.0-28-amd64", say("uname -r"))
}
