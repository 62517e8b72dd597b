package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// Stay keeps a pot awake until Close.
type Stay struct {
	p      *Pots
	t      *pot
	pot    event.Pot
	pid    int
	closed bool // under the pots' lock
}

// Enter brings an attacker's pot to life, whatever state it is in; who has none gets one that waits, or
// a new one.
func (p *Pots) Enter(ctx context.Context, k event.PotKey) (*Stay, error) {
	if err := p.awaitSync(ctx); err != nil {
		return nil, fmt.Errorf("start a pot: %w", err)
	}
	for {
		p.mu.Lock()
		t, err := p.getLocked(k)
		brewing := p.brewing
		if err != nil {
			p.mu.Unlock()
			if errors.Is(err, errBrewing) {
				err = await(ctx, brewing)
			}
			if err != nil {
				return nil, fmt.Errorf("start a pot: %w", err)
			}
			continue
		}
		t.lastSeen = time.Now()
		if t.full {
			p.mu.Unlock()
			return nil, ErrDisk
		}
		if t.ready && t.flight == nil && !t.frozen {
			t.stays++
			s := &Stay{p: p, t: t, pot: p.describe(t), pid: t.pid}
			p.mu.Unlock()
			return s, nil
		}
		f, err := p.wakeLocked(ctx, t)
		if err != nil {
			return nil, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for pot %s: %w", t.name, ctx.Err())
		}
		if f.err != nil && !errors.Is(f.err, errRemoved) && !errors.Is(f.err, errAbandoned) && !errors.Is(f.err, errAsleep) {
			return nil, f.err
		}
	}
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the last pot of the node: %w", ctx.Err())
	}
}

// wakeLocked has a pot brought up, by who waits itself where that is quick, and unlocks. The flight that
// it returns is what to wait for.
func (p *Pots) wakeLocked(ctx context.Context, t *pot) (*flight, error) {
	if t.flight == nil && (t.fresh || t.ready && t.frozen) {
		f := &flight{done: make(chan struct{})}
		t.flight = f
		p.mu.Unlock()
		err := p.wake(ctx, t)
		if err != nil {
			p.log.WarnContext(ctx, "pot does not wake; it is looked at", "pot", t.name, "error", err)
			p.mu.Lock()
			t.ready, t.fresh = false, false
			p.mu.Unlock()
			err = fmt.Errorf("%w: %w", errAsleep, err)
		}
		p.land(t, f, err)
		return f, nil
	}
	f, job := p.boardLocked(t)
	p.mu.Unlock()
	if job == nil {
		return f, nil
	}
	select {
	case p.jobs <- job:
		return f, nil
	case <-p.stopped:
		p.land(t, f, errAbandoned)
		return nil, fmt.Errorf("start pot %s: %w", t.name, errStopped)
	case <-ctx.Done():
		p.land(t, f, errAbandoned)
		return nil, fmt.Errorf("start pot %s: %w", t.name, ctx.Err())
	}
}

// wake thaws a pot that waits; one that has just got its owner is made its machine first.
func (p *Pots) wake(ctx context.Context, t *pot) error {
	p.mu.Lock()
	id, fresh, created := t.id, t.fresh, t.created
	p.mu.Unlock()
	p.o.Woken(t.key, id, t.pid, created)
	if fresh {
		if err := p.ledger.put(id, t.key); err != nil {
			return err
		}
	}
	// This also finds out whether the process is still the pot's.
	if err := p.o.Engine.Thaw(ctx, id, t.pid); err != nil && !errors.Is(err, engine.ErrNoFreezer) {
		return fmt.Errorf("wake pot %s: %w", t.name, err)
	}
	if fresh {
		if err := p.dress(ctx, t); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if fresh {
		p.counts.Hits++
	}
	t.frozen, t.fresh, t.state = false, false, "running"
	return nil
}

// guise has the kernel tell a pot that was started what its machine is.
func (p *Pots) guise(ctx context.Context, t *pot, c engine.Container) error {
	if p.o.Guise == nil || !c.Guised {
		return nil
	}
	owner := func() event.PotKey {
		p.mu.Lock()
		defer p.mu.Unlock()
		return t.key
	}
	if err := p.o.Guise(ctx, c.ID, c.PID, owner); err != nil {
		return fmt.Errorf("start pot %s: %w", t.name, err)
	}
	return nil
}

// dress has the pot made its attacker's machine, once for each run.
func (p *Pots) dress(ctx context.Context, t *pot) error {
	p.mu.Lock()
	id, run, image, guised := t.id, t.run, t.image, t.guised
	p.mu.Unlock()
	former := p.ledger.dressed(id)
	if p.o.Dress == nil || former == run {
		return nil
	}
	if err := p.o.Dress(ctx, Dressing{
		PotKey: t.key, ID: id, Image: image, PID: t.pid, Address: p.o.Network.Address(t.index), First: former == "", Guised: guised,
	}); err != nil {
		return fmt.Errorf("dress pot %s: %w", t.name, err)
	}
	return p.ledger.dress(id, run)
}

// Pot describes the pot as it was when it was entered.
func (s *Stay) Pot() event.Pot {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.pot
}

// Login returns how a service's administrator logs in to a pot whose attacker has not; empty where the image does not say.
func (s *Stay) Login(service event.Service) (account, password string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	account, password, _ = strings.Cut(s.t.logins[service], ":")
	return account, password
}

// PID returns the pot's first process, as the node sees it.
func (s *Stay) PID() int {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.pid
}

// Dial connects to one of the pot's services. One that did not start with the pot is started, and waited for.
func (s *Stay) Dial(ctx context.Context, service event.Service) (net.Conn, error) {
	s.p.mu.Lock()
	port, pot := s.t.services[service], s.pot
	s.p.mu.Unlock()
	if port == 0 {
		return nil, fmt.Errorf("%w %s", ErrNoService, service)
	}
	conn, err := s.reach(ctx, service)
	if err == nil || errors.Is(err, errNotRoused) {
		return conn, err
	}
	// It died a moment ago, or its server starts anew: it is looked at, and asked once more.
	if _, enterErr := s.p.lookAgain(ctx, s); enterErr != nil {
		return nil, fmt.Errorf("connect to pot %s: %w", pot.Name, errors.Join(err, enterErr))
	}
	if conn, err = s.reach(ctx, service); err != nil {
		return nil, fmt.Errorf("connect to pot %s: %w", pot.Name, err)
	}
	return conn, nil
}

// lookAgain has a pot looked at in which somebody stays.
func (p *Pots) lookAgain(ctx context.Context, s *Stay) (event.Pot, error) {
	p.mu.Lock()
	s.t.ready = false
	k := s.t.key
	p.mu.Unlock()
	again, err := p.Enter(ctx, k)
	if err != nil {
		return event.Pot{}, err
	}
	defer again.Close() // after the lock is free
	p.mu.Lock()
	defer p.mu.Unlock()
	if again.t != s.t && !s.closed { // the former was removed meanwhile
		s.t.stays--
		again.t.stays++
		s.t = again.t
	}
	s.pot, s.pid = again.pot, again.pid
	return again.pot, nil
}

// Close lets the pot sleep, where nobody else stays.
func (s *Stay) Close() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.t.stays--
	s.t.lastSeen = time.Now()
}
