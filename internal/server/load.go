package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/store"
)

func loadRules(path string) (detect.Rules, error) {
	if path == "" {
		return detect.DefaultRules(), nil
	}
	r, err := detect.LoadRules(path)
	if err != nil {
		return r, fmt.Errorf("rules: %w", err)
	}
	return r, nil
}

// load brings back what was known before, and adds what the configuration says.
func (s *Server) load(ctx context.Context) error {
	known, err := s.store.Hosts(ctx)
	if err != nil {
		return err
	}
	for _, k := range known {
		s.hosts.put(k.Name, func(h *host) {
			h.Enrolled, h.Status, h.LastSeen = !k.EnrolledAt.IsZero(), k.Status, k.LastSeen
		})
	}
	for _, i := range s.opts.Config.Hosts {
		s.hosts.put(i.Name, func(h *host) { h.Aliases, h.Static, h.Road = i.Aliases, i.Addresses, i.Road })
	}
	s.nodes = newNodes(s.callNode, s.part("nodes"))
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		n.Status.Node, n.Status.At = n.Name, n.LastSeen
		s.nodes.load(n.Status)
	}
	counted, err := s.store.LoadCounters(ctx)
	if err != nil {
		return err
	}
	s.counters.load(counted)
	s.allow = decide.NewAllow(s.opts.Config.Allow...)
	allowed, err := s.store.AllowList(ctx)
	if err != nil {
		return err
	}
	for _, a := range allowed {
		s.allow.Add(a.Prefix)
	}
	return nil
}

// loadBreaker counts the redirects of the last hour, so that a server that crashes again and again has a breaker too.
func (s *Server) loadBreaker(ctx context.Context) (*decide.Breaker, error) {
	b := decide.NewBreaker(s.opts.Config.Breaker.SourcesPerHour)
	if s.opts.Config.Breaker.SourcesPerHour == 0 {
		return b, nil
	}
	recent, err := s.store.Redirects(ctx, store.Filter{Limit: breakerLooksBack})
	if err != nil {
		return nil, err
	}
	for _, r := range slices.Backward(recent) {
		if r.Rule != decide.Manual && time.Since(r.CreatedAt) < time.Hour {
			b.Allow(r.Host, r.Source, r.CreatedAt)
		}
	}
	return b, nil
}

// isOver reports whether the redirects of an offence, if it had any, have all ended.
func (s *Server) isOver(ctx context.Context, offence string) (bool, error) {
	of, err := s.store.RedirectsOf(ctx, offence)
	if err != nil {
		return false, err
	}
	return len(of) > 0 && !slices.ContainsFunc(of, func(r event.Redirect) bool { return r.State.Live() }), nil
}

// loadLogins brings back what was learnt of logins.
func (s *Server) loadLogins(ctx context.Context) (*decide.Logins, error) {
	l := decide.NewLogins(loginSources, loginMemory)
	saved, err := s.store.Logins(ctx, time.Now().Add(-loginMemory))
	if err != nil {
		return nil, err
	}
	for _, r := range saved {
		l.Load(decide.Login{
			LoginKey: decide.LoginKey(r.LoginKey), TrustedAt: r.TrustedAt, FailedAt: r.FailedAt, LastAt: r.LastAt, SucceededAt: r.SucceededAt,
			Failures: r.Failures, Account: r.Account,
		})
	}
	return l, nil
}

// savedIn adapts the store to the pipeline.
type savedIn struct{ *store.SQLite }

// SaveCheckpoint implements checkpoints.
func (s savedIn) SaveCheckpoint(ctx context.Context, c Checkpoint) error {
	out := store.Checkpoint{Sequence: c.Sequence, State: c.State}
	for _, r := range c.Put {
		out.Put = append(out.Put, store.Login{
			LoginKey: store.LoginKey(r.LoginKey), TrustedAt: r.TrustedAt, FailedAt: r.FailedAt, LastAt: r.LastAt, SucceededAt: r.SucceededAt,
			Failures: r.Failures, Account: r.Account,
		})
	}
	for _, k := range c.Gone {
		out.Gone = append(out.Gone, store.LoginKey(k))
	}
	return s.SQLite.SaveCheckpoint(ctx, out)
}
