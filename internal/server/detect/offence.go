package detect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kokkuri/kokkuri/internal/event"
)

// offence makes a group's offence out of the entries that fired it.
func (d *Detector) offence(g *group, window []entry, sum int, by *occurrence) event.Offence {
	r := g.rule
	first, last := &window[0], &window[len(window)-1]
	earliest, begin := first.position(), first.first
	o := event.Offence{
		ID: offenceID(r, &g.of.key, g.of.key.prefix(), first.position()), Rule: r.Name, Service: by.event.Service, Host: g.of.key.host, Source: g.of.key.prefix(),
		Account: g.of.key.account, Count: sum, Last: timeOf(last.nanos), Line: by.pos,
	}
	for i := range window {
		en := &window[i]
		if p := en.position(); p.Before(earliest) {
			earliest = p
		}
		begin = min(begin, en.first)
		if en.whole != nil && len(window)-i <= maxProof && d.opts.MaxText >= 0 {
			o.Proof = append(o.Proof, event.Proof{Event: en.event(), Position: en.position(), Line: en.whole.line})
		}
	}
	o.First = timeOf(begin)
	d.sentence(r, &o, earliest)
	return o
}

// sentence says what the rule wants to be done.
func (d *Detector) sentence(r *ruleState, o *event.Offence, earliest event.Position) {
	o.Action, o.TTL, o.Severity, o.Scope, o.Egress = r.Action, r.For[0], r.Severity, r.Scope, r.Egress
	if len(r.For) > 1 {
		o.Steps = slices.Clone(r.For)
	}
	if o.Source.IsValid() && o.Host != "" {
		o.Logins = d.logins.before(o.Service, o.Host, o.Source, earliest)
	}
}

// contribute notes what a source adds to an offence that is open.
func (d *Detector) contribute(fired []event.Offence, g *group, o *occurrence) []event.Offence {
	value, ok := d.hash.value(g.rule, o)
	if !ok {
		return fired
	}
	if _, told := g.open.told[value]; told {
		return fired
	}
	at := g.insert(o.entry(value))
	return d.contributor(fired, g, &g.entries[at], o)
}

// contributor makes a source that took part an offender, once, unless it failed too seldom or is known to have logged in.
func (d *Detector) contributor(fired []event.Offence, g *group, en *entry, by *occurrence) []event.Offence {
	r := g.rule
	if en.whole == nil || int(en.attempts) < r.Contributors || d.friends.has(en.whole.addr()) {
		return fired
	}
	if len(g.open.told) >= maxContributors {
		d.stats.Contributors++
		return fired
	}
	e := en.event()
	o := event.Offence{
		Rule: r.Name, Service: e.Service, Host: g.of.key.host, Source: r.shape.sourceOf(&e), Account: g.of.key.account,
		Count: int(en.attempts), First: timeOf(en.first), Last: timeOf(en.nanos), Line: by.pos, Contributor: true,
		Proof: []event.Proof{{Event: e, Position: en.position(), Line: en.whole.line}},
	}
	o.ID = offenceID(r, &g.of.key, o.Source, en.position())
	d.sentence(r, &o, en.position())
	d.tell(g, en.value, o.ID)
	return append(fired, o)
}

// tell notes that a contributor has an offence of its own, which is open as long as the group's.
func (d *Detector) tell(g *group, value uint64, offence string) {
	if g.open.told == nil {
		g.open.told = map[uint64]string{}
	}
	g.open.told[value] = offence
	d.parts[offence] = g
}

// untell ends a contributor's offence: what it did so far counts no more, and it may become an offender again.
func (d *Detector) untell(g *group, offence string) {
	delete(d.parts, offence)
	for value, id := range g.open.told {
		if id != offence {
			continue
		}
		delete(g.open.told, value)
		g.entries = slices.DeleteFunc(g.entries, func(en entry) bool {
			if en.value == value {
				g.unhold(&en)
			}
			return en.value == value
		})
	}
}

// offenceID is the same for the same first event of the same group under the same rule.
func offenceID(r *ruleState, k *subjectKey, source netip.Prefix, first event.Position) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %s %q %q %s", r.Name, source, k.host, k.account, first))
	return hex.EncodeToString(sum[:8])
}
