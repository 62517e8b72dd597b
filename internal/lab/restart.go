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

// RestartEngine restarts the machine's Docker Engine the way it was started: through systemd, or as the
// process that it is, with the same arguments.
func (l *Lab) RestartEngine(ctx context.Context) error {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		out, err := exec.CommandContext(ctx, "systemctl", "restart", "docker.service").CombinedOutput()
		if err != nil {
			return fmt.Errorf("restart docker.service: %w: %s", err, out)
		}
		return l.engineBack(ctx)
	}
	pid, args, err := findEngine()
	if err != nil {
		return err
	}
	output, err := os.OpenFile("/var/log/kokkuri-dockerd.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of the engine: %w", err)
	}
	defer output.Close() //nolint:errcheck // the engine has its own descriptor
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the engine (%d): %w", pid, err)
	}
	err = wait(ctx, 60*time.Second, func() (bool, error) {
		now, _, err := findEngine()
		return errors.Is(err, errNoEngine) || now != pid, nil
	})
	if err != nil {
		return fmt.Errorf("stop the engine (%d): %w", pid, err)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it outlives this context
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the engine again: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // reaps it should it end before us
	return l.engineBack(ctx)
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
