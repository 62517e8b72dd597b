package decide

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// RedirectID is the id of the redirect that an offence causes of its own service on its own host.
func RedirectID(offence string) string { return "r" + offence }

// furtherID is the id of another redirect of an offence, the same whenever it is worked out.
func furtherID(offence, host string, s event.Service) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %q", offence, host, s))
	return "r" + hex.EncodeToString(sum[:8])
}

// redirects are what an offence asks for: of its service on its host first, and what its scope adds, without
// the targets that stand under something's protection.
func (d *Decider) redirects(o event.Offence) []event.Redirect {
	now := d.now()
	var out []event.Redirect
	add := func(host string, s event.Service) {
		port := d.opts.Hosts.Port(host, s)
		own := host == o.Host && s == o.Service
		if !own && (port == 0 || d.spared(host, o, now)) {
			return
		}
		r := event.Redirect{
			ID: furtherID(o.ID, host, s), Source: o.Source, Host: host, Service: s, Port: port,
			Rule: o.Rule, OffenceID: o.ID, State: event.Pending, CreatedAt: now, ExpiresAt: now.Add(o.TTL),
			Egress: o.Egress,
		}
		if own {
			r.ID, r.Spare = RedirectID(o.ID), o.Logins
		} else if d.opts.Spare != nil {
			r.Spare = d.opts.Spare(host, s, o.Source)
		}
		out = append(out, r)
	}
	if o.Host != "" {
		add(o.Host, o.Service)
	}
	switch o.Scope {
	case event.ScopeTrapped:
		offers := d.opts.Leaser.Offers()
		for _, p := range d.opts.Hosts.Services(o.Host) {
			if p.Service != o.Service && slices.Contains(offers, p.Service) {
				add(o.Host, p.Service)
			}
		}
	case event.ScopeFleet:
		for _, name := range d.opts.Hosts.Names() {
			if name != o.Host {
				add(name, o.Service)
			}
		}
	case event.ScopeService:
	}
	return out
}

// spared says whether a host that an offence only reaches by its scope keeps the source: because that is protected there, logged in
// there honestly, or the host's breaker is open. The offence's own host was judged before.
func (d *Decider) spared(host string, o event.Offence, now time.Time) bool {
	if d.protected(host, o.Source) != "" {
		return true
	}
	if _, ok := d.exempt(host, o.Source, now); ok && host != o.Host {
		return true
	}
	return host != o.Host && !d.breaker.Allow(host, o.Source, now)
}

// escalate gives an offender who was redirected before a longer time.
func (d *Decider) escalate(ctx context.Context, o *event.Offence) error {
	if len(o.Steps) == 0 {
		return nil
	}
	n, err := d.opts.Store.Repeats(ctx, o.Source, o.ID)
	if err != nil {
		return fmt.Errorf("look at former offences of %s: %w", o.Source, err)
	}
	o.TTL = o.Steps[min(n, len(o.Steps)-1)]
	return nil
}
