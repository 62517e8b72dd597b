package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	// rouseWithin is how long a service may take to answer after somebody came for it.
	rouseWithin = 40 * time.Second
	rousePoll   = 50 * time.Millisecond
)

// errNotRoused says that a service could not be started in a pot that is alive, errNoMemory that the machine would
// run out of memory.
var (
	errNotRoused = errors.New("the service does not start")
	errNoMemory  = errors.New("the machine is short of memory")
)

// reach connects to a service where it is. Where nothing listens, and it is a service that does not start with
// the pot, it is started first: pots that only wait for attackers stay small, and whichever service an attacker
// comes through, it meets the same machine. No state is kept of it, so that a service which ended with its
// pot, or by its attacker's hand, comes back in the same way.
func (s *Stay) reach(ctx context.Context, service event.Service) (net.Conn, error) {
	s.p.mu.Lock()
	t, address := s.t, s.pot.Address
	to := netip.AddrPortFrom(address, t.services[service])
	way := netip.AddrPortFrom(address, t.services[event.SSH])
	command := t.starts[service]
	if t.rousing == nil {
		t.rousing = make(chan struct{}, 1)
	}
	rousing := t.rousing
	s.p.mu.Unlock()

	come := func(ctx context.Context) (net.Conn, error) { return s.p.dialAs(ctx, t, to) }
	conn, err := come(ctx)
	if err == nil || command == "" || s.p.o.Run == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return conn, err
	}
	ctx, cancel := context.WithTimeout(ctx, rouseWithin)
	defer cancel()
	select {
	case rousing <- struct{}{}: // one after the other: a pot has half a processor
		defer func() { <-rousing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s: wait for others that start: %w", errNotRoused, service, ctx.Err())
	}
	if conn, err = come(ctx); err == nil {
		return conn, nil // somebody else was here before
	}
	if s.p.memoryShort() { // what answers already goes on; nobody makes the machine start more than it can hold
		return nil, fmt.Errorf("%w: %s: %w", errNotRoused, service, errNoMemory)
	}
	if err := s.p.rouse(ctx, t, way, command); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errNotRoused, service, err)
	}
	s.p.note(func() { s.p.counts.Roused++ })
	return awaitService(ctx, service, come)
}

// rouse runs the command that starts a service: by the pot's first process where that listens to us, since its log
// would tell of a login.
func (p *Pots) rouse(ctx context.Context, t *pot, way netip.AddrPort, command string) error {
	p.mu.Lock()
	id, pid, asks := t.id, t.pid, t.guised && p.o.Ask != nil
	p.mu.Unlock()
	if asks {
		return p.o.Ask(ctx, id, pid, command)
	}
	conn, err := p.dial(ctx, way)
	if err != nil {
		return err
	}
	return p.o.Run(ctx, conn, command)
}

// awaitService connects to a service as soon as it listens.
func awaitService(ctx context.Context, service event.Service, come func(context.Context) (net.Conn, error)) (net.Conn, error) {
	tick := time.NewTicker(rousePoll)
	defer tick.Stop()
	for {
		conn, err := come(ctx)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s: %w", errNotRoused, service, err)
		case <-tick.C:
		}
	}
}
