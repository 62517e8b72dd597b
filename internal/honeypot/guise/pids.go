package guise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstPID is the number before that of the first service of a machine.
const firstPID = 367

const beginWithin = 2 * time.Second

// begin has a pot's services counted as those of a machine are, where none of them runs yet.
func begin(ctx context.Context, pid int) error {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil || len(children) > 0 {
		return nil //nolint:nilerr // it has begun, or ended
	}
	return SetLastPID(ctx, pid, firstPID)
}

// Begun waits until a pot's first process has started what is to run from the start on, and waits for something to do.
func Begun(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, beginWithin)
	defer cancel()
	poll := time.NewTicker(listenPoll)
	defer poll.Stop()
	for {
		children, errChildren := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		stat, errStat := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err := errors.Join(errChildren, errStat); err != nil {
			return fmt.Errorf("wait for its first processes: %w", err)
		}
		if _, state, ok := strings.Cut(string(stat), ") "); ok && len(children) > 0 && strings.HasPrefix(state, "S") {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for its first processes: %w", ctx.Err())
		}
	}
}

// SetLastPID has the pot's processes counted on from a number (ns_last_pid of the kernel's documentation of
// /proc/sys/kernel). pid is of the pot's first process. The kernel takes it only of a process within, so a shell of the
// node's is in there for a moment: with the node's own files and rights, which nobody in the pot can look into.
func SetLastPID(ctx context.Context, pid, last int) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and end with the thread, whose children are the pot's
		done <- setLastPID(ctx, pid, last)
	}()
	return <-done
}

func setLastPID(ctx context.Context, pid, last int) error {
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("count its processes: %w", err)
	}
	defer unix.Close(ns) //nolint:errcheck // a handle
	var own, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(ns, &theirs), unix.Stat("/proc/thread-self/ns/pid", &own)); err != nil {
		return fmt.Errorf("count its processes: %w", err)
	}
	if own.Ino == theirs.Ino {
		return errors.New("count its processes: they are among the machine's")
	}
	if err := unix.Setns(ns, unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("count its processes: %w", err)
	}
	out, err := exec.CommandContext(ctx, "/bin/sh", "-c", `echo "$1" >/proc/sys/kernel/ns_last_pid`, "sh", strconv.Itoa(last)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("count its processes: %w: %q", err, out)
	}
	return nil
}
