// Package divert makes the kernel redirect what the server wants redirected, and nothing else: desired
// redirects become elements of nftables maps, and whatever differs is mended.
package divert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// MaxLifetime is how long an element lives in the kernel without being renewed, at most.
const MaxLifetime = 10 * time.Minute

// Options say what a Divert may do. The zero value of each but Services and StateDir is sensible.
type Options struct {
	Table      string           // nftables table, family inet; "kokkuri"
	Services   []event.HostPort // what may be redirected; nothing else is
	Allow      []netip.Prefix   // sources that are never redirected
	Endpoints  []netip.Prefix   // where redirects may lead; empty: anywhere
	DockerUser bool             // add a marked rule to Docker's DOCKER-USER where Docker's policy is in the way
	StateDir   string           // keeps what must be put back

	Lifetime time.Duration // of elements; MaxLifetime at most, which is the default
	Renew    time.Duration // how old an element is when it is renewed; two fifths of Lifetime
	Tick     time.Duration // how often everything is compared; 30 s, or half of Renew where that is less
	Idle     time.Duration // how long the table and sysctls stay when nothing is redirected any more; 1 min

	Changed func() // called when Run made something else of a redirect than Set and Put told; may be nil

	NetNS int // file descriptor of the network namespace to work in; 0: the process's own
	Log   *slog.Logger
	Now   func() time.Time
}

// Divert keeps one host's redirects. Its methods are safe for concurrent use.
type Divert struct {
	o     Options
	space space

	mu        sync.Mutex
	table     *table
	host      *host
	paths     *paths
	forward   *forwarder
	policy    policy
	others    map[netip.Addr]string     // nodes and servers by what they are
	want      map[string]event.Redirect // by id
	known     bool                      // Set or Put was called: what is wanted is known
	applied   map[string]event.Applied  // by id
	placed    map[key]placed            // what is in the kernel, as far as we know
	endpoints map[netip.Addr]time.Time  // when they were last written
	forwarded map[string]bool           // what passes already: "4 eth0"
	ready     bool                      // the table is as wanted and its contents are known
	idle      time.Time                 // since when nothing is redirected; zero: something is
	contested bool                      // more than one redirect is of the same source and port
	findings  []event.Finding
	failing   []event.Finding // what goes wrong beside redirects, by subject

	waiting map[key]*waiting // whose connections are to be cut
	cutNow  chan struct{}
	wake    chan struct{}

	noted bool // something became of a redirect

	touched atomic.Bool // others changed our table
	foreign atomic.Bool // others changed rules of their own
}

// placed is an element that we put or found.
type placed struct {
	id       string
	endpoint netip.AddrPort
	until    time.Time
	fresh    bool
}

// waiting are connections that wait to be cut.
type waiting struct{ spare []netip.AddrPort }

// New prepares a Divert. The kernel is not touched before Set or Put.
func New(o Options) (*Divert, error) {
	if o.StateDir == "" {
		return nil, errors.New("divert: no state folder")
	}
	if o.Table == "" {
		o.Table = "kokkuri"
	}
	if o.Lifetime <= 0 || o.Lifetime > MaxLifetime {
		o.Lifetime = MaxLifetime
	}
	if o.Renew <= 0 || o.Renew >= o.Lifetime {
		o.Renew = o.Lifetime * 2 / 5
	}
	if o.Tick <= 0 {
		o.Tick = min(30*time.Second, o.Renew/2)
	}
	if o.Idle <= 0 {
		o.Idle = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	sp := space{o.NetNS}
	st, err := load(o.StateDir, sp)
	if err != nil {
		return nil, fmt.Errorf("divert: %w", err)
	}
	h := &host{space: sp}
	return &Divert{
		o: o, space: sp, host: h,
		table:     &table{name: o.Table, space: sp},
		paths:     &paths{space: sp, host: h, table: o.Table, dockerUser: o.DockerUser},
		forward:   &forwarder{space: sp, dir: o.StateDir, state: st, put: put},
		policy:    policy{services: o.Services, allow: o.Allow, endpoints: o.Endpoints},
		want:      map[string]event.Redirect{},
		applied:   map[string]event.Applied{},
		placed:    map[key]placed{},
		endpoints: map[netip.Addr]time.Time{},
		forwarded: map[string]bool{},
		waiting:   map[key]*waiting{},
		cutNow:    make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
	}, nil
}

// Close frees what a Divert holds open. The redirects stay.
func (d *Divert) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table.close()
	d.host.close()
}

// Set makes the kernel redirect exactly what want holds. It may be repeated; it mends what differs, goes on past
// what fails, and reports what became of each redirect. The error says what could not be done at all.
func (d *Divert) Set(ctx context.Context, want event.Desired) ([]event.Applied, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	others := map[netip.Addr]string{}
	for _, a := range want.Servers {
		others[event.Canonical(a)] = "server"
	}
	for _, a := range want.Nodes {
		others[event.Canonical(a)] = "node"
	}
	d.others, d.known = others, true
	clear(d.want)
	for _, r := range want.Redirects {
		d.want[r.ID] = r
	}
	maps.DeleteFunc(d.applied, func(id string, _ event.Applied) bool { _, ok := d.want[id]; return !ok })
	d.paths.forget() // iptables-legacy tells no one of its changes
	err := d.reconcile(ctx)
	return d.outcome(want.Redirects), err
}

// Put adds or changes redirects; the others stay as they are. Where the kernel is as it was left, that is one
// batch of netlink messages.
func (d *Divert) Put(ctx context.Context, rs []event.Redirect) ([]event.Applied, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = true
	for _, r := range rs {
		d.want[r.ID] = r
	}
	if d.quick(ctx, rs) {
		return d.outcome(rs), nil
	}
	err := d.reconcile(ctx)
	return d.outcome(rs), err
}

// Remove ends redirects by id. Connections that are redirected already go on.
func (d *Divert) Remove(ctx context.Context, ids []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var changes []change
	quick := d.ready && !d.contested && !d.touched.Load() && len(ids) <= chunk
	for _, id := range ids {
		r, ok := d.want[id]
		k := key{canonical(r.Source), r.Port}
		if p, here := d.placed[k]; ok && here && p.id == id {
			changes = append(changes, change{element: element{key: k}, del: true})
		} else if a := d.applied[id]; a.State == event.Active {
			quick = false
		}
		delete(d.want, id)
		delete(d.applied, id)
	}
	if !quick || len(changes) > 0 && d.table.write(changes, nil) != nil {
		return d.reconcile(ctx)
	}
	for _, c := range changes {
		delete(d.placed, c.key)
		delete(d.waiting, c.key)
	}
	return nil
}

// outcome is called with the state that was reached.
func (d *Divert) outcome(rs []event.Redirect) []event.Applied {
	out := make([]event.Applied, 0, len(rs))
	for _, r := range rs {
		if a, ok := d.applied[r.ID]; ok {
			out = append(out, a)
		}
	}
	return out
}

// note records what became of a redirect. The time stays while nothing changes.
func (d *Divert) note(id string, s event.State, reason string) {
	if was, ok := d.applied[id]; ok && was.State == s && was.Reason == reason {
		return
	}
	d.noted = true
	d.applied[id] = event.Applied{ID: id, State: s, Reason: reason, At: d.o.Now()}
}

// Findings tells what is wrong on this host, each with its mend.
func (d *Divert) Findings() []event.Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Concat(d.findings, d.failing)
}

// fail keeps a finding about something beside the redirects until it works again (err nil).
func (d *Divert) fail(subject string, err error) {
	d.failing = slices.DeleteFunc(d.failing, func(f event.Finding) bool { return f.Subject == subject })
	if err != nil {
		d.o.Log.Warn("divert", "subject", subject, "error", err)
		d.failing = append(d.failing, event.Finding{Level: "warning", Subject: subject, Text: err.Error()})
	}
}

// Addresses are the host's global unicast addresses, sorted.
func (d *Divert) Addresses() ([]netip.Addr, error) {
	f, err := d.host.get()
	if err != nil {
		return nil, err
	}
	return slices.Clone(f.global), nil
}

// Release takes everything of ours out of the host: table, sysctls, rules. It cuts nothing, needs no running
// agent, and may be repeated. An agent that runs meanwhile puts its redirects back.
func Release(ctx context.Context, o Options) error {
	d, err := New(o)
	if err != nil {
		return err
	}
	defer d.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.teardown(ctx)
}

// teardown puts back first what the table made harmless: without it, forwarding would be open to all.
func (d *Divert) teardown(ctx context.Context) error {
	errF := d.space.do(d.forward.restore)
	errD := closeDocker(ctx, d.space, d.forward.state, d.o.StateDir, d.o.Table)
	var errT error
	if errF == nil {
		errT = d.table.drop()
	}
	clear(d.placed)
	clear(d.endpoints)
	clear(d.forwarded)
	d.ready = false
	return errors.Join(errF, errD, errT)
}
