package guise_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
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

func TestPotIsToldOfAnotherMachine(t *testing.T) {
	d := pottest.Engine(t, "guise-test-1")
	id, err := d.Create(t.Context(), engine.Spec{Name: pottest.Name(t, "kktest"), Image: pottest.Image, Hostname: "web"})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context(), id))
	c, _, err := d.Inspect(t.Context(), id)
	require.NoError(t, err)

	g := guise.New(guise.Options{})
	t.Cleanup(g.Close)
	require.NoError(t, g.Covered())
	require.NoError(t, g.Wear("pot", c.PID, bookworm))
	say := func(command string) string {
		t.Helper()
		out, err := pottest.InPot(t, id, command)
		require.NoError(t, err, out)
		return strings.TrimSpace(out)
	}
	// A program that somebody starts in a pot inherits the filter from the first process; the engine's exec does not.
	_ = exec.Command
	_ = time.Second
	assert.Equal(t, "6.1.0-28-amd64", say("cat /proc/sys/kernel/osrelease"))
	assert.Contains(t, say("cat /proc/version"), "Linux version 6.1.0-28-amd64 (debian-kernel@")
	assert.Contains(t, say("cat /proc/meminfo"), "MemTotal:        2097152 kB")
	t.Log(say("free -m; cat /proc/mounts"))
}
