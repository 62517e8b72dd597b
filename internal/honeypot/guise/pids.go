package guise

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
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

const (
	firstPID    = 367 // the number before that of the first service of a machine
	laterPID    = 11000
	laterSpan   = 15000
	beginWithin = 2 * time.Second
)

// numbering gives a pot's processes numbers of a machine that has run for some weeks. It is done before anybody watches
// what runs in the pot, which would take the node's hand for the attacker's.
type numbering struct {
	pot string
	pid int // of its first process
	err error
	new bool // nothing else has run in it yet
}

// begin has the first services counted as those of a machine are.
func (n *numbering) begin(ctx context.Context) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", n.pid))
	if err != nil || len(children) > 0 {
		return // it has ended, or begun under an earlier process of ours
	}
	n.new = true
	n.err = countOn(ctx, n.pid, firstPID)
}

// goOn has what comes after the services counted as if it came much later.
func (n *numbering) goOn(ctx context.Context) error {
	if !n.new || n.err != nil {
		return n.err
	}
	if err := begun(ctx, n.pid); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(n.pot))
	return countOn(ctx, n.pid, laterPID+int(binary.BigEndian.Uint32(sum[:]))%laterSpan)
}

// begun waits until a pot's first process has started what is to run from the start on, and waits for something to do.
func begun(ctx context.Context, pid int) error {
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

// countOn has the pot's processes counted on from a number (ns_last_pid of the kernel's documentation of
// /proc/sys/kernel). pid is of the pot's first process. The kernel takes it only of a process within, so a shell of the
// node's is in there for a moment: with the node's own files and rights, which nobody in the pot can look into.
func countOn(ctx context.Context, pid, last int) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and end with the thread, whose children are the pot's
		done <- writeLastPID(ctx, pid, last)
	}()
	return <-done
}

func writeLastPID(ctx context.Context, pid, last int) error {
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
