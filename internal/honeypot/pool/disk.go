package pool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	defaultMaxDisk = 1 << 30
	diskEvery      = 5 * time.Second
)

// ErrDisk says that a pot has written more than it may; it does not run again.
var ErrDisk = errors.New("the pot has written more to its disk than it may")

// Disk tells what pots have written, and ends those that wrote too much: most storage drivers have no
// bound of their own.
type Disk interface {
	Sizes(ctx context.Context) (map[string]int64, error)
	Kill(ctx context.Context, id string) error
}

// watchDisk looks at what pots have written until ctx is done.
func (p *Pots) watchDisk(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.checkDisk(ctx)
		}
	}
}

func (p *Pots) checkDisk(ctx context.Context) {
	p.mu.Lock()
	idle := len(p.pots)+len(p.spare) == 0 || p.engine != nil
	p.mu.Unlock()
	if idle {
		return
	}
	sizes, err := p.o.Disk.Sizes(ctx)
	if err != nil {
		p.log.WarnContext(ctx, "what pots have written is not known", "error", err)
		return
	}
	var over []string
	p.mu.Lock()
	for _, t := range p.pots {
		if size := sizes[t.id]; size > p.o.MaxDisk {
			t.full, t.ready = true, false
			t.failure = fmt.Sprintf("%v: %d MiB, more than %d", ErrDisk, size>>20, p.o.MaxDisk>>20)
			over = append(over, t.id)
		}
	}
	p.mu.Unlock()
	for _, id := range over {
		if err := p.o.Disk.Kill(ctx, id); err != nil {
			p.log.ErrorContext(ctx, "pot that fills the disk is not ended", "error", err)
			continue
		}
		p.log.WarnContext(ctx, "pot ended: it wrote more than it may", "container", id)
	}
	if len(over) > 0 {
		p.o.Changed()
	}
}
