package decide

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Outcomes of an offence. Those with an argument are followed by ": " and it.
const (
	OutcomeRedirected = "redirected"
	OutcomeAlert      = "alert"
	OutcomeDryRun     = "dry-run"
	OutcomePaused     = "paused"
	OutcomeBreaker    = "breaker"
	OutcomeExempt     = "exempt"
	OutcomeAllowed    = "allowed"
	OutcomeProtected  = "protected"
	OutcomeStale      = "stale"
	OutcomeKnown      = "already redirected"
	OutcomeNowhere    = "nowhere"
)

// verdict says what to do about an offence: redirect it where outcome is OutcomeRedirected.
type verdict struct {
	outcome string
	alarm   bool // an operator should hear of it
}

// judge applies everything that keeps the owner from harm; the order is from what the rule wants to
// what the moment allows. An offence without a host, whose rule groups by source alone, is judged for each host by itself.
func (d *Decider) judge(o event.Offence, now time.Time) verdict {
	switch {
	case o.Action == event.ActionAlert:
		return verdict{outcome: OutcomeAlert, alarm: true}
	case !o.Source.IsValid():
		return verdict{outcome: OutcomeAlert + ": the rule names no source", alarm: true}
	case !o.Last.Add(o.TTL).After(now):
		return verdict{outcome: OutcomeStale + ": its redirect would be over already"}
	}
	if v, stands := d.against(o, now); stands {
		return v
	}
	if _, ok := d.board.Find(o.Host, o.Source, o.Service); ok && o.Host != "" {
		return verdict{outcome: OutcomeKnown}
	}
	switch {
	case o.Action == event.ActionDryRun:
		return verdict{outcome: OutcomeDryRun, alarm: true}
	case d.paused.Load():
		return verdict{outcome: OutcomePaused}
	case d.opts.DryRun:
		return verdict{outcome: OutcomeDryRun, alarm: true}
	case o.Host != "" && !d.breaker.Allow(o.Host, o.Source, now):
		return verdict{outcome: OutcomeBreaker + ": too many sources within an hour", alarm: true}
	}
	return verdict{outcome: OutcomeRedirected}
}

// against is what stands against ever redirecting the source of an offence.
func (d *Decider) against(o event.Offence, now time.Time) (verdict, bool) {
	if why := d.protected(o.Host, o.Source); why != "" {
		return verdict{outcome: OutcomeProtected + ": " + why, alarm: true}, true
	}
	if d.allow.Covers(o.Source) {
		return verdict{outcome: OutcomeAllowed + ": the allow-list covers " + o.Source.String()}, true
	}
	if o.Host != "" {
		if at, ok := d.exempt(o.Host, o.Source, now); ok {
			return verdict{outcome: fmt.Sprintf("%s: it logged in to %s at %s", OutcomeExempt, o.Host, at.UTC().Format(time.RFC3339))}, true
		}
	}
	if o.Contributor && d.logins.Load().Known(loginSource(o.Source)) {
		return verdict{outcome: OutcomeExempt + ": it is one of many, and has logged in somewhere before"}, true
	}
	return verdict{}, false
}

// Preview says what would stand against redirecting the source of an offence, as far as that can be said of one in the
// past; empty where nothing does.
func (d *Decider) Preview(o event.Offence) string {
	if !o.Source.IsValid() {
		return OutcomeAlert + ": the rule names no source"
	}
	v, _ := d.against(o, d.now())
	return v.outcome
}

// exempt says whether a source is known to have logged in to a host honestly, and when.
func (d *Decider) exempt(host string, source netip.Prefix, now time.Time) (time.Time, bool) {
	return d.logins.Load().Exempt(LoginKey{Host: host, Source: loginSource(source)}, now, d.opts.ExemptFor)
}

// loginSource is the prefix by which logins are remembered: an IPv6 source's /64.
func loginSource(p netip.Prefix) netip.Prefix { return event.SourcePrefix(p.Addr(), 64) }

// protected says why a source may never be redirected, whoever asks for it; empty where it may be.
func (d *Decider) protected(host string, source netip.Prefix) string {
	if a := source.Addr(); a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return source.String() + " is no source that comes over a network"
	}
	for _, p := range d.opts.Protected(host) {
		if source.Contains(p.Addr) {
			return fmt.Sprintf("%s is %s", p.Addr, p.What)
		}
	}
	return ""
}

// Protected is an address that must never be redirected, and what it is.
type Protected struct {
	Addr netip.Addr
	What string // "an address of host web", "the server", "node node1"
}
