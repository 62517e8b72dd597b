// Package guise has the kernel tell pots of another machine than the node: uname(2) and sysinfo(2) are answered here,
// by the listener of the filter that a pot's first process has set up (seccomp_unotify(2)), and files of /proc
// are covered with files of a FUSE file system.
//
// Nothing here lets a pot do more than before. Where a kernel can't, or a pot's image has an init of its own, pots are
// told the truth.
package guise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what a pot is told of the machine that it is.
type Machine struct {
	Nodename string // its host name
	Release  string // of its kernel, as uname -r
	Version  string // as uname -v
	Compiler string // as in /proc/version; empty where nobody knows
	Hardware string // as uname -m
	Cmdline  string // what its kernel was started with
	BootID   string // of this start of it, as random(4) has it
	Memory   int64  // bytes
	Swap     int64  // bytes
	Usage    func() Usage
}

// Usage is what goes on in a machine.
type Usage struct {
	Memory  int64   // bytes that its programs use
	Load    float64 // processes that run
	Procs   int     // that it has
	LastPID int     // the newest of them
}

// Options configure Guises.
type Options struct {
	Log *slog.Logger
}

// Guises are worn by pots. The methods may be called concurrently.
type Guises struct {
	log   *slog.Logger
	files *files // nil where the kernel has no FUSE
	why   error  // why files is nil

	mu     sync.Mutex
	worn   map[string]*worn
	closed bool
	wg     sync.WaitGroup
}

type worn struct {
	pid  int
	stop func()
}

// New prepares what pots have in common.
func New(o Options) *Guises {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guises{log: o.Log, worn: make(map[string]*worn)}
	g.files, g.why = openFiles()
	if g.why != nil {
		g.log.Warn("pots see the node's own /proc", "error", g.why)
	}
	return g
}

// Covered returns nil where files of /proc can be covered, else why not.
func (g *Guises) Covered() error { return g.why }

// Wear has a pot that was created for it, and started, told of the machine that describe returns, which is asked each
// time somebody looks. pid is of the pot's first process. It may be repeated, and has to be after each start of the pot.
func (g *Guises) Wear(ctx context.Context, pot string, pid int, describe func() Machine) error {
	if g.wears(pot, pid) {
		return nil
	}
	l, err := awaitListener(ctx, pid)
	if err != nil {
		return fmt.Errorf("guise of pot %s: %w", pot, err)
	}
	number := numbering{pot: pot, pid: pid}
	number.begin(ctx)
	if err := g.put(pot, pid, l, describe); err != nil { //nolint:contextcheck // likewise
		return err
	}
	if err := number.goOn(ctx); err != nil {
		g.log.WarnContext(ctx, "processes of a pot have low numbers", "pot", pot, "error", err)
	}
	return nil
}

// put has questions answered that come out of a listener.
func (g *Guises) put(pot string, pid int, l *listener, describe func() Machine) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.worn[pot]; w != nil {
		w.stop()
	}
	if g.closed {
		err = errors.New("the node stops")
	}
	if err == nil && g.files != nil {
		err = g.files.cover(pot, pid, describe)
	}
	if err != nil {
		l.close()
		return fmt.Errorf("guise of pot %s: %w", pot, err)
	}
	serving, cancel := context.WithCancel(context.Background()) // until Close
	w := &worn{pid: pid, stop: cancel}
	g.worn[pot] = w
	g.wg.Go(func() {
		defer cancel()
		l.serve(serving, describe)
		g.ended(pot, w)
	})
	return nil
}

func (g *Guises) wears(pot string, pid int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.worn[pot]
	return w != nil && w.pid == pid
}

// ended forgets a pot that has ended, unless it has been started again.
func (g *Guises) ended(pot string, w *worn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.worn[pot] != w {
		return
	}
	delete(g.worn, pot)
	if g.files != nil && !g.closed {
		g.files.forget(pot)
	}
}

// Close ends all answers. Questions of pots that run wait for the node's next start.
func (g *Guises) Close() {
	g.mu.Lock()
	g.closed = true
	for _, w := range g.worn {
		w.stop()
	}
	g.mu.Unlock()
	g.wg.Wait()
	if g.files != nil {
		if err := g.files.close(); err != nil {
			g.log.Warn("guise of the pots", "error", err)
		}
	}
}

// Booted is when the node was started, and so were pots.
func Booted() time.Time { return time.Now().Add(-uptime()) }

// uptime is how long the node runs: pots' programs have been started by its clock.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
