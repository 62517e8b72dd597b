package pool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// What ends flights that others who wait for the pot shall not take for a failure.
var (
	errRemoved   = errors.New("pot removed")
	errAbandoned = errors.New("nobody waits any more")
	errAsleep    = errors.New("it does not wake")
)

// boardLocked returns the pot's flight, and where it has none a new one with the job that the caller
// has to hand to Run.
func (p *Pots) boardLocked(t *pot) (*flight, func(context.Context)) {
	if t.flight != nil {
		return t.flight, nil
	}
	f := &flight{done: make(chan struct{})}
	t.flight, t.ready = f, false
	return f, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		select {
		case p.starts <- struct{}{}:
			defer func() { <-p.starts }()
			p.land(t, f, p.bringUp(ctx, t))
		case <-ctx.Done():
			p.land(t, f, fmt.Errorf("start pot %s: waiting for other starts: %w", t.name, ctx.Err()))
		}
	}
}

// land ends a flight.
func (p *Pots) land(t *pot, f *flight, err error) {
	p.mu.Lock()
	t.flight, t.leaving, f.err = nil, false, err
	switch {
	case err == nil:
		t.ready, t.failure = !t.died, ""
	case errors.Is(err, errAsleep): // who waits has it looked at
	case errors.Is(err, errRemoved):
		p.forgetLocked(t)
		p.counts.Removed++
	case errors.Is(err, errAbandoned):
		if t.id == "" {
			p.forgetLocked(t)
		}
	default:
		p.counts.Failed++
		t.failure = err.Error()
		if t.state == "starting" {
			t.state = "stopped"
		}
		if t.id == "" {
			p.forgetLocked(t) // nothing of it exists
		}
		if !errors.Is(err, context.Canceled) {
			p.log.Warn("pot did not start", "pot", t.name, "error", err)
		}
	}
	close(f.done)
	p.mu.Unlock()
	p.o.Changed()
}

func (p *Pots) forgetLocked(t *pot) {
	if p.pots[t.key] == t {
		delete(p.pots, t.key)
	}
}

// bringUp creates the pot's container where there is none, starts it where it does not run, wires it
// where this run of it is not wired, and waits until its services answer. It looks again and again,
// since a container may be restarted or removed at any moment.
func (p *Pots) bringUp(ctx context.Context, t *pot) error {
	for {
		err := p.step(ctx, t)
		if !errors.Is(err, errNotNow) {
			return err
		}
		timer := time.NewTimer(readyPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("start pot %s: %w: %w", t.name, ctx.Err(), err)
		}
	}
}

func (p *Pots) step(ctx context.Context, t *pot) error {
	c, err := p.container(ctx, t)
	if err != nil {
		return err
	}
	switch c.State {
	case engine.Paused:
		p.mu.Lock()
		ours := t.frozen
		p.mu.Unlock()
		if ours { // an engine that was started anew takes what we have frozen for paused
			if err := p.o.Engine.Unpause(ctx, c.ID); err != nil {
				return fmt.Errorf("%w: %w", errNotNow, err)
			}
			p.note(func() { t.frozen = false })
			return errNotNow
		}
		return fmt.Errorf("pot %s is paused; `docker unpause %s` wakes it", t.name, t.name)
	case engine.Running:
		// What an earlier process of ours has frozen looks as if it ran.
		if err := p.o.Engine.Thaw(ctx, c.ID, c.PID); err != nil && !errors.Is(err, engine.ErrNoFreezer) {
			return fmt.Errorf("%w: %w", errNotNow, err)
		}
	default:
		if err := p.o.Engine.Start(ctx, c.ID); err != nil {
			return err
		}
		p.note(func() { p.counts.Started++ })
		if c, _, err = p.o.Engine.Inspect(ctx, c.ID); err != nil {
			return err
		}
		if c.State != engine.Running {
			return fmt.Errorf("pot %s ended right after its start: %w", t.name, errNotNow)
		}
	}
	if err := p.guise(ctx, t, c); err != nil {
		return fmt.Errorf("%w: %w", errNotNow, err) // it may have ended meanwhile
	}
	port := egress.Port{Pot: t.name, Run: c.Run, Index: t.index, PID: c.PID}
	wired, err := p.o.Network.Wired(port)
	if err != nil {
		return err
	}
	if !wired {
		if err := p.o.Network.Wire(port); err != nil {
			// It may have ended meanwhile; then the next look shows that.
			return fmt.Errorf("%w: %w", errNotNow, err)
		}
		p.note(func() { p.counts.Wired++ })
	}
	p.note(func() { t.state, t.pid, t.run, t.frozen, t.fresh = "running", c.PID, c.Run, false, false })
	p.o.Woken(t.key, c.ID, c.PID, c.Created)
	if err := p.dress(ctx, t); err != nil {
		return fmt.Errorf("%w: %w", errNotNow, err) // it may have ended meanwhile
	}
	return p.answering(ctx, t)
}

// container finds the pot's container, or creates it.
func (p *Pots) container(ctx context.Context, t *pot) (engine.Container, error) {
	p.mu.Lock()
	id := t.id
	t.died, t.saved = false, false
	p.mu.Unlock()
	var c engine.Container
	var found bool
	var err error
	if id != "" {
		if c, found, err = p.o.Engine.Inspect(ctx, id); err != nil {
			return c, err
		}
	}
	if !found {
		image, err := p.o.ImageFor(ctx, t.key)
		if err != nil {
			return c, err
		}
		id, err := p.o.Engine.Create(ctx, engine.Spec{
			Name: t.name, Image: image, Hostname: t.key.Host, Index: t.index, Resolver: p.o.Network.Gateway(), Limits: p.o.Limits,
			Guised: p.o.Guise != nil,
		})
		if err != nil {
			return c, err
		}
		if err := p.ledger.put(id, t.key); err != nil {
			return c, errors.Join(err, p.o.Engine.Remove(ctx, id))
		}
		p.note(func() { t.id = id; p.counts.Created++ })
		if c, found, err = p.o.Engine.Inspect(ctx, id); err != nil {
			return c, err
		}
		if !found {
			return c, fmt.Errorf("pot %s was removed while it started: %w", t.name, errNotNow)
		}
	}
	if k, known := p.ledger.owner(c.ID); !known || k != t.key {
		return c, fmt.Errorf("container %s is not the pot of %s of host %s", c.Name, t.key.Attacker, t.key.Host)
	}
	p.note(func() { p.learn(t, c) })
	return c, nil
}

// note changes what is known of pots.
func (p *Pots) note(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.o.Changed()
}

func (p *Pots) learn(t *pot, c engine.Container) {
	t.id, t.image, t.services, t.starts, t.logins, t.created, t.guised = c.ID, c.Image, c.Services, c.Starts, c.Logins, c.Created, c.Guised
	if c.Index != t.index {
		t.index = c.Index
	}
}

// answering asks each of the services that start with the pot once.
func (p *Pots) answering(ctx context.Context, t *pot) error {
	addr := p.o.Network.Address(t.index)
	for service, port := range t.services {
		if t.starts[service] != "" {
			continue
		}
		if err := p.ask(ctx, service, netip.AddrPortFrom(addr, port)); err != nil {
			return fmt.Errorf("pot %s: %s does not answer: %w: %w", t.name, service, errNotNow, err)
		}
	}
	return nil
}

func (p *Pots) ask(ctx context.Context, service event.Service, addr netip.AddrPort) error {
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := p.o.Network.Dial(within, addr)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only asked
	if service != event.SSH {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(bannerWithin))
	line, err := bufio.NewReaderSize(conn, 256).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read its banner: %w", err)
	}
	if !strings.HasPrefix(line, "SSH-2.0-") {
		return fmt.Errorf("its banner is %q", line)
	}
	p.mu.Lock()
	p.banner = strings.TrimRight(line, "\r\n")
	p.mu.Unlock()
	return nil
}

// changed follows what happens in the engine.
func (p *Pots) changed(ctx context.Context, c engine.Change) {
	switch c.Kind {
	case engine.Connected:
		p.engineState(ctx, nil)
		p.launch(ctx, p.resync)
	case engine.Lost:
		p.engineState(ctx, c.Err)
	case engine.Started:
		// By us: then a flight is on. By hand, or after a restart: it needs wiring.
		p.withPot(ctx, c.ID, p.relaunch)
	case engine.Died:
		p.o.Died(c.ID)
		if p.spareGone(ctx, c.ID) {
			return
		}
		p.withPot(ctx, c.ID, func(_ context.Context, t *pot) func(context.Context) {
			t.ready, t.died, t.frozen, t.state = false, true, false, "stopped"
			return nil
		})
	case engine.Removed:
		p.o.Died(c.ID)
		if p.spareGone(ctx, c.ID) {
			return
		}
		p.withPot(ctx, c.ID, func(_ context.Context, t *pot) func(context.Context) {
			t.ready, t.died, t.frozen, t.id = false, true, false, ""
			if t.flight == nil && t.stays == 0 {
				delete(p.pots, t.key)
			}
			return func(ctx context.Context) {
				if err := p.ledger.drop(c.ID); err != nil {
					p.log.WarnContext(ctx, "whose pot it was", "error", err)
				}
			}
		})
	}
	p.o.Changed()
}

// withPot calls fn, under the lock, for the pot with a container id, and launches what it returns.
func (p *Pots) withPot(ctx context.Context, id string, fn func(context.Context, *pot) func(context.Context)) {
	var job func(context.Context)
	p.mu.Lock()
	for _, t := range p.pots {
		if t.id == id {
			job = fn(ctx, t)
			break
		}
	}
	p.mu.Unlock()
	p.launch(ctx, job)
}

// relaunch has a running pot looked at, unless somebody is at it.
func (p *Pots) relaunch(_ context.Context, t *pot) func(context.Context) {
	if t.flight != nil || t.full {
		return nil
	}
	_, job := p.boardLocked(t)
	return job
}

func (p *Pots) launch(ctx context.Context, job func(context.Context)) {
	if job == nil {
		return
	}
	select {
	case p.jobs <- job:
	case <-ctx.Done():
	}
}

func (p *Pots) engineState(ctx context.Context, err error) {
	p.mu.Lock()
	was := p.engine
	p.engine = err
	p.mu.Unlock()
	switch {
	case err != nil && was == nil:
		p.log.ErrorContext(ctx, "the engine does not answer", "error", err)
	case err == nil && was != nil:
		p.log.InfoContext(ctx, "the engine answers")
	}
}
