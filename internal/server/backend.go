package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
	"github.com/kokkuri/kokkuri/internal/server/decide"
	"github.com/kokkuri/kokkuri/internal/store"
)

// hostTimeout is how long after its last word an agent counts as gone; it speaks every 30 seconds.
const hostTimeout = 75 * time.Second

// backend answers the commands. What it does not define itself it takes from the store as it is.
type backend struct{ s *Server }

func filter(f api.Filter) store.Filter { return store.Filter(f) }

// listenAPI opens the socket of the commands.
func (s *Server) listenAPI(ctx context.Context) (serve func(context.Context) error, err error) {
	l, err := api.Listen(ctx, s.opts.Config.Socket, backend{s}, s.part("api"))
	if err != nil {
		return nil, fmt.Errorf("answer commands: %w", err)
	}
	return l.Run, nil
}

// Hosts implements api.Machines.
func (b backend) Hosts(ctx context.Context) ([]api.Host, error) {
	stored, err := b.s.store.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	enrolledAt := map[string]time.Time{}
	for _, h := range stored {
		enrolledAt[h.Name] = h.EnrolledAt
	}
	live := map[string]int{}
	for _, r := range b.s.decider.Board().Live(nil) {
		live[r.Host]++
	}
	roads := b.s.pipeline.roadsByHost()
	out := []api.Host{}
	for _, h := range b.s.hosts.all() {
		out = append(out, api.Host{
			Name: h.Name, Enrolled: h.Enrolled, Connected: time.Since(h.LastSeen) < hostTimeout, EnrolledAt: enrolledAt[h.Name], LastSeen: h.LastSeen,
			Version: h.Status.Version, Aliases: h.Aliases, Addresses: orEmpty(h.addresses()), Services: orEmpty(h.Status.Services),
			Roads: roads[h.Name], Redirects: live[h.Name], LeftOut: h.Status.Counts, Findings: orEmpty(slices.Concat(h.Status.Findings, b.s.senderFindings(h.Name))),
		})
	}
	return out, nil
}

// Nodes implements api.Machines.
func (b backend) Nodes(ctx context.Context) ([]api.Node, error) {
	stored, err := b.s.store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	told := map[string]event.NodeStatus{}
	for _, n := range b.s.nodes.all() {
		told[n.Node] = n
	}
	leases := map[string]int{}
	for _, r := range b.s.decider.Board().Live(nil) {
		leases[r.Node]++
	}
	out := []api.Node{}
	for _, n := range stored {
		t := told[n.Name]
		out = append(out, api.Node{
			Name: n.Name, Connected: b.s.nodes.connected(t), EnrolledAt: n.EnrolledAt, LastSeen: t.At, Version: t.Version,
			Addresses: orEmpty(t.Addresses), Services: orEmpty(t.Services), Pots: len(t.Pots), Leases: leases[n.Name], Findings: orEmpty(t.Findings),
		})
	}
	return out, nil
}

// Enroll implements api.Machines.
func (b backend) Enroll(ctx context.Context, role, name string, ttl time.Duration) (api.Enrolment, error) {
	t, err := b.s.ca.NewToken(ctx, b.s.store, pki.Role(role), name, ttl)
	if err != nil {
		return api.Enrolment{}, err
	}
	return api.Enrolment{Role: role, Name: name, Token: t.String(), ExpiresAt: t.Expires}, nil
}

// IssueSyslog implements api.Machines.
func (b backend) IssueSyslog(_ context.Context, name, csr string) (api.SyslogCertificate, error) {
	_, names := relays(b.s.opts.Config.Syslog.Relays)
	if _, known := b.s.hosts.get(name); !known && !slices.Contains(names, name) {
		return api.SyslogCertificate{}, api.NotFound("there is no host or relay "+name,
			"name the host under server.hosts, or enrol its agent (kokkuri enroll "+name+"); a relay belongs into server.syslog.relays")
	}
	cert, expires, err := b.s.ca.IssueSyslog([]byte(csr), name)
	if err != nil {
		return api.SyslogCertificate{}, err
	}
	return api.SyslogCertificate{Certificate: string(cert), Authority: string(b.s.ca.Certificate()), ExpiresAt: expires}, nil
}

// RemoveHost implements api.Machines.
func (b backend) RemoveHost(ctx context.Context, name string) error {
	if _, ok := b.s.hosts.get(name); !ok {
		return api.NotFound("there is no host "+name, "kokkuri hosts ls lists them")
	}
	if _, err := b.release(ctx, func(r event.Redirect) bool { return r.Host == name }, "its host was removed"); err != nil {
		return err
	}
	if _, err := b.s.ca.Revoke(pki.RoleHost, name); err != nil {
		return fmt.Errorf("revoke certificates of host %s: %w", name, err)
	}
	if _, err := b.s.ca.Revoke(pki.RoleSyslog, name); err != nil {
		return fmt.Errorf("revoke certificates of the syslog of host %s: %w", name, err)
	}
	b.s.broker.Disconnect(pki.RoleHost, name)
	if err := b.s.store.RemoveHost(ctx, name); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	b.s.hosts.remove(name)
	return nil
}

// RemoveNode implements api.Machines.
func (b backend) RemoveNode(ctx context.Context, name string) error {
	if !slices.ContainsFunc(b.s.nodes.all(), func(n event.NodeStatus) bool { return n.Node == name }) {
		return api.NotFound("there is no node "+name, "kokkuri nodes ls lists them")
	}
	if _, err := b.release(ctx, func(r event.Redirect) bool { return r.Node == name }, "its node was removed"); err != nil {
		return err
	}
	if _, err := b.s.ca.Revoke(pki.RoleNode, name); err != nil {
		return fmt.Errorf("revoke certificates of node %s: %w", name, err)
	}
	b.s.broker.Disconnect(pki.RoleNode, name)
	b.s.nodes.remove(name)
	return b.s.store.RemoveNode(ctx, name)
}

// Redirects implements api.Records.
func (b backend) Redirects(ctx context.Context, f api.Filter) ([]event.Redirect, error) {
	return b.s.store.Redirects(ctx, filter(f))
}

// Redirect implements api.Records.
func (b backend) Redirect(ctx context.Context, id string) (event.Redirect, error) {
	return b.s.store.Redirect(ctx, id)
}

// Offences implements api.Records.
func (b backend) Offences(ctx context.Context, f api.Filter) ([]event.Offence, error) {
	return b.s.store.Offences(ctx, filter(f))
}

// Offence implements api.Records.
func (b backend) Offence(ctx context.Context, id string) (event.Offence, error) {
	return b.s.store.Offence(ctx, id)
}

// Sessions implements api.Records.
func (b backend) Sessions(ctx context.Context, f api.Filter) ([]event.Session, error) {
	return b.s.store.Sessions(ctx, filter(f))
}

// Session implements api.Records.
func (b backend) Session(ctx context.Context, id string) (event.Session, error) {
	return b.s.store.Session(ctx, id)
}

// Attackers implements api.Views.
func (b backend) Attackers(ctx context.Context, f api.Filter) ([]api.Attacker, error) {
	found, err := b.s.store.Attackers(ctx, filter(f))
	if err != nil {
		return nil, err
	}
	out := make([]api.Attacker, len(found))
	for i, a := range found {
		out[i] = api.Attacker(a)
	}
	return out, nil
}

// Pots implements api.Views.
func (b backend) Pots(ctx context.Context, f api.Filter) ([]event.Pot, error) {
	return b.s.store.Pots(ctx, filter(f))
}

// Status implements api.Views.
func (b backend) Status(ctx context.Context) (api.Status, error) {
	s := b.s
	bus, err := s.broker.Stats(ctx)
	if err != nil {
		return api.Status{}, err
	}
	evaluated := s.pipeline.position()
	out := api.Status{
		Version: s.opts.Version, StartedAt: s.started, Paused: s.decider.Paused(), DryRun: s.opts.Config.DryRun, Breaker: []string{},
		Stream:        api.Stream{Last: bus.Logs.Last, Evaluated: evaluated, Lag: bus.Logs.Last - min(evaluated, bus.Logs.Last), Bytes: bus.Logs.Bytes},
		LiveRedirects: len(s.decider.Board().Live(nil)), Counters: s.allCounters(bus), Findings: s.findings(ctx), Quarantine: s.quarantine(),
	}
	for _, h := range s.hosts.all() {
		if s.decider.Tripped(h.Name) {
			out.Breaker = append(out.Breaker, h.Name)
		}
	}
	return out, nil
}

// Tail implements api.Views.
func (b backend) Tail() (<-chan api.Watched, func()) { return b.s.tail.subscribe() }

// AddRedirects implements api.Operator.
func (b backend) AddRedirects(ctx context.Context, a api.AddRedirect) ([]event.Redirect, error) {
	names := []string{a.Host}
	if a.AllHosts {
		names = nil
		for _, h := range b.s.hosts.all() {
			names = append(names, h.Name)
		}
	}
	out := []event.Redirect{}
	var refused error
	for _, name := range names {
		if _, ok := b.s.hosts.get(name); !ok {
			return out, api.NotFound("there is no host "+name, "kokkuri hosts ls lists them; kokkuri enroll makes a token for a new one")
		}
		r, err := b.s.decider.Add(ctx, decide.ByHand{
			Source: a.Source, Service: a.Service, Host: name, TTL: a.TTL, Egress: a.Egress, Spare: b.s.pipeline.spare(name, a.Service, a.Source),
		})
		if errors.Is(err, decide.ErrRefused) {
			refused = errors.Join(refused, err)
			continue
		}
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	if len(out) == 0 && refused != nil {
		return out, api.Refused(refused.Error(), "")
	}
	return out, nil
}

// Release implements api.Operator.
func (b backend) Release(ctx context.Context, s api.Selector) ([]event.Redirect, error) {
	named, _ := b.s.decider.Board().Get(s.ID)
	return b.release(ctx, func(r event.Redirect) bool {
		// What one offence caused ends together.
		together := named.OffenceID != "" && r.OffenceID == named.OffenceID
		return r.ID == s.ID && s.ID != "" || together || s.Source.IsValid() && s.Source.Overlaps(r.Source)
	}, "by hand")
}

func (b backend) release(ctx context.Context, want func(event.Redirect) bool, reason string) ([]event.Redirect, error) {
	return b.s.decider.Release(ctx, want, reason)
}

// Pause implements api.Operator. That it is paused is stored first, so that it holds after a crash.
func (b backend) Pause(ctx context.Context) ([]event.Redirect, error) {
	if err := b.s.store.SetPaused(ctx, true); err != nil {
		return nil, err
	}
	return b.s.decider.Pause(ctx)
}

// Resume implements api.Operator.
func (b backend) Resume(ctx context.Context) error {
	if err := b.s.store.SetPaused(ctx, false); err != nil {
		return err
	}
	b.s.decider.Resume()
	return b.s.pipeline.reopen(ctx, 0)
}

// AllowList implements api.AllowList.
func (b backend) AllowList(ctx context.Context) ([]api.AllowEntry, error) {
	stored, err := b.s.store.AllowList(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.AllowEntry{}
	for _, p := range b.s.opts.Config.Allow {
		out = append(out, api.AllowEntry{Allowed: api.Allowed{Prefix: p}, Fixed: true})
	}
	for _, a := range stored {
		out = append(out, api.AllowEntry{Allowed: api.Allowed(a)})
	}
	return out, nil
}

// AllowAdd implements api.AllowList.
func (b backend) AllowAdd(ctx context.Context, a api.Allowed) ([]event.Redirect, error) {
	if err := b.s.store.AllowAdd(ctx, store.Allowed(a)); err != nil {
		return nil, err
	}
	b.s.allow.Add(a.Prefix)
	return b.release(ctx, func(r event.Redirect) bool { return a.Prefix.Overlaps(r.Source) }, "the allow-list covers it")
}

// AllowRemove implements api.AllowList.
func (b backend) AllowRemove(ctx context.Context, p netip.Prefix) error {
	if slices.Contains(b.s.opts.Config.Allow, p) {
		return api.Refused(p.String()+" is on the allow-list by configuration", "remove it from server.allow and restart the server")
	}
	if err := b.s.store.AllowRemove(ctx, p); err != nil {
		return err
	}
	b.s.allow.Remove(p)
	return b.s.pipeline.reopen(ctx, 0)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
