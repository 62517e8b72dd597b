package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
)

// What a host or node may tell of itself, at most.
const (
	maxAddresses = 64
	maxServices  = 64
	maxFindings  = 64
	maxText      = 1024
	maxApplied   = 100_000
	maxPots      = 10_000
)

// serveBus answers the agents and nodes; stop ends it.
func (s *Server) serveBus() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	serve := func(f func(), err error) error {
		if err == nil {
			stops = append(stops, f)
		}
		return err
	}
	for _, err := range []error{
		serve(bus.Serve(s.conn, bus.DesiredSubject("*"), s.answerDesired)),
		serve(bus.Serve(s.conn, bus.StatusSubject("*"), s.takeHostStatus)),
		serve(bus.Serve(s.conn, bus.NodesSubject("*"), s.takeNodeStatus)),
		serve(bus.Serve(s.conn, bus.PersonaSubject("*"), s.takePersona)),
		serve(bus.Serve(s.conn, bus.PersonasSubject("*"), s.answerPersona)),
		serve(bus.Serve(s.conn, bus.NodeKeysSubject("*"), s.answerNodeKeys)),
	} {
		if err != nil {
			stop()
			return nil, fmt.Errorf("answer hosts and nodes: %w", err)
		}
	}
	return stop, nil
}

// answerDesired tells a host all that it should redirect.
func (s *Server) answerDesired(_ context.Context, name string, _ struct{}) (event.Desired, error) {
	d := s.decider.Board().Desired(name)
	d.Nodes, d.Servers, d.Now = s.nodes.addresses(), s.own.get(), time.Now()
	return d, nil
}

// boundedCounts keeps of what an agent counted as much as an agent of ours would tell: a host may be an attacker's.
func boundedCounts(counts map[string]int64) map[string]int64 {
	const names, longest = 32, 32
	out := map[string]int64{}
	for name, n := range counts {
		if len(out) < names && len(name) <= longest && n > 0 {
			out[name] = n
		}
	}
	return out
}

// takeHostStatus notes what an agent tells of its host.
func (s *Server) takeHostStatus(ctx context.Context, name string, st event.HostStatus) (struct{}, error) {
	st.Counts = boundedCounts(st.Counts)
	st.Host = name // as its certificate says
	st.Addresses = usable(st.Addresses)
	st.Services = st.Services[:min(len(st.Services), maxServices)]
	st.Findings = shortened(st.Findings)
	st.Version = cut(st.Version)
	applied := st.Applied[:min(len(st.Applied), maxApplied)]
	for i := range applied {
		applied[i].Reason = cut(applied[i].Reason)
	}
	st.Applied = nil
	s.hosts.put(name, func(h *host) {
		h.Enrolled, h.Status, h.LastSeen = true, st, time.Now()
	})
	if err := s.decider.Applied(ctx, name, applied); err != nil {
		return struct{}{}, fmt.Errorf("note what host %s applied: %w", name, err)
	}
	if err := s.store.PutHost(ctx, st, time.Now()); err != nil {
		return struct{}{}, fmt.Errorf("note status of host %s: %w", name, err)
	}
	return struct{}{}, nil
}

// takeNodeStatus notes what a node tells of itself and answers with the leases that it should hold.
func (s *Server) takeNodeStatus(ctx context.Context, name string, st event.NodeStatus) (event.NodeDesired, error) {
	st.Node = name // as its certificate says
	st.Addresses = usable(st.Addresses)
	st.Services = st.Services[:min(len(st.Services), maxServices)]
	st.Findings = shortened(st.Findings)
	st.Version = cut(st.Version)
	st.Pots = st.Pots[:min(len(st.Pots), maxPots)]
	for i := range st.Pots {
		st.Pots[i].Node = name
	}
	if s.nodes.told(st) {
		s.log.InfoContext(ctx, "node is there", "node", name, "addresses", st.Addresses, "services", st.Services)
		s.decider.Wake()
	}
	if err := s.store.PutNode(ctx, st, time.Now()); err != nil {
		return event.NodeDesired{}, fmt.Errorf("note status of node %s: %w", name, err)
	}
	var want event.NodeDesired
	for _, r := range s.decider.Board().Live(func(r event.Redirect) bool { return r.Node == name && r.Endpoint.IsValid() }) {
		seen := s.hosts.Addresses(r.Host)
		want.Leases = append(want.Leases, event.Lease{
			ID: r.LeaseID, Attacker: r.Source, Host: r.Host, Service: r.Service, Seen: seen,
			Target: decide.Target(r.Source, seen, r.Port), Known: s.decider.Logins().Known(r.Source),
			Egress: r.Egress, Endpoint: r.Endpoint, Node: name, Created: r.CreatedAt, Expires: r.ExpiresAt,
		})
	}
	want.Own = s.ours()
	return want, nil
}

// ours are the addresses that nodes must not let their pots reach.
func (s *Server) ours() []netip.Addr {
	out := append(s.nodes.addresses(), s.own.get()...)
	for _, name := range s.hosts.Names() {
		out = append(out, s.hosts.Addresses(name)...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// takeSession stores what a node tells of a session, and shows it to those who watch.
func (s *Server) takeSession(ctx context.Context, r event.SessionReport) error {
	if err := s.store.PutReport(ctx, r); err != nil {
		return fmt.Errorf("store session %s: %w", r.Session.ID, err)
	}
	for i := range r.Evidence {
		r.Evidence[i].Session = r.Session.ID
		s.counters.add("evidence", string(r.Evidence[i].Kind))
		s.tail.publish(api.Watched{Session: &r.Session, Evidence: &r.Evidence[i]})
	}
	return nil
}

// Changed implements decide.Notifier. A host that misses it asks for the whole state when it is back.
func (s *Server) Changed(name string, c event.Change) {
	if err := bus.Publish(s.conn, bus.RedirectsSubject(name), c); err != nil {
		s.log.Warn("change not sent; the host asks for it when it is back", "host", name, "error", err)
	}
}

// callNode asks a node for a lease.
func (s *Server) callNode(ctx context.Context, node string, r event.LeaseRequest) (event.LeaseReply, error) {
	return bus.Request[event.LeaseRequest, event.LeaseReply](ctx, s.conn, bus.LeaseSubject(node), r)
}

// usable leaves addresses that traffic can come from or go to.
func usable(as []netip.Addr) []netip.Addr {
	out := []netip.Addr{}
	for _, a := range as {
		a = event.Canonical(a)
		if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || len(out) == maxAddresses {
			continue
		}
		out = append(out, a)
	}
	return out
}

func shortened(fs []event.Finding) []event.Finding {
	fs = fs[:min(len(fs), maxFindings)]
	for i := range fs {
		fs[i] = event.Finding{Level: cut(fs[i].Level), Subject: cut(fs[i].Subject), Text: cut(fs[i].Text), Mend: cut(fs[i].Mend)}
	}
	return fs
}

// cut bounds what a host or node says.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }
