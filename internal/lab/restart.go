package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// Engine is the machine's Docker Engine as it was started: by systemd, or as a process of its own.
type Engine struct {
	l    *Lab
	args []string // of dockerd; none under systemd
}

// RestartEngine stops the machine's Docker Engine and starts it again in the same way.
func (l *Lab) RestartEngine(ctx context.Context) error {
	e, err := l.StopEngine(ctx)
	if err != nil {
		return err
	}
	return e.Start(ctx)
}

// StopEngine stops the machine's Docker Engine. Machines and pots go on with live-restore; what asks the
// engine fails until Start.
func (l *Lab) StopEngine(ctx context.Context) (*Engine, error) {
	e := &Engine{l: l}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return e, systemctl(ctx, "stop", "docker.socket", "docker.service")
	}
	pid, args, err := findEngine()
	if err != nil {
		return nil, err
	}
	e.args = args
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return nil, fmt.Errorf("stop the engine (%d): %w", pid, err)
	}
	err = wait(ctx, 60*time.Second, func() (bool, error) {
		now, _, err := findEngine()
		return errors.Is(err, errNoEngine) || now != pid, nil
	})
	if err != nil {
		return nil, fmt.Errorf("stop the engine (%d): %w", pid, err)
	}
	return e, nil
}

// Start starts what StopEngine stopped, and waits until it answers.
func (e *Engine) Start(ctx context.Context) error {
	if len(e.args) == 0 {
		if err := systemctl(ctx, "start", "docker.socket", "docker.service"); err != nil {
			return err
		}
		return e.l.engineBack(ctx)
	}
	output, err := os.OpenFile("/var/log/kokkuri-dockerd.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of the engine: %w", err)
	}
	defer output.Close()                          //nolint:errcheck // the engine has its own descriptor
	cmd := exec.Command(e.args[0], e.args[1:]...) //nolint:noctx // it outlives this context
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the engine again: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // reaps it should it end before us
	return e.l.engineBack(ctx)
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

var errNoEngine = errors.New("no dockerd runs here")

// findEngine finds dockerd and how it was started. A dockerd that is a zombie does not count.
func findEngine() (pid int, args []string, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}
		args := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
		if filepath.Base(args[0]) == "dockerd" {
			return pid, args, nil
		}
	}
	return 0, nil, errNoEngine
}

func (l *Lab) engineBack(ctx context.Context) error {
	var last error
	err := wait(ctx, 60*time.Second, func() (bool, error) {
		_, last = l.cli.Ping(ctx, client.PingOptions{})
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("the engine does not answer after its restart: %w: %w", err, last)
	}
	return nil
}
