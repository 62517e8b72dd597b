package honeypot

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/guise"
)

const (
	machineMemory = 2 << 30   // bytes that a pot believes to have
	machineOthers = 150 << 20 // bytes that a machine's own programs use, of which a pot has none
	usageEvery    = time.Second
	machineProcs  = 84 // of which a pot sees none: those of the kernel
)

// guise has the kernel tell a pot of a machine that is no container.
func (p *parts) guise(ctx context.Context, id string, pid int, host func() string) error {
	m := machine()
	m.Usage = usageOf(pid)
	return p.guises.Wear(ctx, id, pid, func() guise.Machine {
		m := m
		if m.Nodename = host(); m.Nodename == "" {
			m.Nodename = "localhost"
		}
		return m
	})
}

// machine describes a machine with the node's kernel.
func machine() guise.Machine {
	var u unix.Utsname
	_ = unix.Uname(&u) // never fails
	m := guise.Machine{Release: text(u.Release[:]), Version: text(u.Version[:]), Hardware: text(u.Machine[:]), Memory: machineMemory}
	m.Cmdline = "BOOT_IMAGE=/boot/vmlinuz-" + m.Release + " root=/dev/vda1 ro quiet"
	return m
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
