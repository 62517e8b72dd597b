package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// idleEvery is how often idle pots are looked for.
const idleEvery = time.Second

// keepIdle freezes pots in which nobody stays, and stops them later, until ctx is done.
func (p *Pots) keepIdle(ctx context.Context) {
	tick := time.NewTicker(min(idleEvery, max(p.o.PauseAfter/2, 5*readyPoll)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, job := range p.idleJobs(time.Now()) {
				p.launch(ctx, job)
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
		if fn := p.restLocked(t, now); fn != nil && !t.tiring {
			t.tiring = true
			jobs = append(jobs, p.idleJob(t))
		}
	}
	return jobs
}

// restLocked returns how an idle pot is put to rest; nil where it is not idle.
func (p *Pots) restLocked(t *pot, now time.Time) func(context.Context, *pot) error {
	idle := now.Sub(t.lastSeen)
	switch {
	case !t.ready || t.flight != nil || t.stays > 0 || t.fresh:
		return nil
	case p.o.StopAfter > 0 && idle >= p.o.StopAfter:
		return p.stopIdle
	case p.o.PauseAfter > 0 && idle >= p.o.PauseAfter && !t.frozen:
		return p.freezeIdle
	}
	return nil
}

// idleJob puts a pot to rest, if it is still idle when its turn comes: few at once, so that no attacker
// waits long for one that is being stopped.
func (p *Pots) idleJob(t *pot) func(context.Context) {
	return func(ctx context.Context) {
		defer p.note(func() { t.tiring = false })
		select {
		case p.rests <- struct{}{}:
			defer func() { <-p.rests }()
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		fn := p.restLocked(t, time.Now())
		f := &flight{done: make(chan struct{})}
		if fn != nil {
			t.flight = f
		}
		p.mu.Unlock()
		if fn == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		if err := fn(ctx, t); err != nil && ctx.Err() == nil {
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
	p.mu.Lock()
	id := t.id
	p.mu.Unlock()
	if err := p.o.Engine.Freeze(ctx, id, t.pid); err != nil {
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

// Full reports whether there is no pot for an attacker: it has none, and none can be given up for it.
func (p *Pots) Full(k event.PotKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pots[k] == nil && p.heldLocked() >= p.o.MaxPots && len(p.spare) == 0 && p.brewing == nil && p.idlestLocked() == nil
}

// makeRoomLocked gives up what is missed least where the node is full: a pot that waits, else the one
// whose attacker has no lease and was away longest. It returns the job that does it, or errBrewing where
// a pot is about to wait that nobody has.
func (p *Pots) makeRoomLocked() (func(context.Context), error) {
	if p.heldLocked() < p.o.MaxPots {
		return nil, nil //nolint:nilnil // there is room: nothing is to be done
	}
	if len(p.spare) > 0 {
		return p.dropSpareLocked(len(p.spare) - 1), nil
	}
	if p.brewing != nil {
		return nil, errBrewing
	}
	idlest := p.idlestLocked()
	if idlest == nil {
		return nil, fmt.Errorf("%w (%d)", ErrFull, p.o.MaxPots)
	}
	p.counts.Evicted++
	f := &flight{done: make(chan struct{})}
	idlest.flight, idlest.ready, idlest.leaving = f, false, true // its place is taken until it is gone
	return func(ctx context.Context) { p.removePot(ctx, idlest, f) }, nil
}

// idlestLocked returns the pot whose attacker has no lease and was away longest; nil where all are needed.
func (p *Pots) idlestLocked() *pot {
	var idlest *pot
	for _, t := range p.pots {
		if t.stays > 0 || t.flight != nil || p.o.Leased(t.key) {
			continue
		}
		if idlest == nil || cmp.Or(t.lastSeen.Compare(idlest.lastSeen), t.created.Compare(idlest.created)) < 0 {
			idlest = t
		}
	}
	return idlest
}

// heldLocked counts the pots that are there to stay.
func (p *Pots) heldLocked() int {
	n := len(p.spare)
	if p.brewing != nil {
		n++
	}
	for _, t := range p.pots {
		if !t.leaving {
			n++
		}
	}
	return n
}
