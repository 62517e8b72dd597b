package pool

import (
	"context"
	"errors"
	"fmt"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// archive has kept what was changed in a pot that is about to be removed. Few are at once, and nobody waits for them
// but an attacker who comes back meanwhile: the pot of one who does before its turn stays.
func (p *Pots) archive(ctx context.Context, t *pot) error {
	if p.o.Archive == nil {
		return nil
	}
	select {
	case p.saving <- struct{}{}:
		defer func() { <-p.saving }()
	case <-ctx.Done():
		return fmt.Errorf("archive pot %s: %w", t.name, ctx.Err())
	}
	p.mu.Lock()
	id, pid, saved, leaving := t.id, t.pid, t.saved, t.leaving
	p.mu.Unlock()
	if saved {
		return nil
	}
	if !leaving && p.o.Wanted(t.key) {
		return errAbandoned
	}
	if pid != 0 && engine.Runs(id, pid) {
		// What goes on running changes what is read. One that can't be frozen is ended; it is to be anyway.
		if err := p.o.Engine.Freeze(ctx, id, pid); err != nil && !errors.Is(err, engine.ErrGone) {
			if err := p.o.Engine.Stop(ctx, id); err != nil {
				return err
			}
		}
		p.note(func() { t.frozen = t.state == "running" || t.frozen })
	}
	if err := p.o.Archive(ctx, t.key, id); err != nil {
		return fmt.Errorf("archive pot %s: %w", t.name, err)
	}
	p.note(func() { t.saved = true })
	return nil
}

// removePot removes a pot whose flight is f.
func (p *Pots) removePot(ctx context.Context, t *pot, f *flight) {
	p.mu.Lock()
	id := t.id
	p.mu.Unlock()
	err := errRemoved
	if id != "" {
		if failed := p.archive(ctx, t); failed != nil {
			err = failed
		} else if failed := p.discard(ctx, id); failed != nil {
			err = failed
		}
	}
	p.land(t, f, err)
	if errors.Is(err, errRemoved) && p.o.Removed != nil {
		p.o.Removed(t.key)
	}
}

func (p *Pots) discard(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.o.Engine.Remove(ctx, id); err != nil {
		return err
	}
	if err := p.ledger.drop(id); err != nil {
		p.log.WarnContext(ctx, "whose pot it was", "error", err)
	}
	return nil
}
