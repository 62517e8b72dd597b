package pool

import (
	"context"
	"crypto/rand"
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
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

const (
	defaultStarts  = 4
	defaultMaxPots = 256
	archives       = 2 // at once
	startTimeout   = time.Minute
	dialTimeout    = 2 * time.Second
	bannerWithin   = 5 * time.Second // a busy machine starts a program in its time, and asking again is no help
	listRetry      = time.Second
	readyPoll      = 20 * time.Millisecond

	defaultPauseAfter = 5 * time.Minute
	defaultStopAfter  = time.Hour
	tidyEvery         = 15 * time.Second
)

// Errors of pots.
var (
	ErrFull      = errors.New("the node holds as many pots as it may")
	ErrNoService = errors.New("the pot does not offer the service")
	errStopped   = errors.New("the node is stopping")
	errNotAsked  = errors.New("the engine was not reached yet")
	errNotNow    = errors.New("not running yet")
	errBrewing   = errors.New("the last pot of the node is being made")
)

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

	ledger  *ledger
	thirsty chan struct{} // a pot that waited was taken
	rests   chan struct{} // how many are put to rest at once
	saving  chan struct{} // how many are archived at once

	mu     sync.Mutex
	pots   map[event.PotKey]*pot
	spare  []*pot       // that wait, the oldest first
	making map[int]bool // places in the network of those that are being made to wait, or removed
	// brewing is closed when the pot that is being made to wait is ready, or is not to be; nil where none is.
	brewing chan struct{}
	short   bool   // of memory for more of them
	banner  string // of the newest SSH server
	engine  error  // why the engine does not answer
	counts  Counts
}

// Counts are what happened to pots since the start.
type Counts struct {
	Created, Started, Wired, Failed, Removed uint64
	Hits, Cold                               uint64 // attackers who got a pot that waited, and who got another
	Paused, Stopped, Evicted                 uint64
	Roused                                   uint64 // services that were started when somebody came for them
}

// pot is what is known of one container. While there is a flight, only that changes the rest, but for
// what the engine reports.
type pot struct {
	key      event.PotKey
	name     string
	index    int
	id       string
	image    string
	state    string
	created  time.Time
	lastSeen time.Time
	services map[event.Service]uint16
	guised   bool                     // its first process is one of ours
	starts   map[event.Service]string // commands that start those that don't start with the pot
	logins   map[event.Service]string // of their administrators: ACCOUNT:PASSWORD
	rousing  chan struct{}            // held by who starts one of these; nil before
	ready    bool                     // wired, and its services answered
	died     bool                     // since it was last looked at
	full     bool                     // it wrote more than it may
	failure  string

	pid     int    // of its first process
	run     string // of the container, as the engine names it
	frozen  bool
	fresh   bool // it has just got its owner
	tiring  bool // it is about to be put to rest
	leaving bool // it is being removed to make room
	saved   bool // what was changed in it is archived, and nobody was in it since
	stays   int

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
	if o.PauseAfter == 0 {
		o.PauseAfter = defaultPauseAfter
	}
	if o.StopAfter == 0 {
		o.StopAfter = defaultStopAfter
	}
	if o.Meminfo == "" {
		o.Meminfo = "/proc/meminfo"
	}
	if o.Leased == nil {
		o.Leased = o.Wanted
	}
	if o.ImageFor == nil {
		o.ImageFor = func(ctx context.Context, _ event.PotKey) (string, error) { return o.Image(ctx) }
	}
	if o.Fits == nil {
		o.Fits = func(event.PotKey, string) bool { return true }
	}
	if o.Woken == nil {
		o.Woken = func(event.PotKey, string, int, time.Time) {}
	}
	if o.Died == nil {
		o.Died = func(string) {}
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
		pots:   make(map[event.PotKey]*pot),
		making: make(map[int]bool), thirsty: make(chan struct{}, 1), rests: make(chan struct{}, o.Starts), saving: make(chan struct{}, archives), ledger: openLedger(o.File, o.Log),
		engine: errNotAsked, stopped: make(chan struct{}), synced: make(chan struct{}),
	}
}

// Run watches the engine until ctx is done. Pots go on running after that.
func (p *Pots) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(p.stopped)
	wg.Go(func() { p.o.Engine.Watch(ctx, func(c engine.Change) { p.changed(ctx, c) }) })
	wg.Go(func() { p.keepWarm(ctx) })
	wg.Go(func() { p.keepIdle(ctx) })
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

// dial does not wait long: a pot that died does not even refuse.
func (p *Pots) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return p.o.Network.Dial(ctx, addr)
}

// dialAs connects as the pot's attacker. What listens on IPv4 only is reached all the same.
func (p *Pots) dialAs(ctx context.Context, t *pot, addr netip.AddrPort) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.o.Network.DialAs(within, t.key.Attacker, t.index, addr.Port())
	if err != nil && t.key.Attacker.Addr().Is6() && errors.Is(err, syscall.ECONNREFUSED) {
		return p.dial(ctx, addr)
	}
	return conn, err
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

// getLocked finds an attacker's pot, or gives it one: one that waits, or one that is still to be made.
func (p *Pots) getLocked(k event.PotKey) (*pot, error) {
	if t := p.pots[k]; t != nil {
		return t, nil
	}
	t := p.takeWarmLocked(k)
	if t == nil {
		job, err := p.makeRoomLocked()
		if err != nil {
			return nil, err
		}
		if job != nil {
			go p.launchSoon(job)
		}
		t = &pot{key: k, name: p.newName(), index: p.freeIndexLocked(), state: "starting", created: time.Now()}
		p.counts.Cold++
	}
	p.pots[k] = t
	return t, nil
}

// launchSoon hands a job over without the lock.
func (p *Pots) launchSoon(job func(context.Context)) {
	select {
	case p.jobs <- job:
	case <-p.stopped:
	}
}

// freeIndexLocked returns the lowest place in the network that no pot has.
func (p *Pots) freeIndexLocked() int {
	used := make(map[int]bool, len(p.pots)+len(p.spare)+len(p.making))
	for _, t := range p.pots {
		used[t.index] = true
	}
	for _, t := range p.spare {
		used[t.index] = true
	}
	index := 0
	for used[index] || p.making[index] {
		index++
	}
	return index
}

// newName names a container that is to be.
func (p *Pots) newName() string {
	var id [5]byte
	_, _ = rand.Read(id[:]) // never fails
	return "kokkuri-pot-" + p.o.Node + "-" + hex.EncodeToString(id[:])
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
	for _, k := range slices.SortedFunc(maps.Keys(p.pots), func(a, b event.PotKey) int {
		return strings.Compare(p.pots[a].name, p.pots[b].name)
	}) {
		if t := p.pots[k]; t.failure != "" {
			out = append(out, event.Finding{Level: "error", Subject: "pot " + t.name, Text: t.failure})
		}
	}
	if p.short {
		out = append(out, event.Finding{
			Level: "warning", Subject: "memory", Text: "the machine is short of memory: no pots are made to wait for attackers, and no services are started in others",
			Mend: "give the machine more memory, or lower honeypot.pool.keep_free",
		})
	}
	if len(p.pots) >= p.o.MaxPots {
		out = append(out, event.Finding{
			Level: "warning", Subject: "pots", Text: fmt.Sprintf("%v (%d)", ErrFull, p.o.MaxPots),
			Mend: "raise the node's limit of pots, or add a node",
		})
	}
	return out
}
