package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"github.com/vishvananda/netns"
)

// Machine is a container that plays a machine.
type Machine struct {
	l    *Lab
	spec spec
}

func (l *Lab) machine(s spec) *Machine { return &Machine{l: l, spec: s} }

// Name is the container's name.
func (m *Machine) Name() string { return m.spec.name }

// ExitError is a program that ended with another code than 0.
type ExitError struct {
	Command []string
	Code    int
	Stdout  string
	Stderr  string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%q ended with %d: %s", e.Command, e.Code, strings.TrimSpace(e.Stderr+e.Stdout))
}

// Exec runs a program in the machine and returns what it wrote. A program that fails gives an *ExitError.
func (m *Machine) Exec(ctx context.Context, command ...string) (string, error) {
	created, err := m.l.cli.ExecCreate(ctx, m.spec.name, client.ExecCreateOptions{
		Cmd: command, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return "", fmt.Errorf("run %q in %s: %w", command, m.spec.name, err)
	}
	attached, err := m.l.cli.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", fmt.Errorf("run %q in %s: %w", command, m.spec.name, err)
	}
	defer attached.Close()
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	var stdout, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, &stderr, attached.Reader); err != nil {
		return stdout.String(), fmt.Errorf("read from %q in %s: %w", command, m.spec.name, errors.Join(ctx.Err(), err))
	}
	if err := ctx.Err(); err != nil {
		return stdout.String(), fmt.Errorf("run %q in %s: %w", command, m.spec.name, err)
	}
	result, err := m.l.cli.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
	if err != nil {
		return stdout.String(), fmt.Errorf("ask how %q in %s ended: %w", command, m.spec.name, err)
	}
	if result.ExitCode != 0 {
		return stdout.String(), &ExitError{Command: command, Code: result.ExitCode, Stdout: stdout.String(), Stderr: stderr.String()}
	}
	return stdout.String(), nil
}

// Shell runs a line of shell in the machine.
func (m *Machine) Shell(ctx context.Context, line string) (string, error) {
	return m.Exec(ctx, "sh", "-c", line)
}

// Spawn starts a program in the machine and does not wait for it.
func (m *Machine) Spawn(ctx context.Context, command ...string) error {
	created, err := m.l.cli.ExecCreate(ctx, m.spec.name, client.ExecCreateOptions{Cmd: command})
	if err != nil {
		return fmt.Errorf("start %q in %s: %w", command, m.spec.name, err)
	}
	if _, err := m.l.cli.ExecStart(ctx, created.ID, client.ExecStartOptions{Detach: true}); err != nil {
		return fmt.Errorf("start %q in %s: %w", command, m.spec.name, err)
	}
	return nil
}

// WriteFile puts a file into the machine; its folder must exist.
func (m *Machine) WriteFile(ctx context.Context, path string, data []byte, mode fs.FileMode) error {
	packed, err := archive(map[string]file{strings.TrimPrefix(path, "/"): {data: data, mode: mode}})
	if err != nil {
		return fmt.Errorf("write %s in %s: %w", path, m.spec.name, err)
	}
	_, err = m.l.cli.CopyToContainer(ctx, m.spec.name, client.CopyToContainerOptions{DestinationPath: "/", Content: packed})
	if err != nil {
		return fmt.Errorf("write %s in %s: %w", path, m.spec.name, err)
	}
	return nil
}

// ReadFile reads a file of the machine.
func (m *Machine) ReadFile(ctx context.Context, path string) ([]byte, error) {
	out, err := m.Exec(ctx, "cat", path)
	return []byte(out), err
}

// PID is the process id of the machine's first process, as the machine underneath sees it.
func (m *Machine) PID(ctx context.Context) (int, error) {
	found, err := m.l.cli.ContainerInspect(ctx, m.spec.name, client.ContainerInspectOptions{})
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", m.spec.name, err)
	}
	if !found.Container.State.Running {
		return 0, fmt.Errorf("%s does not run: %s", m.spec.name, found.Container.State.Status)
	}
	return found.Container.State.Pid, nil
}

// Inside runs fn on a thread in the machine's network namespace: sockets that fn opens are the machine's.
// They stay so when fn hands them out.
func (m *Machine) Inside(ctx context.Context, fn func() error) error {
	pid, err := m.PID(ctx)
	if err != nil {
		return err
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("network namespace of %s: %w", m.spec.name, err)
	}
	defer ns.Close() //nolint:errcheck // only read from
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else gets it.
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("enter the network namespace of %s: %w", m.spec.name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// Dial connects from the machine. A valid from is the source address.
func (m *Machine) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := m.Inside(ctx, func() error {
		var d net.Dialer
		if from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
		c, err := d.DialContext(ctx, "tcp", to.String())
		conn = c
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("connect from %s (%s) to %s: %w", m.spec.name, from, to, err)
	}
	return conn, nil
}

// configure gives the machine its addresses beyond the engine's IPv4; present ones are left alone.
func (m *Machine) configure(ctx context.Context) error {
	for i, at := range m.spec.at {
		want := []netip.Prefix{at.net.prefixOf(at.v6)}
		if i == 0 {
			for _, a := range m.spec.extra {
				want = append(want, at.net.prefixOf(a))
			}
		}
		err := m.Inside(ctx, func() error {
			link, err := linkWith(at.v4)
			if err != nil {
				return err
			}
			return addAddresses(link, want...)
		})
		if err != nil {
			return fmt.Errorf("addresses of %s: %w", m.spec.name, err)
		}
	}
	return nil
}

// AddAddress gives the machine one more address on its first network; it is usable at once.
func (m *Machine) AddAddress(ctx context.Context, a netip.Addr) error {
	first := m.spec.at[0]
	err := m.Inside(ctx, func() error {
		link, err := linkWith(first.v4)
		if err != nil {
			return err
		}
		return addAddresses(link, first.net.prefixOf(a))
	})
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", m.spec.name, err)
	}
	return nil
}
