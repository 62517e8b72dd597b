package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
)

// grantTimeout is how long one node may take for a lease, which costs it microseconds.
const grantTimeout = 500 * time.Millisecond

// nodeTimeout is how long after its last word a node counts as gone.
const nodeTimeout = 45 * time.Second

// leaseCaller asks a node for a lease.
type leaseCaller func(ctx context.Context, node string, r event.LeaseRequest) (event.LeaseReply, error)

// nodes knows the honeypot nodes and gets leases from them. It is safe for concurrent use.
type nodes struct {
	call leaseCaller
	now  func() time.Time
	log  *slog.Logger

	mu     sync.RWMutex
	byName map[string]event.NodeStatus
}

func newNodes(call leaseCaller, log *slog.Logger) *nodes {
	return &nodes{call: call, now: time.Now, log: log, byName: map[string]event.NodeStatus{}}
}

// told notes a node's status and reports whether it can take what it could not before: it was gone, or offers more.
func (n *nodes) told(s event.NodeStatus) (more bool) {
	s.At = n.now() // by our clock
	n.mu.Lock()
	defer n.mu.Unlock()
	old, ok := n.byName[s.Node]
	n.byName[s.Node] = s
	return !ok || n.now().Sub(old.At) > nodeTimeout || adds(old.Services, s.Services) || adds(old.Addresses, s.Addresses)
}

// silent has a node that does not answer count as gone until it speaks again, so that nobody waits for it twice.
func (n *nodes) silent(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.byName[name]; ok {
		s.At = n.now().Add(-nodeTimeout - time.Second)
		n.byName[name] = s
	}
}

func adds[T comparable](old, now []T) bool {
	return slices.ContainsFunc(now, func(x T) bool { return !slices.Contains(old, x) })
}

// load puts back a node that was known before a restart; it counts as gone until it speaks.
func (n *nodes) load(s event.NodeStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byName[s.Node] = s
}

// remove forgets a node.
func (n *nodes) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byName, name)
}

// connected reports whether a node spoke lately.
func (n *nodes) connected(s event.NodeStatus) bool { return n.now().Sub(s.At) <= nodeTimeout }

// all returns every node by name.
func (n *nodes) all() []event.NodeStatus {
	n.mu.RLock()
	defer n.mu.RUnlock()
	out := make([]event.NodeStatus, 0, len(n.byName))
	for _, s := range n.byName {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b event.NodeStatus) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// addresses are the endpoint addresses of every node.
func (n *nodes) addresses() []netip.Addr {
	var out []netip.Addr
	for _, s := range n.all() {
		out = append(out, s.Addresses...)
	}
	return out
}

// Offers implements decide.Leaser.
func (n *nodes) Offers() []event.Service {
	var out []event.Service
	for _, s := range n.all() {
		if n.connected(s) {
			out = append(out, s.Services...)
		}
	}
	return out
}

// Grant implements decide.Leaser: the first connected node that serves the service over the attacker's address family.
func (n *nodes) Grant(ctx context.Context, r event.LeaseRequest) (event.Lease, error) {
	err := decide.ErrNoNode
	for _, s := range n.all() {
		if !n.connected(s) || !slices.Contains(s.Services, r.Service) || !slices.ContainsFunc(s.Addresses, sameFamily(r.Attacker)) {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, grantTimeout)
		reply, callErr := n.call(asked, s.Node, r)
		cancel()
		switch {
		case callErr != nil:
			n.silent(s.Node)
			err = fmt.Errorf("ask node %s for a lease: %w", s.Node, callErr)
		case reply.Error != "":
			err = fmt.Errorf("node %s gives no lease: %s", s.Node, reply.Error)
		case !slices.Contains(s.Addresses, reply.Lease.Endpoint.Addr()):
			err = fmt.Errorf("node %s gave an endpoint that isn't its own: %s", s.Node, reply.Lease.Endpoint)
		default:
			return reply.Lease, nil
		}
	}
	return event.Lease{}, err
}

// Release implements decide.Leaser. A node that is gone drops the lease when it comes back, since the server's list lacks it.
func (n *nodes) Release(ctx context.Context, r event.Redirect) {
	if r.Node == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	reply, err := n.call(ctx, r.Node, event.LeaseRequest{Op: "release", Attacker: r.Source, Host: r.Host, Service: r.Service})
	if err == nil && reply.Error != "" {
		err = errors.New(reply.Error)
	}
	if err != nil {
		n.log.WarnContext(ctx, "lease not released; the node drops it when it next reports", "node", r.Node, "source", r.Source, "error", err)
	}
}

func sameFamily(p netip.Prefix) func(netip.Addr) bool {
	return func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() }
}
