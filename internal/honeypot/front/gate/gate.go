// Package gate lets each attacker reach its own endpoint of the node, and nobody else any.
//
// It is one nftables table with a set of (source address, destination port): connections in it are
// redirected to the front's listener, all others to the endpoints' ports are dropped.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/ruleset"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

const (
	// DefaultTable is the table's name, of family inet.
	DefaultTable = "kokkuri_node"

	mendEvery = 500 * time.Millisecond
	chunk     = 500 // elements per batch
)

// Element lets packets from an address in Prefix to Port pass.
type Element struct {
	Prefix netip.Prefix // of all bits, or an IPv6 /64
	Port   uint16
}

// Options describe the gate.
type Options struct {
	Table       string       // DefaultTable where empty
	Addresses   []netip.Addr // of the endpoints
	First, Last uint16       // ports of the endpoints
	Listener4   uint16       // where IPv4 connections are redirected to
	Listener6   uint16
	NetNS       *netns.NS // whose rules; nil for the process's own
	Log         *slog.Logger
}

// Gate keeps the table. Its methods may be called concurrently.
type Gate struct {
	o   Options
	log *slog.Logger

	mu         sync.Mutex
	open       bool // the table is wanted
	elements   map[Element]struct{}
	generation uint32
	checked    bool
	mended     uint64
}

// Open puts the table in place, shut for everyone.
func Open(o Options) (*Gate, error) {
	if o.Table == "" {
		o.Table = DefaultTable
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{o: o, log: o.Log, open: true, elements: make(map[Element]struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.rebuild(); err != nil {
		return nil, err
	}
	return g, nil
}

// Remove deletes a table; one that does not exist is no error.
func Remove(ns *netns.NS, name string) error {
	if name == "" {
		name = DefaultTable
	}
	conn, err := nftables.New(nftables.WithNetNSFd(ns.Fd()))
	if err != nil {
		return fmt.Errorf("reach nftables: %w", err)
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete table %s: %w", name, err)
	}
	return nil
}

// Close removes the table. Nothing listens on the endpoints' ports without it.
func (g *Gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
	return Remove(g.o.NetNS, g.o.Table)
}

// Put lets elements pass; it returns when the kernel does.
func (g *Gate) Put(elements ...Element) error {
	for _, e := range elements {
		if !valid(e) {
			return fmt.Errorf("let %s pass to port %d: only single addresses and IPv6 /64 can", e.Prefix, e.Port)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh := make([]Element, 0, len(elements))
	for _, e := range elements {
		if _, ok := g.elements[e]; !ok {
			g.elements[e] = struct{}{}
			fresh = append(fresh, e)
		}
	}
	return g.apply(fresh, (*nftables.Conn).SetAddElements)
}

// Set lets exactly these elements pass.
func (g *Gate) Set(elements []Element) error {
	want := make(map[Element]bool, len(elements))
	for _, e := range elements {
		want[e] = true
	}
	var gone []Element
	g.mu.Lock()
	for e := range g.elements {
		if !want[e] {
			gone = append(gone, e)
		}
	}
	g.mu.Unlock()
	return errors.Join(g.Drop(gone...), g.Put(elements...))
}

// Drop shuts the gate for elements.
func (g *Gate) Drop(elements ...Element) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	gone := make([]Element, 0, len(elements))
	for _, e := range elements {
		if _, ok := g.elements[e]; ok {
			delete(g.elements, e)
			gone = append(gone, e)
		}
	}
	return g.apply(gone, (*nftables.Conn).SetDeleteElements)
}

func valid(e Element) bool {
	return e.Prefix.IsValid() && e.Prefix == e.Prefix.Masked() &&
		(e.Prefix.IsSingleIP() || e.Prefix.Addr().Is6() && e.Prefix.Bits() == 64)
}

// apply changes the sets; where that fails, because somebody else changed the table, it is made anew.
func (g *Gate) apply(elements []Element, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(elements) == 0 || !g.open {
		return nil
	}
	g.checked = false
	conn, err := g.conn()
	if err != nil {
		return err
	}
	layout := g.layout()
	for set, els := range layout.split(elements) {
		if err := change(conn, set, els); err != nil {
			return fmt.Errorf("change set %s: %w", set.Name, err)
		}
	}
	if err := conn.Flush(); err == nil {
		return nil
	}
	g.mended++
	return g.rebuild()
}

func (g *Gate) conn() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(g.o.NetNS.Fd()))
	if err != nil {
		return nil, fmt.Errorf("reach nftables: %w", err)
	}
	return conn, nil
}

// rebuild makes the table anew with all elements. The table and its first elements appear at once.
func (g *Gate) rebuild() error {
	g.checked = false
	conn, err := g.conn()
	if err != nil {
		return err
	}
	layout := g.layout()
	layout.create(conn)
	for elements := range slices.Chunk(slices.Collect(maps.Keys(g.elements)), chunk) {
		for set, els := range layout.split(elements) {
			if err := conn.SetAddElements(set, els); err != nil {
				return fmt.Errorf("fill set %s: %w", set.Name, err)
			}
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("make table %s: %w", g.o.Table, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make table %s: %w", g.o.Table, err)
	}
	return nil
}

// Run keeps the table right until ctx is done.
func (g *Gate) Run(ctx context.Context) {
	tick := time.NewTicker(mendEvery)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.mu.Lock()
		err := g.mend(ctx)
		g.mu.Unlock()
		if err != nil && !failed {
			g.log.WarnContext(ctx, "gate of the endpoints", "error", err)
		}
		failed = err != nil
	}
}

// Mended returns how often the table had to be made anew.
func (g *Gate) Mended() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mended
}

// mend looks at the table where any rule of the kernel changed since it was last found right.
func (g *Gate) mend(ctx context.Context) error {
	if !g.open {
		return nil
	}
	now, err := ruleset.Generation(g.o.NetNS.Fd())
	if err != nil || g.checked && now == g.generation {
		return err
	}
	conn, err := g.conn()
	if err != nil {
		return err
	}
	whole, err := g.layout().matches(conn, g.elements)
	if err != nil {
		return err
	}
	if whole {
		g.generation, g.checked = now, true
		return nil
	}
	g.mended++
	g.log.WarnContext(ctx, "somebody changed the gate of the endpoints; it is made anew", "table", g.o.Table)
	return g.rebuild()
}
