// Package front stands between attackers and their pots: it takes their connections, finds the lease
// that each belongs to, and hands them, with a recorder, to what speaks the service's protocol.
package front

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// DefaultTotal is how many connections there are at once where it is not said.
const DefaultTotal = 4096

const (
	defaultPerLease    = 256
	defaultDialTimeout = time.Minute
	acceptPause        = 50 * time.Millisecond
)

// Reasons why a session ended that are not its handler's.
const (
	LeaseEnded   = "lease ended"
	NodeStopping = "node stopping"
	NoPot        = "no pot: "
	NodeFull     = "node full"
)

// ErrFull is why an attacker gets no pot when the node has none left.
var ErrFull = errors.New(NodeFull)

// Options configure a front.
type Options struct {
	Node string
	// Lookup finds the lease of a connection by the peer's address and the endpoint's port.
	Lookup func(peer netip.Addr, port uint16) (event.Lease, bool)
	// Handlers speak the protocols of services; Raw takes the others.
	Handlers map[event.Service]Handler
	Raw      Handler
	// Session is told of each session when it opens and when it has closed.
	Session func(event.Session) error
	// Entered is told which sessions reached which pots; left is called before the session's end. May be nil.
	Entered func(k event.PotKey, r *record.Recorder) (left func())
	Vault   *record.Vault

	PerLease int       // connections of one lease at once; 256 where 0
	Total    int       // connections at once; 4096 where 0
	Port     uint16    // to listen on; chosen by the kernel where 0
	NetNS    *netns.NS // to listen in; nil for the process's own
	Log      *slog.Logger
}

// Counts are what happened to connections since the start.
type Counts struct {
	Accepted     uint64 // became sessions
	Strangers    uint64 // belonged to no lease
	OverLease    uint64 // too many of one lease
	OverTotal    uint64 // too many at all
	NoPot        uint64 // sessions whose pot was not reached
	Unrecorded   uint64 // sessions without a recording
	RecordsLost  uint64 // session records that could not be kept
	AcceptErrors uint64
}

// Front takes the connections of a node's attackers. Its methods may be called concurrently.
type Front struct {
	o         Options
	log       *slog.Logger
	listeners [2]*net.TCPListener // IPv4, IPv6
	arrivals  chan arrival
	stopping  chan struct{} // closed when no arrival is taken any more

	mu       sync.Mutex
	sessions map[string]map[string]context.CancelCauseFunc // by lease and session
	total    int
	counts   Counts
	local    map[string]*net.TCPListener // by lease: endpoints on real ports
	closed   bool
	wg       sync.WaitGroup // accept loops of local endpoints
}

// arrival is a connection with the port that it was made to.
type arrival struct {
	conn *net.TCPConn
	port uint16
}

// New listens; nothing is accepted before Run.
func New(o Options) (*Front, error) {
	if o.PerLease == 0 {
		o.PerLease = defaultPerLease
	}
	if o.Total == 0 {
		o.Total = DefaultTotal
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Front{
		o: o, log: o.Log, arrivals: make(chan arrival), stopping: make(chan struct{}),
		sessions: make(map[string]map[string]context.CancelCauseFunc), local: make(map[string]*net.TCPListener),
	}
	for i, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		l, err := o.NetNS.ListenTCP(netip.AddrPortFrom(any, o.Port))
		if err != nil {
			f.closeListeners()
			return nil, fmt.Errorf("front: %w", err)
		}
		f.listeners[i] = l
	}
	return f, nil
}

// Ports returns where the front listens, for IPv4 and for IPv6.
func (f *Front) Ports() (v4, v6 uint16) { return portOf(f.listeners[0]), portOf(f.listeners[1]) }

func portOf(l *net.TCPListener) uint16 {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return uint16(a.Port)
	}
	return 0
}

// Run serves until ctx is done; then it closes all sessions and returns when their records are kept.
func (f *Front) Run(ctx context.Context) {
	var sessions, loops sync.WaitGroup
	ending, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	for i := range f.listeners {
		l := f.listeners[i]
		loops.Go(func() { f.accept(l, originalDestination) })
	}
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case a := <-f.arrivals:
			sessions.Go(func() { f.serve(ending, a) })
		}
	}
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	close(f.stopping)
	f.closeListeners()
	end(errors.New(NodeStopping))
	loops.Wait()
	f.wg.Wait()
	sessions.Wait()
}

func (f *Front) closeListeners() {
	for _, l := range f.listeners {
		if l != nil {
			_ = l.Close()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, l := range f.local {
		_ = l.Close()
		delete(f.local, id)
	}
}

// accept takes connections until the listener is closed.
func (f *Front) accept(l *net.TCPListener, destination func(*net.TCPConn) (netip.AddrPort, error)) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely: others may close some
			f.count(func(c *Counts) { c.AcceptErrors++ })
			select {
			case <-f.stopping:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		to, err := destination(conn)
		if err != nil {
			f.count(func(c *Counts) { c.Strangers++ })
			_ = conn.Close()
			continue
		}
		select {
		case f.arrivals <- arrival{conn: conn, port: to.Port()}:
		case <-f.stopping:
			_ = conn.Close()
			return
		}
	}
}

func (f *Front) count(change func(*Counts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.counts)
}

// Counts returns what happened so far, and how many sessions are open.
func (f *Front) Counts() (counts Counts, open int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts, f.total
}

// OpenEndpoint listens on a lease's endpoint itself. Only the leases of a host that is this machine
// need it: its attackers' connections have been redirected once already when they arrive here.
func (f *Front) OpenEndpoint(l event.Lease) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("open an endpoint: " + NodeStopping)
	}
	if old := f.local[l.ID]; old != nil {
		if a, ok := old.Addr().(*net.TCPAddr); ok && a.AddrPort() == l.Endpoint {
			return nil
		}
		_ = old.Close()
	}
	lis, err := f.o.NetNS.ListenTCP(l.Endpoint)
	if err != nil {
		return fmt.Errorf("open endpoint %s: %w", l.Endpoint, err)
	}
	f.local[l.ID] = lis
	f.wg.Go(func() { f.accept(lis, localDestination) })
	return nil
}

// CloseLease ends all sessions of a lease and closes its endpoint.
func (f *Front) CloseLease(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.local[id]; l != nil {
		_ = l.Close()
		delete(f.local, id)
	}
	for _, end := range f.sessions[id] {
		end(errors.New(LeaseEnded))
	}
}

// admit counts a connection in, or says why not.
func (f *Front) admit(lease, session string, end context.CancelCauseFunc) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.total >= f.o.Total:
		f.counts.OverTotal++
		return false
	case len(f.sessions[lease]) >= f.o.PerLease:
		f.counts.OverLease++
		return false
	}
	f.total++
	f.counts.Accepted++
	if f.sessions[lease] == nil {
		f.sessions[lease] = make(map[string]context.CancelCauseFunc)
	}
	f.sessions[lease][session] = end
	return true
}

func (f *Front) leave(lease, session string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total--
	delete(f.sessions[lease], session)
	if len(f.sessions[lease]) == 0 {
		delete(f.sessions, lease)
	}
}

// serve takes one connection from its arrival to its end.
func (f *Front) serve(ctx context.Context, a arrival) {
	defer a.conn.Close()                                  //nolint:errcheck // closed by the relay, mostly
	peer := a.conn.RemoteAddr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // a TCP connection has no other
	peer = netip.AddrPortFrom(event.Canonical(peer.Addr()), peer.Port())
	lease, ok := f.o.Lookup(peer.Addr(), a.port)
	if !ok {
		f.count(func(c *Counts) { c.Strangers++ })
		return
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	s := event.Session{
		ID: hex.EncodeToString(id[:]), Node: f.o.Node, Host: lease.Host, Service: lease.Service,
		Attacker: lease.Attacker, LeaseID: lease.ID, StartedAt: time.Now(), Peer: peer, Target: lease.Target,
	}
	if !f.admit(lease.ID, s.ID, end) {
		return
	}
	defer f.leave(lease.ID, s.ID)
	f.keep(ctx, s)

	rec, err := f.o.Vault.Begin(recording.Header{
		Session: s.ID, Node: s.Node, Host: s.Host, Service: s.Service,
		Attacker: s.Attacker, Peer: s.Peer, Target: s.Target, StartedAt: s.StartedAt,
	})
	if err != nil {
		f.count(func(c *Counts) { c.Unrecorded++ })
		f.log.ErrorContext(ctx, "session is not recorded", "session", s.ID, "error", err)
	}
	f.converse(ctx, &s, a.conn, lease, rec)

	if rec != nil {
		s.Recording, s.Truncated, err = rec.Close(s.Reason)
		if err != nil {
			f.count(func(c *Counts) { c.Unrecorded++ })
			f.log.ErrorContext(ctx, "recording is lost", "session", s.ID, "error", err)
		}
	} else {
		s.Truncated = true
	}
	s.EndedAt = time.Now()
	f.keep(ctx, s)
	f.o.Vault.Forget(s.ID)
}

func (f *Front) keep(ctx context.Context, s event.Session) {
	if err := f.o.Session(s); err != nil {
		f.count(func(c *Counts) { c.RecordsLost++ })
		f.log.ErrorContext(ctx, "session record is not kept", "session", s.ID, "error", err)
	}
}

// converse has the service's handler speak with the attacker.
func (f *Front) converse(ctx context.Context, s *event.Session, attacker *net.TCPConn, lease event.Lease, rec *record.Recorder) {
	h := f.o.Handlers[lease.Service]
	if h == nil {
		h = f.o.Raw
	}
	conn := &counted{TCPConn: attacker}
	left := func() {}
	defer func() { left() }()
	s.Reason = h.Serve(ctx, &Visit{
		Conn: conn, Lease: lease, Session: s.ID, Rec: rec, Pot: func(p event.Pot) {
			if s.PotID == "" && f.o.Entered != nil {
				left = f.o.Entered(lease.PotKey(), rec)
			}
			s.PotID = p.ID
		},
	})
	conn.fill(s)
	if strings.HasPrefix(s.Reason, NoPot) {
		f.count(func(c *Counts) { c.NoPot++ })
	}
}

// Close closes the listeners of a front that never ran, or has ended.
func (f *Front) Close() { f.closeListeners() }
