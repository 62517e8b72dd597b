package pool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

const (
	defaultStarts  = 4
	defaultMaxPots = 256
	startTimeout   = time.Minute
	dialTimeout    = 2 * time.Second
	listRetry      = time.Second
	readyPoll      = 20 * time.Millisecond
	tidyEvery      = 15 * time.Second
)

// Errors of pots.
var (
	ErrFull      = errors.New("the node holds as many pots as it may")
	ErrNoService = errors.New("the pot does not offer the service")
	errStopped   = errors.New("the node is stopping")
	errNotAsked  = errors.New("the engine was not reached yet")
	errNotNow    = errors.New("not running yet")
)

// Engine is what runs containers.
type Engine interface {
	Create(ctx context.Context, s engine.Spec) (id string, err error)
	Start(ctx context.Context, id string) error
	Inspect(ctx context.Context, id string) (c engine.Container, found bool, err error)
	List(ctx context.Context) ([]engine.Container, error)
	Remove(ctx context.Context, id string) error
	Watch(ctx context.Context, fn func(engine.Change))
}

// Network is what pots are wired into.
type Network interface {
	Wire(p egress.Port) error
	Wired(p egress.Port) (bool, error)
	Sweep(keep func(pot string) bool) error
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	Address(index int) netip.Addr
	Gateway() netip.Addr
}

// PotsOptions configure the pots of a node.
type PotsOptions struct {
	Node     string
	Engine   Engine
	Disk     Disk // nil: nobody looks at what pots write
	Network  Network
	Capacity int   // how many addresses the network has
	MaxPots  int   // 256 where 0
	Starts   int   // how many start at once; 4 where 0
	MaxDisk  int64 // bytes that a pot may write; 1 GiB where 0
	Limits   engine.Limits
	// Image returns the image for new pots, when it is there.
	Image func(ctx context.Context) (string, error)
	// Wanted tells which pots have a lease; the others are removed.
	Wanted func(Key) bool
	// Changed is called when a pot changed.
	Changed func()
	Log     *slog.Logger
}

// Pots starts, wires, heals and removes the pots of a node. Its methods may be called concurrently;
// Run has to run for them to get anywhere.
type Pots struct {
	o      PotsOptions
	log    *slog.Logger
	starts chan struct{}
	jobs   chan func(context.Context)
	tidy   chan struct{}

	stopped chan struct{} // closed when Run ends
	synced  chan struct{} // closed when the engine's pots are known
	known   sync.Once

	mu     sync.Mutex
	pots   map[Key]*pot
	engine error // why the engine does not answer
	counts Counts
}

// Counts are what happened to pots since the start.
type Counts struct {
	Created, Started, Wired, Failed, Removed uint64
}

// pot is what is known of one container. While there is a flight, only that changes the rest, but for
// what the engine reports.
type pot struct {
	key      Key
	name     string
	index    int
	id       string
	image    string
	state    string
	created  time.Time
	lastSeen time.Time
	services map[event.Service]uint16
	ready    bool // wired, and its services answered
	died     bool // since it was last looked at
	full     bool // it wrote more than it may
	failure  string

	flight *flight
}

// flight is one attempt to bring a pot up, or to remove it, that all who need the pot wait for.
type flight struct {
	done chan struct{}
	err  error
}

// NewPots returns the pots of a node; it knows of none before Run.
func NewPots(o PotsOptions) *Pots {
	if o.MaxPots == 0 {
		o.MaxPots = defaultMaxPots
	}
	o.MaxPots = min(o.MaxPots, o.Capacity)
	if o.MaxDisk == 0 {
		o.MaxDisk = defaultMaxDisk
	}
	if o.Starts == 0 {
		o.Starts = defaultStarts
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Pots{
		o: o, log: o.Log,
		starts: make(chan struct{}, o.Starts),
		jobs:   make(chan func(context.Context)),
		tidy:   make(chan struct{}, 1),
		pots:   make(map[Key]*pot),
		engine: errNotAsked, stopped: make(chan struct{}), synced: make(chan struct{}),
	}
}

// Run watches the engine until ctx is done. Pots go on running after that.
func (p *Pots) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(p.stopped)
	wg.Go(func() { p.o.Engine.Watch(ctx, func(c engine.Change) { p.changed(ctx, c) }) })
	if p.o.Disk != nil {
		wg.Go(func() { p.watchDisk(ctx) })
	}
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-p.jobs:
			wg.Go(func() { job(ctx) })
		case <-p.tidy:
			p.removeUnwanted(&wg, ctx)
		case <-tick.C:
			p.removeUnwanted(&wg, ctx)
		}
	}
}

// Tidy has pots that are no longer wanted removed soon.
func (p *Pots) Tidy() {
	select {
	case p.tidy <- struct{}{}:
	default:
	}
}

// Dial connects to a service of a lease's pot, which is started where it does not run.
func (p *Pots) Dial(ctx context.Context, l event.Lease) (net.Conn, event.Pot, error) {
	k := Key{Attacker: l.Attacker, Host: l.Host}
	for attempt := 0; ; attempt++ {
		t, err := p.await(ctx, k)
		if err != nil {
			return nil, t, err
		}
		port := p.port(k, l.Service)
		if port == 0 {
			return nil, t, fmt.Errorf("%w %s", ErrNoService, l.Service)
		}
		conn, err := p.dial(ctx, netip.AddrPortFrom(t.Address, port))
		if err == nil {
			return conn, t, nil
		}
		if attempt > 0 || ctx.Err() != nil {
			return nil, t, fmt.Errorf("connect to pot %s: %w", t.Name, err)
		}
		p.doubt(k) // it died a moment ago
	}
}

// dial does not wait long: a pot that died does not even refuse.
func (p *Pots) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return p.o.Network.Dial(ctx, addr)
}

func (p *Pots) port(k Key, s event.Service) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.pots[k]; t != nil {
		return t.services[s]
	}
	return 0
}

// doubt has the pot looked at again before it is used.
func (p *Pots) doubt(k Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.pots[k]; t != nil {
		t.ready = false
	}
}

// awaitSync returns when the engine's pots are known: before that, an address that is free for all we
// know may be taken.
func (p *Pots) awaitSync(ctx context.Context) error {
	tick := time.NewTicker(dialTimeout / 10)
	defer tick.Stop()
	for {
		select {
		case <-p.synced:
			return nil
		case <-p.stopped:
			return errStopped
		case <-ctx.Done():
			return fmt.Errorf("wait for the engine: %w", ctx.Err())
		case <-tick.C:
		}
		p.mu.Lock()
		err := p.engine
		p.mu.Unlock()
		if err != nil && !errors.Is(err, errNotAsked) {
			return err
		}
	}
}

// await returns when the pot is ready.
func (p *Pots) await(ctx context.Context, k Key) (event.Pot, error) {
	if err := p.awaitSync(ctx); err != nil {
		return event.Pot{}, fmt.Errorf("start a pot: %w", err)
	}
	for {
		p.mu.Lock()
		t, err := p.getLocked(k)
		if err != nil {
			p.mu.Unlock()
			return event.Pot{}, fmt.Errorf("start a pot: %w", err)
		}
		t.lastSeen = time.Now()
		if t.full {
			defer p.mu.Unlock()
			return p.describe(t), ErrDisk
		}
		if t.ready && t.flight == nil {
			out := p.describe(t)
			p.mu.Unlock()
			return out, nil
		}
		f, job := p.boardLocked(t)
		p.mu.Unlock()

		if job != nil {
			select {
			case p.jobs <- job:
			case <-p.stopped:
				p.land(t, f, errAbandoned)
				return event.Pot{}, fmt.Errorf("start pot %s: %w", t.name, errStopped)
			case <-ctx.Done():
				p.land(t, f, errAbandoned)
				return event.Pot{}, fmt.Errorf("start pot %s: %w", t.name, ctx.Err())
			}
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return event.Pot{}, fmt.Errorf("wait for pot %s: %w", t.name, ctx.Err())
		}
		if f.err != nil && !errors.Is(f.err, errRemoved) && !errors.Is(f.err, errAbandoned) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.describe(t), f.err
		}
	}
}

func (p *Pots) getLocked(k Key) (*pot, error) {
	if t := p.pots[k]; t != nil {
		return t, nil
	}
	if len(p.pots) >= p.o.MaxPots {
		return nil, fmt.Errorf("%w (%d)", ErrFull, p.o.MaxPots)
	}
	used := make(map[int]bool, len(p.pots))
	for _, t := range p.pots {
		used[t.index] = true
	}
	index := 0
	for used[index] {
		index++
	}
	t := &pot{key: k, name: p.nameOf(k), index: index, state: "starting", created: time.Now()}
	p.pots[k] = t
	return t, nil
}

// nameOf gives a pot the same name each time.
func (p *Pots) nameOf(k Key) string {
	sum := sha256.Sum256([]byte(k.Attacker.String() + " " + k.Host))
	return "kokkuri-pot-" + p.o.Node + "-" + hex.EncodeToString(sum[:5])
}

// List describes all pots.
func (p *Pots) List() []event.Pot {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]event.Pot, 0, len(p.pots))
	for _, t := range p.pots {
		out = append(out, p.describe(t))
	}
	slices.SortFunc(out, func(a, b event.Pot) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (p *Pots) describe(t *pot) event.Pot {
	return event.Pot{
		ID: t.id, Name: t.name, Node: p.o.Node, Attacker: t.key.Attacker, Host: t.key.Host, Image: t.image,
		Address: p.o.Network.Address(t.index), State: t.state, CreatedAt: t.created, LastSeen: t.lastSeen,
	}
}

// Counts returns what happened so far.
func (p *Pots) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Findings says what is wrong.
func (p *Pots) Findings() []event.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []event.Finding
	if p.engine != nil {
		f := event.Finding{Level: "error", Subject: "engine", Text: p.engine.Error()}
		var mend interface{ Mend() string }
		if errors.As(p.engine, &mend) {
			f.Mend = mend.Mend()
		}
		out = append(out, f)
	}
	for _, k := range slices.SortedFunc(maps.Keys(p.pots), func(a, b Key) int {
		return strings.Compare(p.pots[a].name, p.pots[b].name)
	}) {
		if t := p.pots[k]; t.failure != "" {
			out = append(out, event.Finding{Level: "error", Subject: "pot " + t.name, Text: t.failure})
		}
	}
	if len(p.pots) >= p.o.MaxPots {
		out = append(out, event.Finding{
			Level: "warning", Subject: "pots", Text: fmt.Sprintf("%v (%d)", ErrFull, p.o.MaxPots),
			Mend: "raise the node's limit of pots, or add a node",
		})
	}
	return out
}
