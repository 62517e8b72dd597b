// Package pool keeps a node's leases and the pots that belong to them.
package pool

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	// DefaultQuarantine is how long the port of an ended lease stays unused.
	DefaultQuarantine = 10 * time.Minute

	// adoptGrace is how long a lease may be unknown to the server: its answer may have been on the
	// way when the lease was granted.
	adoptGrace = time.Minute

	expiryTick = time.Second
	saveDelay  = 50 * time.Millisecond
)

// Errors of grants.
var (
	ErrNoPort  = errors.New("no free port")
	ErrNoRoute = errors.New("no endpoint of the attacker's address family")
	ErrRequest = errors.New("invalid lease request")
)

// Source is who may reach a lease's endpoint: packets from an address in Prefix to Port.
type Source struct {
	Prefix netip.Prefix
	Port   uint16
}

// Ports is a range of TCP ports, both ends included.
type Ports struct{ First, Last uint16 }

// DefaultPorts lie below what Linux uses for outgoing connections.
func DefaultPorts() Ports { return Ports{First: 20000, Last: 29999} }

// BookOptions configure a book of leases.
type BookOptions struct {
	Node       string
	Advertise  []netip.Addr // endpoint addresses, at most the first of each family is used
	Ports      Ports        // DefaultPorts where zero
	Quarantine time.Duration
	KeepPots   time.Duration // how long a pot is wanted after its last lease ended
	File       string        // where leases are kept over a restart
	// IsLocal tells addresses of this machine. Flows of a host that is this machine are not masqueraded
	// on their way: they come from the attacker's own address.
	IsLocal func(netip.Addr) bool
	// Ended is called for each lease that was released or expired.
	Ended func(event.Lease)
	Now   func() time.Time
	Log   *slog.Logger
}

// Book keeps the leases of a node. Its methods may be called concurrently.
type Book struct {
	o   BookOptions
	log *slog.Logger

	mu      sync.Mutex
	leases  map[string]*entry // by id
	held    map[claim]*entry
	pots    map[event.PotKey]int       // leases per pot
	left    map[event.PotKey]time.Time // when a pot lost its last lease, while it is wanted nevertheless
	slots   map[Source]*entry          // live leases
	resting map[Source]time.Time
	next    uint16 // where the search for a port goes on
	settled bool   // the leases are known, not just empty because we have started

	dirty  chan struct{}
	saveMu sync.Mutex
}

// claim is what an attacker has one lease for.
type claim struct {
	key     event.PotKey
	service event.Service
}

func claimOf(attacker event.Attacker, host string, service event.Service) claim {
	return claim{key: event.PotKey{Attacker: attacker, Host: host}, service: service}
}

type entry struct {
	event.Lease
	Local   bool      `json:"local,omitempty"`
	Touched time.Time `json:"touched_at"`
}

// sources returns who may reach the lease's endpoint.
func (e *entry) sources() []Source {
	if e.Local {
		return []Source{{Prefix: e.Attacker, Port: e.Endpoint.Port()}}
	}
	return sourcesOf(e.Seen, e.Endpoint.Port())
}

func sourcesOf(seen []netip.Addr, port uint16) []Source {
	out := make([]Source, 0, len(seen))
	for _, a := range seen {
		out = append(out, Source{Prefix: netip.PrefixFrom(a, a.BitLen()), Port: port})
	}
	return out
}

// NewBook opens the book that an earlier process of ours left in o.File, if any.
func NewBook(o BookOptions) (*Book, error) {
	if o.Ports == (Ports{}) {
		o.Ports = DefaultPorts()
	}
	if o.Quarantine == 0 {
		o.Quarantine = DefaultQuarantine
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.IsLocal == nil {
		o.IsLocal = func(netip.Addr) bool { return false }
	}
	if o.Ended == nil {
		o.Ended = func(event.Lease) {}
	}
	if o.Ports.First == 0 || o.Ports.First > o.Ports.Last {
		return nil, fmt.Errorf("port range of the endpoints: %d-%d is empty", o.Ports.First, o.Ports.Last)
	}
	if len(o.Advertise) == 0 {
		return nil, errors.New("endpoint addresses: there is none; name the addresses at which hosts reach this node")
	}
	o.Advertise = slices.Clone(o.Advertise)
	for i, a := range o.Advertise {
		o.Advertise[i] = event.Canonical(a)
	}
	b := &Book{
		o: o, log: o.Log,
		leases: make(map[string]*entry), held: make(map[claim]*entry), pots: make(map[event.PotKey]int), left: make(map[event.PotKey]time.Time), slots: make(map[Source]*entry), resting: make(map[Source]time.Time),
		next: o.Ports.First, dirty: make(chan struct{}, 1),
	}
	if err := b.load(); err != nil {
		return nil, err
	}
	return b, nil
}

// Grant gives an endpoint to an attacker of a host's service. The same attacker, host and service
// get the same lease again, with the later expiry.
func (b *Book) Grant(req event.LeaseRequest) (event.Lease, error) {
	req.Attacker = req.Attacker.Masked()
	now := b.o.Now()
	switch {
	case !req.Attacker.IsValid() || req.Host == "" || req.Service == "":
		return event.Lease{}, fmt.Errorf("%w: it needs attacker, host and service", ErrRequest)
	case !req.Expires.After(now):
		return event.Lease{}, fmt.Errorf("%w: it expires at %s, which is over", ErrRequest, req.Expires.Format(time.RFC3339))
	}
	endpoint, err := b.endpointFor(req.Attacker)
	if err != nil {
		return event.Lease{}, err
	}
	seen, local, err := b.seenOf(req)
	if err != nil {
		return event.Lease{}, err
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.markDirty()
	e := b.find(req.Attacker, req.Host, req.Service)
	if e == nil {
		id, err := newID()
		if err != nil {
			return event.Lease{}, err
		}
		e = &entry{Lease: event.Lease{
			ID: id, Attacker: req.Attacker, Host: req.Host, Service: req.Service, Node: b.o.Node, Created: now,
		}}
	}
	if !slices.Equal(e.Seen, seen) || e.Endpoint.Addr() != endpoint || e.Local != local {
		if err := b.place(e, endpoint, seen, local); err != nil {
			return event.Lease{}, err
		}
	}
	if req.Expires.After(e.Expires) {
		e.Expires = req.Expires
	}
	e.Target, e.Known, e.Egress = req.Target, e.Known || req.Known, req.Egress
	e.Touched = now
	b.keep(e)
	b.settled = true
	return e.copy(), nil
}

func (e *entry) copy() event.Lease {
	l := e.Lease
	l.Seen = slices.Clone(l.Seen)
	return l
}

func newID() (string, error) {
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("name a lease: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

func (b *Book) endpointFor(attacker event.Attacker) (netip.Addr, error) {
	for _, a := range b.o.Advertise {
		if a.Is4() == attacker.Addr().Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: attacker %s, endpoint addresses %v", ErrNoRoute, attacker, b.o.Advertise)
}

// seenOf returns the addresses of the attacker's family that the host's flows may come from.
func (b *Book) seenOf(req event.LeaseRequest) (seen []netip.Addr, local bool, err error) {
	for _, a := range req.Seen {
		if a = event.Canonical(a); a.IsValid() && a.Is4() == req.Attacker.Addr().Is4() {
			seen = append(seen, a)
			local = local || b.o.IsLocal(a)
		}
	}
	if len(seen) == 0 {
		return nil, false, fmt.Errorf("%w: host %s has no address of the family of attacker %s", ErrNoRoute, req.Host, req.Attacker)
	}
	slices.SortFunc(seen, netip.Addr.Compare)
	return slices.Compact(seen), local, nil
}

func (b *Book) find(attacker event.Attacker, host string, service event.Service) *entry {
	return b.held[claimOf(attacker, host, service)]
}

// keep enters a lease into the indexes.
func (b *Book) keep(e *entry) {
	if b.leases[e.ID] == e {
		return
	}
	c := claimOf(e.Attacker, e.Host, e.Service)
	b.leases[e.ID], b.held[c] = e, e
	b.pots[c.key]++
	delete(b.left, c.key)
}

// place gives an entry an endpoint that is free for all its sources; its own port, if it is.
func (b *Book) place(e *entry, endpoint netip.Addr, seen []netip.Addr, local bool) error {
	moved := &entry{Lease: e.Lease, Local: local}
	moved.Seen = seen
	port, ok := e.Endpoint.Port(), false
	if port >= b.o.Ports.First && port <= b.o.Ports.Last {
		moved.Endpoint = netip.AddrPortFrom(endpoint, port)
		ok = b.free(moved, e)
	}
	for range int(b.o.Ports.Last-b.o.Ports.First) + 1 {
		if ok {
			break
		}
		port = b.next
		if b.next++; b.next > b.o.Ports.Last || b.next < b.o.Ports.First {
			b.next = b.o.Ports.First
		}
		moved.Endpoint = netip.AddrPortFrom(endpoint, port)
		ok = b.free(moved, e)
	}
	if !ok {
		return fmt.Errorf("%w from %d to %d for host %s", ErrNoPort, b.o.Ports.First, b.o.Ports.Last, e.Host)
	}
	b.vacate(e)
	e.Seen, e.Local, e.Endpoint = moved.Seen, moved.Local, moved.Endpoint
	for _, s := range e.sources() {
		b.slots[s] = e
	}
	return nil
}

// free reports whether all of an entry's sources are free, or held by self.
func (b *Book) free(e, self *entry) bool {
	now := b.o.Now()
	for _, s := range e.sources() {
		if held := b.slots[s]; held != nil && held != self {
			return false
		}
		if until, ok := b.resting[s]; ok && until.After(now) {
			return false
		}
	}
	return true
}

// vacate puts the sources of an entry to rest.
func (b *Book) vacate(e *entry) {
	until := b.o.Now().Add(b.o.Quarantine)
	for _, s := range e.sources() {
		if b.slots[s] == e {
			delete(b.slots, s)
			b.resting[s] = until
		}
	}
}

// Release ends the lease of an attacker of a host's service; without one it does nothing.
func (b *Book) Release(attacker event.Attacker, host string, service event.Service) (event.Lease, bool) {
	b.mu.Lock()
	e := b.find(attacker.Masked(), host, service)
	if e != nil {
		b.endLocked(e)
	}
	b.mu.Unlock()
	if e == nil {
		return event.Lease{}, false
	}
	b.o.Ended(e.copy())
	return e.copy(), true
}

func (b *Book) endLocked(e *entry) {
	b.vacate(e)
	c := claimOf(e.Attacker, e.Host, e.Service)
	delete(b.leases, e.ID)
	delete(b.held, c)
	if b.pots[c.key]--; b.pots[c.key] <= 0 {
		delete(b.pots, c.key)
		if b.o.KeepPots > 0 {
			b.left[c.key] = b.o.Now()
		}
	}
	b.markDirty()
}

// Lookup returns the lease that a connection from peer to port belongs to.
func (b *Book) Lookup(peer netip.Addr, port uint16) (event.Lease, bool) {
	peer = event.Canonical(peer)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, bits := range []int{peer.BitLen(), 64} {
		if bits > peer.BitLen() {
			continue
		}
		p, err := peer.Prefix(bits)
		if err != nil {
			continue
		}
		if e := b.slots[Source{Prefix: p, Port: port}]; e != nil && e.Expires.After(b.o.Now()) {
			return e.copy(), true
		}
	}
	return event.Lease{}, false
}

// Sources returns who may reach a lease's endpoint, and whether its host is this machine.
func (b *Book) Sources(id string) (sources []Source, local bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.leases[id]
	if e == nil {
		return nil, false
	}
	return e.sources(), e.Local
}

// AllSources returns who may reach any endpoint.
func (b *Book) AllSources() []Source {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.slots))
}

// Leases returns all leases, the oldest first.
func (b *Book) Leases() []event.Lease {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]event.Lease, 0, len(b.leases))
	for _, e := range b.leases {
		out = append(out, e.copy())
	}
	slices.SortFunc(out, func(x, y event.Lease) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// Wanted reports whether a pot has a lease, or had one a short while ago. Before the leases are known, every pot is wanted.
func (b *Book) Wanted(k event.PotKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, ok := b.left[k]
	return !b.settled || b.pots[k] > 0 || ok && b.o.Now().Before(left.Add(b.o.KeepPots))
}

// Leased reports whether a pot has a lease. Before the leases are known, every pot has.
func (b *Book) Leased(k event.PotKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.settled || b.pots[k] > 0
}
