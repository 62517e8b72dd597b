package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

const (
	defaultMaxDisk = 1 << 30
	bytesOfFile    = 8 << 10 // a pot's budget for files is its budget for bytes by this
	leastFiles     = 16 << 10

	// diskEvery is how often pots are looked at. Where that takes long it is done less often, so as to take a tenth of the
	// time, but not seldomer than diskAtLeast.
	diskEvery   = 250 * time.Millisecond
	diskShare   = 9
	diskAtLeast = time.Second
	// A pot whose files take longer than costly to count is counted anew only when somebody has written as much as a
	// grain of what a pot may, or after costlyEvery: the attacker decides how many files there are.
	costly      = 20 * time.Millisecond
	costlyEvery = 5 * time.Second
	grain       = 64
	// askEvery is how often the engine is asked, where it alone knows. That takes it long.
	askEvery = 5 * time.Second
)

// ErrDisk says that a pot has written more than it may; it does not run again.
var ErrDisk = errors.New("the pot has written more to its disk than it may")

// Disk tells what pots have written, and ends those that wrote too much: most storage drivers have no
// bound of their own.
type Disk interface {
	// Written fails with engine.ErrNoLayers where only the engine knows.
	Written(id string, pid int, most engine.Amount) (a engine.Amount, over bool, err error)
	Sizes(ctx context.Context) (map[string]int64, error)
	Kill(ctx context.Context, id string) error
}

// watchDisk looks at what pots have written until ctx is done.
func (p *Pots) watchDisk(ctx context.Context) {
	timer := time.NewTimer(diskEvery)
	defer timer.Stop()
	var asked time.Time
	last := make(map[string]counted)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		if p.checkDisk(ctx, last) && began.Sub(asked) >= askEvery {
			asked = began
			p.askSizes(ctx)
		}
		timer.Reset(min(max(diskEvery, diskShare*time.Since(began)), diskAtLeast))
	}
}

// counted says when a container's files were counted, how long that took, and what all together used then.
type counted struct {
	at   time.Time
	took time.Duration
	used engine.Amount
}

// stands reports whether a count need not be repeated yet.
func (c counted) stands(used, most engine.Amount) bool {
	return c.took > costly && time.Since(c.at) < costlyEvery &&
		used.Bytes-c.used.Bytes < most.Bytes/grain && used.Files-c.used.Files < most.Files/grain
}

// writer is a pot whose programs run.
type writer struct {
	t   *pot
	id  string
	pid int
}

// checkDisk looks at the pots that run; ask says that the engine has to be asked for some. What it finds out about
// containers it keeps in last.
func (p *Pots) checkDisk(ctx context.Context, last map[string]counted) (ask bool) {
	var writers []writer
	p.mu.Lock()
	for _, t := range p.pots {
		if t.pid != 0 && t.id != "" && !t.frozen && !t.full {
			writers = append(writers, writer{t, t.id, t.pid})
		}
	}
	p.mu.Unlock()
	most := engine.Amount{Bytes: p.o.MaxDisk, Files: max(p.o.MaxDisk/bytesOfFile, leastFiles)}
	maps.DeleteFunc(last, func(id string, _ counted) bool {
		return !slices.ContainsFunc(writers, func(w writer) bool { return w.id == id })
	})
	for _, w := range writers {
		if ctx.Err() != nil {
			return false
		}
		used, err := engine.Used(w.pid)
		if err == nil && last[w.id].stands(used, most) {
			continue
		}
		began := time.Now()
		a, over, err := p.o.Disk.Written(w.id, w.pid, most)
		last[w.id] = counted{at: began, took: time.Since(began), used: used}
		switch {
		case errors.Is(err, engine.ErrNoLayers):
			ask = true
		case err == nil && over:
			p.endWriter(ctx, w, fmt.Sprintf("%v: %d MiB in %d files, more than %d in %d", ErrDisk, a.Bytes>>20, a.Files, most.Bytes>>20, most.Files))
		}
	}
	return ask
}

// askSizes has the engine tell what pots have written.
func (p *Pots) askSizes(ctx context.Context) {
	sizes, err := p.o.Disk.Sizes(ctx)
	if err != nil {
		p.log.WarnContext(ctx, "what pots have written is not known", "error", err)
		return
	}
	var over []writer
	p.mu.Lock()
	for _, t := range p.pots {
		if sizes[t.id] > p.o.MaxDisk && !t.full {
			over = append(over, writer{t, t.id, t.pid})
		}
	}
	p.mu.Unlock()
	for _, w := range over {
		p.endWriter(ctx, w, fmt.Sprintf("%v: %d MiB, more than %d", ErrDisk, sizes[w.id]>>20, p.o.MaxDisk>>20))
	}
}

// endWriter ends a pot for good.
func (p *Pots) endWriter(ctx context.Context, w writer, why string) {
	p.mu.Lock()
	if w.t.id != w.id {
		p.mu.Unlock()
		return
	}
	w.t.full, w.t.ready, w.t.failure = true, false, why
	p.mu.Unlock()
	err := engine.End(w.id, w.pid) // without asking the engine, which may be busy
	if err != nil {
		err = p.o.Disk.Kill(ctx, w.id)
	}
	if err != nil {
		p.log.ErrorContext(ctx, "pot that fills the disk is not ended", "error", err)
		p.note(func() { w.t.full = false }) // tried again
		return
	}
	p.log.WarnContext(ctx, "pot ended: it wrote more than it may", "container", w.id)
	p.o.Changed()
}
