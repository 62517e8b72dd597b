package detect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Defaults and bounds of a Detector's memory.
const (
	DefaultMaxGroups = 200_000
	DefaultMaxBytes  = 128 << 20
	DefaultMaxOpen   = 100_000
	DefaultMaxLogins = 65_536

	maxProof = 32   // events kept whole for an offence's proof; older ones only count
	maxLine  = 1024 // bytes kept of a line
	maxHosts = 10_000

	// lateness is how much later than its time an event may come and still meet all those before it.
	lateness = 30 * time.Second
	// replayReach is how far back in the stream an event counts as one that was seen before. One from
	// further back comes from a stream that began anew.
	replayReach = 1000
)

// Options configure a Detector; zero numbers mean the defaults.
type Options struct {
	Rules     Rules
	MaxGroups int   // groups whose events are counted
	MaxBytes  int64 // about how much memory those take
	MaxOpen   int   // offences that are open
	MaxLogins int   // connections remembered for Offence.Logins
}

// Detector finds offences. What it answers depends on nothing but the calls made to it and their order: it
// has no clock, and time is the events' own. It is safe for concurrent use, but a stream's events must
// come in the stream's order.
type Detector struct {
	mu     sync.Mutex
	opts   Options
	rules  []Rule
	groups map[groupKey]*group
	byID   map[string]*group // open ones by their offence
	count  lru               // groups that count, by their last event
	open   lru               // groups whose offence is open, by their firing
	bytes  int64             // of groups that count, about
	clocks map[string]int64  // by host: time of its last event in nanoseconds
	logins logins
	last   event.Position
	seen   bool // last is set
	stats  Stats
}

// Stats says what a Detector holds and what it left out.
type Stats struct {
	Groups        int    `json:"groups"`         // being counted
	Open          int    `json:"open"`           // offences that are open
	Bytes         int64  `json:"bytes"`          // that groups take, about
	Logins        int    `json:"logins"`         // connections remembered
	Counted       uint64 `json:"counted"`        // events that counted for a rule
	Absorbed      uint64 `json:"absorbed"`       // events of groups whose offence was open
	Replayed      uint64 `json:"replayed"`       // events seen before
	NoGroup       uint64 `json:"no_group"`       // events without what a rule groups by, such as an address
	Evicted       uint64 `json:"evicted"`        // groups given up, for the bounds, before their window was over
	EvictedOpen   uint64 `json:"evicted_open"`   // open offences given up, for the bounds
	EvictedLogins uint64 `json:"evicted_logins"` // connections given up, for the bounds
}

// Group is what a rule groups by: the fields that the rule doesn't use are zero.
type Group struct {
	Source  netip.Prefix
	Host    string
	Account string
}

// New returns a detector that has seen nothing.
func New(o Options) *Detector {
	setDefault(&o.MaxGroups, DefaultMaxGroups)
	setDefault(&o.MaxBytes, DefaultMaxBytes)
	setDefault(&o.MaxOpen, DefaultMaxOpen)
	setDefault(&o.MaxLogins, DefaultMaxLogins)
	d := &Detector{opts: o, rules: o.Rules.Rules}
	d.reset()
	return d
}

func setDefault[T int | int64](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

func (d *Detector) reset() {
	d.groups = map[groupKey]*group{}
	d.byID = map[string]*group{}
	d.count, d.open = lru{}, lru{}
	d.bytes = 0
	d.clocks = map[string]int64{}
	d.logins = newLogins(d.opts.MaxLogins)
	d.last, d.seen = event.Position{}, false
	d.stats = Stats{}
}

// Observe takes the event read from the line raw at pos and returns the offences that it completes, at most one of each
// rule. An event at or shortly before the last position is ignored as seen before. FiredAt,
// ReceivedAt and Outcome of offences are left to the caller.
func (d *Detector) Observe(pos event.Position, e event.Event, raw []byte) []event.Offence {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.replayed(pos) {
		d.stats.Replayed++
		return nil
	}
	d.last, d.seen = pos, true
	d.logins.observe(pos, e)
	var fired []event.Offence
	var whole *detail
	for i := range d.rules {
		r := &d.rules[i]
		if r.Service != e.Service || !slices.Contains(r.Kinds, e.Kind) {
			continue
		}
		key, ok := keyOf(r, e)
		if !ok {
			d.stats.NoGroup++
			continue
		}
		if whole == nil {
			whole = newDetail(e, raw)
			d.tick(e)
		}
		if o, ok := d.add(r, key, pos, e, whole); ok {
			fired = append(fired, o)
		}
	}
	return fired
}

func (d *Detector) replayed(pos event.Position) bool {
	return d.seen && !d.last.Before(pos) && d.last.Sequence-pos.Sequence <= replayReach
}

// tick moves the host's clock and drops a few groups that this makes obsolete.
func (d *Detector) tick(e event.Event) {
	now := nanosOf(e.Time)
	for _, host := range [...]string{e.Host, ""} {
		if _, known := d.clocks[host]; known || len(d.clocks) < maxHosts {
			d.clocks[host] = now
		}
	}
	for range 2 {
		g := d.count.oldest()
		if g == nil || !d.obsolete(g) {
			return
		}
		d.drop(g)
	}
}

// obsolete says whether no event can meet the group's any more.
func (d *Detector) obsolete(g *group) bool {
	now, ok := d.clocks[g.key.host]
	r := d.rule(g.key.rule)
	return ok && len(g.entries) > 0 && g.entries[len(g.entries)-1].nanos+int64(r.Within+lateness) < now
}

func (d *Detector) rule(name string) *Rule {
	for i := range d.rules {
		if d.rules[i].Name == name {
			return &d.rules[i]
		}
	}
	return nil
}

// add counts an event for a rule's group.
func (d *Detector) add(r *Rule, key groupKey, pos event.Position, e event.Event, whole *detail) (event.Offence, bool) {
	now := nanosOf(e.Time)
	g := d.groups[key]
	if g != nil && g.offence != "" {
		if now < g.openUntil {
			d.stats.Absorbed++
			return event.Offence{}, false
		}
		d.drop(g)
		g = nil
	}
	if g == nil {
		g = &group{key: key}
		d.groups[key] = g
		d.count.push(g)
	} else {
		d.count.touch(g)
	}
	d.stats.Counted++
	d.bytes -= g.bytes
	at := g.insert(r, entry{nanos: now, pos: pos, attempts: max(e.Attempts, 1), whole: whole})
	d.bytes += g.bytes
	from, to, sum := g.window(at, int64(r.Within))
	if sum < r.Count {
		d.bound()
		return event.Offence{}, false
	}
	o := d.offence(r, g, g.entries[from:to], sum, pos)
	d.opened(g, o.ID, g.entries[to-1].nanos+int64(r.For))
	return o, true
}

// opened turns a group that counts into one whose offence is open.
func (d *Detector) opened(g *group, id string, until int64) {
	d.count.remove(g)
	d.bytes -= g.bytes
	g.entries, g.bytes = nil, 0
	g.offence, g.openUntil = id, until
	d.open.push(g)
	d.byID[id] = g
	for d.open.n > d.opts.MaxOpen {
		d.drop(d.open.oldest())
		d.stats.EvictedOpen++
	}
}

// bound gives groups up that are too many, those longest without an event first.
func (d *Detector) bound() {
	for d.count.n > d.opts.MaxGroups || d.bytes > d.opts.MaxBytes && d.count.n > 1 {
		g := d.count.oldest()
		if !d.obsolete(g) {
			d.stats.Evicted++
		}
		d.drop(g)
	}
}

func (d *Detector) drop(g *group) {
	delete(d.groups, g.key)
	if g.offence != "" {
		d.open.remove(g)
		delete(d.byID, g.offence)
		return
	}
	d.count.remove(g)
	d.bytes -= g.bytes
}

func (d *Detector) offence(r *Rule, g *group, window []entry, sum int, pos event.Position) event.Offence {
	first, last := window[0], window[len(window)-1]
	o := event.Offence{
		ID: offenceID(g.key, first.pos), Rule: r.Name, Service: r.Service, Host: g.key.host, Source: g.key.source,
		Account: g.key.account, Count: sum, First: timeOf(first.nanos), Last: timeOf(last.nanos), Line: pos,
		Action: r.Action, TTL: r.For,
	}
	earliest := first.pos
	for _, en := range window {
		if en.pos.Before(earliest) {
			earliest = en.pos
		}
		if en.whole != nil {
			o.Proof = append(o.Proof, event.Proof{Event: en.whole.event(r.Service, timeOf(en.nanos), en.attempts), Position: en.pos, Line: en.whole.line})
		}
	}
	if o.Source.IsValid() && o.Host != "" {
		o.Logins = d.logins.before(o.Service, o.Host, o.Source, earliest)
	}
	return o
}

// offenceID is the same for the same first event of the same group under the same rule.
func offenceID(k groupKey, first event.Position) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %s %q %q %s", k.rule, k.source, k.host, k.account, first))
	return hex.EncodeToString(sum[:8])
}

// nanosOf is a time as the detector counts it: nanoseconds since 1970, 0 for what has no time or an earlier one,
// and never so late that sums overflow.
func nanosOf(t time.Time) int64 {
	const last = 2200
	switch {
	case t.Year() < 1970:
		return 0
	case t.Year() >= last:
		return time.Date(last, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	}
	return t.UnixNano()
}

func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// Close ends an open offence: the group's next events count anew. It reports whether it was open.
func (d *Detector) Close(offenceID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.byID[offenceID]
	if g != nil {
		d.drop(g)
	}
	return g != nil
}

// CloseGroup ends the offence of a rule's group, if one is open.
func (d *Detector) CloseGroup(rule string, by Group) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.groups[groupKey{rule, by.Source, by.Host, by.Account}]
	if g == nil || g.offence == "" {
		return false
	}
	d.drop(g)
	return true
}

// OpenOffence is an offence that is open.
type OpenOffence struct {
	ID    string
	Rule  string
	Group Group
	Until time.Time // by the events' time
}

// Open lists the open offences, the longest open first.
func (d *Detector) Open() []OpenOffence {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []OpenOffence
	for g := d.open.oldest(); g != nil; g = g.newer {
		out = append(out, OpenOffence{g.offence, g.key.rule, Group{g.key.source, g.key.host, g.key.account}, timeOf(g.openUntil)})
	}
	return out
}

// Logins are the connections from source to a host's service whose login succeeded and which are not
// known to have ended.
func (d *Detector) Logins(host string, service event.Service, source netip.Prefix) []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logins.before(service, host, source, event.Position{Sequence: ^uint64(0)})
}

// Position returns the last position observed (zero before any).
func (d *Detector) Position() event.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// Stats returns the numbers of this moment.
func (d *Detector) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Groups, s.Open, s.Bytes, s.Logins = d.count.n, d.open.n, d.bytes, d.logins.n
	s.EvictedLogins = d.logins.evicted
	return s
}
