package intake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

var errDown = errors.New("the bus is down")

// stream is what the batches end up in; it drops what it has already, by ID.
type stream struct {
	mu      sync.Mutex
	changed chan struct{}
	batches []event.Batch
	n       int // lines in them
	at      []time.Time
	ids     map[string]bool
	err     error         // while set, nothing is taken
	gate    chan struct{} // while set, Publish waits until it is closed
}

func newStream() *stream { return &stream{changed: make(chan struct{}), ids: make(map[string]bool)} }

func (s *stream) publish(ctx context.Context, b event.Batch) error {
	now := time.Now()
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.ids[b.ID] {
		return nil
	}
	s.ids[b.ID] = true
	lines := make([][]byte, len(b.Lines))
	for i, l := range b.Lines {
		lines[i] = append([]byte(nil), l...)
	}
	b.Lines = lines
	s.batches = append(s.batches, b)
	s.n += len(lines)
	s.at = append(s.at, now)
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *stream) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// lines returns what came, as host/road: line.
func (s *stream) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, b := range s.batches {
		for _, l := range b.Lines {
			out = append(out, fmt.Sprintf("%s/%s: %s", b.Host, b.Road, l))
		}
	}
	return out
}

func (s *stream) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			lines := s.lines()
			require.FailNow(t, "timeout: "+what, "%d lines so far; the last: %q", len(lines), lines[max(0, len(lines)-20):])
		}
	}
}

func (s *stream) untilN(t *testing.T, n int) {
	t.Helper()
	s.wait(t, fmt.Sprint(n, " lines"), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.n >= n
	})
}

// registry knows web at 127.0.0.1 and db at 127.0.0.2.
type registry struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]string
	byName map[string]string
}

func newRegistry() *registry {
	return &registry{
		byAddr: map[netip.Addr]string{netip.MustParseAddr("127.0.0.1"): "web", netip.MustParseAddr("127.0.0.2"): "db"},
		byName: map[string]string{"web": "web", "www": "web", "web.example.net": "web", "db": "db"},
	}
}

func (r *registry) hostOf(a netip.Addr) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, ok := r.byAddr[a]
	return h, ok
}

func (r *registry) hostByName(name string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, ok := r.byName[name]
	return h, ok
}

func loopback() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")} }

// launch starts an intake that listens on loopback and ends with the test.
func launch(t *testing.T, s *stream, change func(*Options)) (in *Intake, stop func()) {
	t.Helper()
	r := newRegistry()
	o := Options{
		ListenTCP: loopback(), ListenUDP: loopback(), HostOf: r.hostOf, HostByName: r.hostByName, Publish: s.publish,
		StateDir: t.TempDir(), StopTimeout: 100 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	in, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, in.Listen(ctx))
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return in, stop
}

func dial(t *testing.T, in *Intake, from string) net.Conn {
	t.Helper()
	tcp, _ := in.Addresses()
	d := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(t.Context(), "tcp", tcp[0].String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := conn.Write([]byte(text))
	require.NoError(t, err)
}

// closed waits until the other side has closed.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, time.Minute, 2*time.Millisecond, what)
}

const line = "Nov 22 18:00:00 web sshd[1]: Failed password for root from 203.0.113.66 port 4022 ssh2"
