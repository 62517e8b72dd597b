package pool

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// idleEvery is how often idle pots are looked for.
const idleEvery = time.Second

// keepIdle freezes pots in which nobody stays, and stops them later, until ctx is done.
func (p *Pots) keepIdle(ctx context.Context) {
	tick := time.NewTicker(min(idleEvery, max(p.o.PauseAfter/2, readyPoll)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, job := range p.idleJobs(time.Now()) {
				job(ctx)
			}
		}
	}
}

// idleJobs returns what is to be done to pots that are idle at a time. Their flights are on already.
func (p *Pots) idleJobs(now time.Time) []func(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine != nil {
		return nil
	}
	var jobs []func(context.Context)
	for _, t := range p.pots {
		if !t.ready || t.flight != nil || t.stays > 0 || t.fresh {
			continue
		}
		idle := now.Sub(t.lastSeen)
		switch {
		case idle >= p.o.StopAfter:
			jobs = append(jobs, p.idleJobLocked(t, p.stopIdle))
		case idle >= p.o.PauseAfter && !t.frozen:
			jobs = append(jobs, p.idleJobLocked(t, p.freezeIdle))
		}
	}
	return jobs
}

func (p *Pots) idleJobLocked(t *pot, fn func(context.Context, *pot) error) func(context.Context) {
	f := &flight{done: make(chan struct{})}
	t.flight = f
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		err := fn(ctx, t)
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "idle pot goes on running", "pot", t.name, "error", err)
		}
		p.landIdle(t, f)
	}
}

// landIdle ends a flight that made a pot rest.
func (p *Pots) landIdle(t *pot, f *flight) {
	p.mu.Lock()
	t.flight = nil
	close(f.done)
	p.mu.Unlock()
	p.o.Changed()
}

func (p *Pots) freezeIdle(ctx context.Context, t *pot) error {
	if err := p.o.Engine.Freeze(ctx, t.pid); err != nil {
		if !errors.Is(err, engine.ErrNoFreezer) {
			return err
		}
	}
	p.note(func() {
		if t.died {
			return
		}
		t.frozen, t.state = true, "paused"
		p.counts.Paused++
	})
	return nil
}

func (p *Pots) stopIdle(ctx context.Context, t *pot) error {
	var id string
	p.note(func() { t.ready, id = false, t.id })
	if err := p.o.Engine.Stop(ctx, id); err != nil {
		return err
	}
	p.note(func() {
		t.frozen, t.state = false, "stopped"
		p.counts.Stopped++
	})
	return nil
}

// makeRoomLocked gives up what is missed least where the node is full: a pot that waits, else the one
// whose attacker has no lease and was away longest. It returns the job that does it.
func (p *Pots) makeRoomLocked() (func(context.Context), bool) {
	if len(p.pots)+len(p.spare) < p.o.MaxPots {
		return nil, true
	}
	if len(p.spare) > 0 {
		return p.dropSpareLocked(len(p.spare) - 1), true
	}
	var idlest *pot
	for _, t := range p.pots {
		if t.stays > 0 || t.flight != nil || p.o.Leased(t.key) {
			continue
		}
		if idlest == nil || cmp.Or(t.lastSeen.Compare(idlest.lastSeen), t.created.Compare(idlest.created)) < 0 {
			idlest = t
		}
	}
	if idlest == nil {
		return nil, false
	}
	p.counts.Evicted++
	f := &flight{done: make(chan struct{})}
	idlest.flight, idlest.ready = f, false
	delete(p.pots, idlest.key)
	return func(ctx context.Context) { p.removePot(ctx, idlest, f) }, true
}

// removePot removes a pot whose flight is f.
func (p *Pots) removePot(ctx context.Context, t *pot, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p.mu.Lock()
	id := t.id
	p.mu.Unlock()
	err := errRemoved
	if id != "" {
		if failed := p.o.Engine.Remove(ctx, id); failed != nil {
			err = failed
		} else if failed := p.ledger.drop(id); failed != nil {
			p.log.WarnContext(ctx, "whose pot it was", "error", failed)
		}
	}
	p.land(t, f, err)
	if errors.Is(err, errRemoved) && p.o.Removed != nil {
		p.o.Removed(t.key)
	}
}
