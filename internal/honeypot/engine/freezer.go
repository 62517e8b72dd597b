package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	cgroups      = "/sys/fs/cgroup"
	freezeWithin = 2 * time.Second
	freezePoll   = 200 * time.Microsecond
	stopWithin   = 2 // seconds until a pot that is stopped is killed
)

// ErrNoFreezer says that the machine's kernel cannot freeze the pot's processes.
var ErrNoFreezer = errors.New("no control group that could freeze the pot")

// ErrGone says that a process is not the pot's any more.
var ErrGone = errors.New("the pot's process is gone")

// Freeze stops a running pot's processes where they are; pid is that of its first one. The engine
// takes the pot for running still: this is a matter of microseconds, where a pause by the engine
// takes as long as it takes to ask it.
func (d *Docker) Freeze(ctx context.Context, id string, pid int) error {
	err := setFrozen(ctx, id, pid, true)
	if err != nil {
		_ = setFrozen(context.WithoutCancel(ctx), id, pid, false) // nothing stays half frozen
	}
	return err
}

// Thaw has a pot's processes go on; one that is not frozen is left alone.
func (d *Docker) Thaw(ctx context.Context, id string, pid int) error {
	return setFrozen(ctx, id, pid, false)
}

// Unpause has a pot go on that the engine takes for paused.
func (d *Docker) Unpause(ctx context.Context, id string) error {
	_, err := d.cli.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	return d.wrap(err, "unpause pot "+short(id))
}

// Stop ends a pot's processes; its files stay.
func (d *Docker) Stop(ctx context.Context, id string) error {
	d.thaw(ctx, id)
	wait := stopWithin
	_, err := d.cli.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &wait})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return d.wrap(err, "stop pot "+short(id))
}

// thaw lets a pot's processes hear that they have to end.
func (d *Docker) thaw(ctx context.Context, id string) {
	if c, found, err := d.Inspect(ctx, id); err == nil && found && c.PID != 0 {
		_ = d.Thaw(ctx, c.ID, c.PID)
	}
}

// freezer is where a process's control group is frozen: version 1 and 2 of the kernel's interface
// (cgroup-v1/freezer-subsystem and cgroup-v2 of its documentation).
type freezer struct {
	control, frozen, thawed string
	state                   func() (frozen bool, err error)
}

func freezerOf(id string, pid int) (freezer, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return freezer{}, fmt.Errorf("control groups of process %d: %w: %w", pid, ErrGone, err)
	}
	if !strings.Contains(string(data), id) {
		return freezer{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[2] == "/" {
			continue
		}
		switch {
		case fields[1] == "freezer":
			path := filepath.Join(cgroups, "freezer", fields[2], "freezer.state")
			return freezer{control: path, frozen: "FROZEN", thawed: "THAWED", state: func() (bool, error) {
				text, err := os.ReadFile(path)
				return strings.TrimSpace(string(text)) == "FROZEN", err //nolint:wrapcheck // the caller says what was done
			}}, nil
		case fields[0] == "0" && fields[1] == "":
			dir := filepath.Join(cgroups, fields[2])
			if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err != nil {
				continue // version 1 beside it
			}
			return freezer{control: filepath.Join(dir, "cgroup.freeze"), frozen: "1", thawed: "0", state: func() (bool, error) {
				text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
				return strings.Contains(string(text), "frozen 1"), err
			}}, nil
		}
	}
	return freezer{}, fmt.Errorf("process %d: %w", pid, ErrNoFreezer)
}

func setFrozen(ctx context.Context, id string, pid int, want bool) error {
	f, err := freezerOf(id, pid)
	if err != nil {
		return err
	}
	word := f.thawed
	if want {
		word = f.frozen
	}
	if err := os.WriteFile(f.control, []byte(word), 0o600); err != nil {
		return fmt.Errorf("freeze or thaw a pot: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, freezeWithin)
	defer cancel()
	poll := time.NewTicker(freezePoll)
	defer poll.Stop()
	for {
		frozen, err := f.state()
		if err != nil {
			return fmt.Errorf("freeze or thaw a pot: %w", err)
		}
		if frozen == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("freeze or thaw a pot: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// Runs reports whether a process is a pot's: its number may have become another's.
func Runs(id string, pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && id != "" && strings.Contains(string(data), id)
}
