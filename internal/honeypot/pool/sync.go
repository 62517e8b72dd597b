package pool

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// resync compares what is known with what the engine has: pots of an earlier process are adopted,
// running ones are wired, links of pots that are gone are removed.
func (p *Pots) resync(ctx context.Context) {
	found, err := p.o.Engine.List(ctx)
	for err != nil {
		p.engineState(ctx, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(listRetry):
		}
		if found, err = p.o.Engine.List(ctx); err == nil {
			p.engineState(ctx, nil)
		}
	}
	byKey, strangers := p.sort(found)
	var jobs []func(context.Context)
	p.mu.Lock()
	p.known.Do(func() { close(p.synced) })
	for k, c := range byKey {
		t := p.pots[k]
		if t == nil {
			t = &pot{key: k, name: c.Name, index: c.Index}
			p.pots[k] = t
		}
		if t.flight != nil {
			continue
		}
		p.learn(t, c)
		t.state, t.ready = string(c.State), false
		if t.lastSeen.IsZero() {
			t.lastSeen = time.Now()
		}
		if c.State == engine.Running {
			_, job := p.boardLocked(t)
			jobs = append(jobs, job)
		} else {
			t.state = "stopped"
		}
	}
	names, gone := p.namesLocked(byKey, found)
	jobs = append(jobs, gone...)
	p.mu.Unlock()
	p.forgetGone(ctx, found)
	for _, id := range strangers {
		if err := p.o.Engine.Remove(ctx, id); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "pot that belongs to nobody is not removed", "container", id, "error", err)
		}
	}
	if err := p.o.Network.Sweep(func(pot string) bool { return names[pot] }); err != nil {
		p.log.WarnContext(ctx, "links that pots left", "error", err)
	}
	var wg sync.WaitGroup
	for _, job := range jobs {
		wg.Go(func() { job(ctx) })
	}
	p.Tidy()
	wg.Wait()
	p.o.Changed()
}

// namesLocked returns the names of the pots that are there, and forgets those that are not; the jobs remove
// what waited and has ended while nobody looked.
func (p *Pots) namesLocked(byKey map[event.PotKey]engine.Container, found []engine.Container) (names map[string]bool, jobs []func(context.Context)) {
	names = make(map[string]bool, len(p.pots)+len(p.spare))
	for k, t := range p.pots {
		if _, ok := byKey[k]; !ok && t.flight == nil {
			delete(p.pots, k)
			continue
		}
		names[t.name] = true
	}
	for i, t := range slices.Backward(slices.Clone(p.spare)) {
		if !slices.ContainsFunc(found, func(c engine.Container) bool { return c.ID == t.id && c.State == engine.Running }) {
			jobs = append(jobs, p.dropSpareLocked(i))
			continue
		}
		names[t.name] = true
	}
	return names, jobs
}

// forgetGone forgets whose the containers were that are gone.
func (p *Pots) forgetGone(ctx context.Context, found []engine.Container) {
	for _, id := range p.ledger.containers() {
		if slices.ContainsFunc(found, func(c engine.Container) bool { return c.ID == id }) {
			continue
		}
		k, _ := p.ledger.owner(id)
		p.mu.Lock()
		t := p.pots[k]
		busy := t != nil && t.id == id // made a moment ago
		p.mu.Unlock()
		if busy {
			continue
		}
		if err := p.ledger.drop(id); err != nil {
			p.log.WarnContext(ctx, "whose pot it was", "error", err)
		}
		if p.o.Removed != nil {
			p.o.Removed(k)
		}
	}
}

// sort tells containers by their owners. Strangers belong to nobody that is known, and nobody gets them.
func (p *Pots) sort(found []engine.Container) (byKey map[event.PotKey]engine.Container, strangers []string) {
	byKey = make(map[event.PotKey]engine.Container, len(found))
	p.mu.Lock()
	ours := make(map[string]bool, len(p.spare))
	for _, t := range p.spare {
		ours[t.id] = true
	}
	making := len(p.making) > 0
	p.mu.Unlock()
	for _, c := range found {
		k, owned := p.ledger.owner(c.ID)
		_, twice := byKey[k]
		switch {
		case owned && !twice:
			byKey[k] = c
		case !ours[c.ID] && !making: // one that is being made is not known yet
			strangers = append(strangers, c.ID)
		}
	}
	return byKey, strangers
}

// removeUnwanted removes pots whose last lease ended.
func (p *Pots) removeUnwanted(wg *sync.WaitGroup, ctx context.Context) { //nolint:revive // the context belongs to the job, not to the group
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.pots {
		if t.flight != nil || t.stays > 0 || p.o.Wanted(t.key) {
			continue
		}
		f := &flight{done: make(chan struct{})}
		t.flight, t.ready = f, false
		wg.Go(func() { p.removePot(ctx, t, f) })
	}
}
