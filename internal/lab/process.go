package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process may take to stop after SIGTERM.
const patience = 15 * time.Second

// Process is one of the lab's processes: the server or the node. It outlives whoever started it.
type Process struct {
	l    *Lab
	role string // server or honeypot
}

// Server is the process of the server.
func (l *Lab) Server() *Process { return &Process{l: l, role: "server"} }

// Node is the process of the honeypot node.
func (l *Lab) Node() *Process { return &Process{l: l, role: "honeypot"} }

func (l *Lab) configPath() string { return filepath.Join(l.o.StateDir, "kokkuri.yaml") }

// LogPath is where the process writes its log.
func (p *Process) LogPath() string { return filepath.Join(p.l.o.StateDir, p.role+".log") }

// command is also what the process is recognised by: nobody else has this configuration file.
func (p *Process) command() []string { return []string{p.role, "--config", p.l.configPath()} }

// PIDs finds the process; there is at most one unless something went wrong.
func (p *Process) PIDs() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it ended meanwhile
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		if len(args) == 4 && filepath.Base(args[0]) == "kokkuri" && slices.Equal(args[1:], p.command()) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Start starts the process in a session of its own, unless it runs, and waits until ready says so.
func (p *Process) Start(ctx context.Context, ready func(context.Context) error) error {
	running, err := p.PIDs()
	if err != nil {
		return err
	}
	exited := make(chan error, 1)
	if len(running) == 0 {
		if exited, err = p.spawn(); err != nil {
			return err
		}
	}
	var last error
	err = wait(ctx, 30*time.Second, func() (bool, error) {
		select {
		case err := <-exited:
			return false, fmt.Errorf("kokkuri %s ended: %w; the end of %s:\n%s", p.role, err, p.LogPath(), p.logTail())
		default:
		}
		last = ready(ctx)
		return last == nil, nil
	})
	if errors.Is(err, errDeadline) {
		return fmt.Errorf("kokkuri %s is not ready: %w; the end of %s:\n%s", p.role, last, p.LogPath(), p.logTail())
	}
	return err
}

func (p *Process) spawn() (chan error, error) {
	logFile, err := os.OpenFile(p.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of kokkuri %s: %w", p.role, err)
	}
	defer logFile.Close() //nolint:errcheck // the process has its own descriptor
	program := filepath.Join(p.l.o.Bin, "kokkuri")
	// Without a context: the process outlives this one.
	cmd := exec.Command(program, p.command()...) //nolint:noctx // see above
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s (make build makes it): %w", program, err)
	}
	exited := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("without an error")
		}
		exited <- err
	}()
	return exited, nil
}

// logTail is the end of the process's log.
func (p *Process) logTail() string { return p.logEnd(4 << 10) }

func (p *Process) logEnd(most int64) string {
	f, err := os.Open(p.LogPath())
	if err != nil {
		return err.Error()
	}
	defer f.Close() //nolint:errcheck // only read from
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	tail, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(tail))
}

// Stop ends the process with SIGTERM. One that takes too long is a bug: it is made to tell what it does by
// SIGQUIT, which ends it. No process is fine.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := p.gone(ctx, patience)
	if errors.Is(err, errDeadline) {
		if err := p.signal(syscall.SIGQUIT); err != nil {
			return err
		}
		_ = p.gone(ctx, 2*time.Second) // if not, it is killed below
		p.l.printf("kokkuri %s did not stop in %s; what it did, from %s:\n%s\n", p.role, patience, p.LogPath(), p.logEnd(64<<10))
		return p.Kill(ctx)
	}
	return err
}

// Kill ends the process with SIGKILL, as a crash would.
func (p *Process) Kill(ctx context.Context) error {
	pids, err := p.PIDs()
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	// One that is dying has no command line any more, but its files, and locks, for a while.
	return wait(ctx, patience, func() (bool, error) { return !slices.ContainsFunc(pids, lives), nil })
}

// lives reports whether a process has anything left. The first of its threads may have ended before others.
func lives(pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return false
	}
	threads, _ := os.ReadDir(filepath.Join(dir, "task"))
	_, rest, _ := strings.Cut(string(data), ") ")
	return len(threads) > 1 || !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func (p *Process) signal(sig syscall.Signal) error {
	pids, err := p.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to kokkuri %s (%d): %w", sig, p.role, pid, err)
		}
	}
	return nil
}

func (p *Process) gone(ctx context.Context, within time.Duration) error {
	return wait(ctx, within, func() (bool, error) {
		pids, err := p.PIDs()
		return len(pids) == 0, err
	})
}

var errDeadline = errors.New("it takes too long")

// wait asks fn every 50 ms until it says yes, fails, or the time is over, which is errDeadline.
func wait(ctx context.Context, within time.Duration, fn func() (bool, error)) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		ok, err := fn()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("interrupted: %w", ctx.Err())
		case <-deadline.C:
			return fmt.Errorf("%w (%s)", errDeadline, within)
		case <-ticker.C:
		}
	}
}
