// Package sink is the rest of the world as pots meet it: it answers what they ask and takes every connection
// that they make, to any address, and tells what they wanted. Nothing that they send leaves the node by it.
package sink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/names"
)

const (
	defaultPerPot = 128
	defaultTotal  = 2048

	acceptPause = 50 * time.Millisecond
	tellEvery   = 10 * time.Second
)

// Pot is who calls.
type Pot struct {
	event.Pot

	Policy    event.EgressPolicy
	Target    event.Target // where its attacker believes to be
	Addresses []netip.Addr // its own
}

// Options configure a Sink.
type Options struct {
	Sockets *egress.Sockets // the sink's from then on
	Secret  []byte          // of what is made up: the same makes up the same
	// Pot tells whose an address is.
	Pot func(netip.Addr) (Pot, bool)
	// Note keeps a piece of evidence of a pot.
	Note func(event.Pot, event.Evidence)
	// Fetch gets what a request asks for, for pots whose policy is to record; nil: nothing is fetched.
	Fetch Fetcher

	PerPot int // connections of one pot at once; 128 where 0
	Total  int // connections at once; 2048 where 0
	Log    *slog.Logger
}

// Counts are what happened since the start.
type Counts struct {
	Connections uint64 // taken
	Questions   uint64 // answered
	Datagrams   uint64 // others, taken
	Pings       uint64 // answered
	Strangers   uint64 // of no pot, or of one that may not call out
	OverPot     uint64 // connections over what one pot may have
	OverTotal   uint64 // connections over what all may have
	Untold      uint64 // pieces of evidence that were too many
	Fetched     uint64
	NotFetched  uint64
}

// Sink takes what pots send. Its methods may be called concurrently.
type Sink struct {
	o     Options
	log   *slog.Logger
	world names.World
	key   *ecdsa.PrivateKey
	certs certs

	mu       sync.Mutex
	accounts map[string]*account // by container
	open     int
	counts   Counts
}

// New returns a Sink; Run has it take what comes.
func New(o Options) (*Sink, error) {
	if o.PerPot == 0 {
		o.PerPot = defaultPerPot
	}
	if o.Total == 0 {
		o.Total = defaultTotal
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for the sinkhole: %w", err)
	}
	return &Sink{o: o, log: o.Log, world: names.World{Secret: o.Secret}, key: key, accounts: make(map[string]*account)}, nil
}

// Run takes what comes until ctx is done, and closes the sockets.
func (s *Sink) Run(ctx context.Context) {
	var loops, calls sync.WaitGroup
	for i := range s.o.Sockets.TCP {
		loops.Go(func() { s.accept(ctx, s.o.Sockets.TCP[i], &calls) })
		loops.Go(func() { s.questions(s.o.Sockets.DNS[i]) })
		loops.Go(func() { s.datagrams(ctx, s.o.Sockets.UDP[i], &calls) })
		loops.Go(func() { s.pings(ctx, s.o.Sockets.Ping[i], i == 0) })
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
			s.tellUntold()
		}
	}
	if err := s.o.Sockets.Close(); err != nil {
		s.log.WarnContext(ctx, "sockets of the sinkhole", "error", err)
	}
	loops.Wait()
	calls.Wait()
	s.tellUntold()
}

// Counts returns what happened so far, and how many connections are open.
func (s *Sink) Counts() (c Counts, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts, s.open
}

func (s *Sink) count(change func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

func (s *Sink) accept(ctx context.Context, l *net.TCPListener, calls *sync.WaitGroup) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely
			timer := time.NewTimer(acceptPause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			continue
		}
		c, ok := s.admit(conn)
		if !ok {
			_ = conn.SetLinger(0) // a reset costs nothing after it
			_ = conn.Close()
			continue
		}
		calls.Go(func() {
			defer s.leave(c.a)
			// Its end ends the conversation.
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			c.run(ctx)
			_ = conn.Close()
		})
	}
}

// admit finds out who calls, and takes the call unless there are too many.
func (s *Sink) admit(conn *net.TCPConn) (*call, bool) {
	from, to := addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())
	pot, ok := s.pot(from.Addr())
	if !ok {
		return nil, false
	}
	a, ok := s.enter(pot)
	if !ok {
		return nil, false
	}
	return &call{s: s, conn: conn, pot: pot, a: a, to: to}, true
}

// enter takes a pot's connection, or conversation by datagrams, unless there are too many; leave ends it.
func (s *Sink) enter(pot Pot) (*account, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accountLocked(pot)
	switch {
	case s.open >= s.o.Total:
		s.counts.OverTotal++
		a.lost++
		return nil, false
	case a.open >= s.o.PerPot:
		s.counts.OverPot++
		a.lost++
		return nil, false
	}
	s.open++
	a.open++
	s.counts.Connections++
	return a, true
}

func (s *Sink) leave(a *account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	a.open--
}

// pot tells who has an address, if that may call out.
func (s *Sink) pot(a netip.Addr) (Pot, bool) {
	pot, ok := s.o.Pot(a)
	if !ok || pot.Policy != event.EgressSinkhole && pot.Policy != event.EgressRecord {
		s.count(func(c *Counts) { c.Strangers++ })
		return pot, false
	}
	return pot, true
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(event.Canonical(p.Addr()), p.Port())
}
