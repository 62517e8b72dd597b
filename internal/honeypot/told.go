package honeypot

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/guise"
)

const (
	// debianCompiler is what kernels of Debian 12 say of who made them.
	debianCompiler = "(debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)"

	machineMemory = 2 << 30   // bytes that a pot believes to have
	machineOthers = 150 << 20 // bytes that a machine's own programs use, of which a pot has none
	usageEvery    = time.Second
	machineProcs  = 84 // of which a pot sees none: those of the kernel
)

// guise has the kernel tell a pot of a machine that is no container.
func (p *parts) guise(ctx context.Context, id string, pid int, owner func() event.PotKey) error {
	usage := usageOf(pid)
	return p.guises.Wear(ctx, id, pid, func() guise.Machine {
		k := owner()
		m := guise.Machine{Nodename: "localhost", Memory: machineMemory, Usage: usage}
		if k.Host != "" {
			v := p.persona(k)
			m = machineOf(v)
			m.Usage = usage
			if m.Nodename == "" {
				m.Nodename = k.Host
			}
		}
		own(&m)
		m.BootID = bootID(p, k.Host)
		return m
	})
}

// machineOf is the machine that a persona describes.
func machineOf(v event.Persona) guise.Machine {
	m := guise.Machine{
		Nodename: v.Hostname, Release: v.Kernel.Release, Version: v.Kernel.Version, Hardware: v.Kernel.Machine,
		Memory: machineMemory, Swap: v.Machine.Swap,
	}
	if v.Machine.Memory > 0 {
		m.Memory = v.Machine.Memory
	}
	return m
}

// bootID names this start of a host's machines; the node's own would tell that they are on one.
func bootID(p *parts, host string) string {
	of, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // it changes when the node is started anew, as it should
	seed, _ := p.keys.Seed(host)                            // never fails
	b := sha256.Sum256(append(seed, of...))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // a random one (RFC 9562)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// own fills in from the node's own kernel what a persona does not say.
func own(m *guise.Machine) {
	var u unix.Utsname
	_ = unix.Uname(&u) // never fails
	if m.Release == "" {
		m.Release, m.Version = text(u.Release[:]), text(u.Version[:])
	}
	if m.Hardware == "" {
		m.Hardware = text(u.Machine[:])
	}
	if strings.Contains(m.Version, "Debian") {
		m.Compiler = debianCompiler
	}
	m.Cmdline = "BOOT_IMAGE=/boot/vmlinuz-" + m.Release + " root=/dev/vda1 ro quiet"
}

// usageOf looks at what a pot's programs use, at most once a second: who looks all the time shall not keep the node busy.
func usageOf(pid int) func() guise.Usage {
	var mu sync.Mutex
	var at time.Time
	var u guise.Usage
	return func() guise.Usage {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(at) < usageEvery {
			return u
		}
		at, u = time.Now(), guise.Usage{Memory: machineOthers, Procs: machineProcs}
		if used, err := engine.Memory(pid); err == nil {
			u.Memory += used
		}
		if procs, newest, err := engine.Processes(pid); err == nil {
			u.Procs, u.LastPID = u.Procs+procs, newest
		}
		return u
	}
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
