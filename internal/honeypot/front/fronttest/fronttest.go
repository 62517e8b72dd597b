// Package fronttest runs the handler of a service against a server that stands for the pot's, and says what was noted.
package fronttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// Attacker is whose connections all are.
func Attacker() event.PotKey {
	return event.PotKey{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
}

// Stay is a pot of which a service is at an address, with its administrator's login.
type Stay struct{ ID, Address, Account, Password string }

// Pot implements front.Stay.
func (s Stay) Pot() event.Pot { return event.Pot{ID: s.ID} }

// PID implements front.Stay.
func (Stay) PID() int { return 1 }

// Login implements front.Stay.
func (s Stay) Login(event.Service) (account, password string) { return s.Account, s.Password }

// Close implements front.Stay.
func (Stay) Close() {}

// Dial implements front.Stay.
func (s Stay) Dial(ctx context.Context, _ event.Service) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, fmt.Errorf("reach the pot: %w", err)
	}
	return conn, nil
}

// Site is a front that listens.
type Site struct {
	Address string

	service event.Service
	handler front.Handler
	vault   *record.Vault
	known   bool
	end     context.CancelCauseFunc
	all     sync.WaitGroup

	mu      sync.Mutex
	begun   int
	ended   []string          // sessions
	sums    map[string]string // of their recordings
	reasons map[string]string
}

// Option changes a site.
type Option func(*Site)

// Known has the attacker be one who may be honest.
func Known(s *Site) { s.known = true }

// New starts a site; it ends with the test.
func New(t testing.TB, service event.Service, h front.Handler, options ...Option) *Site {
	t.Helper()
	vault, err := record.OpenVault(record.VaultOptions{Dir: t.TempDir(), MinFree: 1})
	require.NoError(t, err)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, end := context.WithCancelCause(t.Context())
	s := &Site{
		Address: l.Addr().String(), service: service, handler: h, vault: vault, end: end,
		sums: map[string]string{}, reasons: map[string]string{},
	}
	for _, o := range options {
		o(s)
	}
	s.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.all.Go(func() { s.serve(ctx, t, conn) })
		}
	})
	t.Cleanup(func() {
		end(errors.New(front.NodeStopping))
		_ = l.Close()
		s.all.Wait()
	})
	return s
}

func (s *Site) serve(ctx context.Context, t testing.TB, conn net.Conn) { //nolint:thelper // a server
	s.mu.Lock()
	s.begun++
	id := fmt.Sprintf("%012x", s.begun)
	s.mu.Unlock()
	k := Attacker()
	rec, err := s.vault.Begin(recording.Header{Session: id, Host: k.Host, Service: s.service, Attacker: k.Attacker, StartedAt: time.Now()})
	if err != nil {
		t.Errorf("not recorded: %v", err)
		return
	}
	reason := s.handler.Serve(ctx, &front.Visit{
		Conn: conn, Session: id, Rec: rec, Pot: func(event.Pot) {},
		Lease: event.Lease{Attacker: k.Attacker, Host: k.Host, Service: s.service, Known: s.known},
	})
	_ = conn.Close()
	sum, _, err := rec.Close(reason)
	if err != nil {
		t.Errorf("recording lost: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, id)
	s.sums[id], s.reasons[id] = sum, reason
}

// Dial connects as the attacker.
func (s *Site) Dial(t testing.TB) net.Conn {
	t.Helper()
	return s.DialTo(t, s.Address)
}

// DialTo connects to the site, or straight to the server behind it.
func (*Site) DialTo(t testing.TB, address string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Open returns how many sessions are open.
func (s *Site) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun - len(s.ended)
}

// Session is one that has ended.
type Session struct {
	ID, Reason, Recording string
	Evidence              []event.Evidence
}

// Ended waits until n sessions have ended, and returns all that have, in the order in which they began.
func (s *Site) Ended(t testing.TB, n int) []Session {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.ended) >= n
	}, time.Minute, 5*time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Session
	for _, id := range slices.Sorted(slices.Values(s.ended)) {
		one := Session{ID: id, Reason: s.reasons[id], Recording: s.vault.Path(s.sums[id])}
		for from := int64(0); ; {
			some, next, err := s.vault.Evidence(id, s.sums[id], true, from, 1<<20)
			require.NoError(t, err)
			if len(some) == 0 {
				break
			}
			one.Evidence, from = append(one.Evidence, some...), next
		}
		out = append(out, one)
	}
	return out
}

// EndLease ends all sessions.
func (s *Site) EndLease() { s.end(errors.New(front.LeaseEnded)) }

// EndsWithItsLease holds that a handler ends when its lease does, and leaves nothing behind.
func EndsWithItsLease(t *testing.T, s *Site) {
	t.Helper()
	conn := s.Dial(t)
	require.Eventually(t, func() bool { return s.Open() == 1 }, time.Minute, time.Millisecond)
	s.EndLease()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	for {
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			break
		}
	}
	assert.Equal(t, front.LeaseEnded, s.Ended(t, 1)[0].Reason)
}
