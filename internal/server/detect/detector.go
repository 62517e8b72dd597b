package detect

import (
	"cmp"
	"math"
	"math/rand/v2"
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

	maxProof    = 16  // events kept whole for an offence's proof; older ones only count
	maxLine     = 512 // bytes kept of a line
	maxHosts    = 10_000
	maxAttempts = math.MaxInt32

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
	MaxLogins int   // connections remembered for Offence.Logins, none where negative; and half as many sources as logged in anywhere
	MaxText   int   // bytes kept of a line that may prove something, 512 where 0; where negative, offences come without proof
	// OnList says whether a source is on a list of the rules'; nil: none is on any.
	OnList func(list string, source netip.Addr) bool
}

// Detector finds offences. What it answers depends on nothing but the calls made to it and their order, and on
// what is on its lists: it has no clock, and time is the events' own. It is safe for concurrent use, but a
// stream's events must come in the stream's order.
type Detector struct {
	mu       sync.Mutex
	opts     Options
	rules    []*ruleState
	table    table
	subjects subjects
	shapes   map[shape]*shape
	byID     map[string]*group // open ones by their offence
	parts    map[string]*group // open ones by their contributors' offences
	perClass [classes]int      // groups that count
	counting int               // their sum
	open     lru               // groups whose offence is open, by their firing
	bytes    int64             // of groups that count, about
	clocks   clocks
	sweep    int   // rule that is tidied next
	warmed   int64 // see warm
	logins   logins
	friends  friends
	hash     hashKey
	eval     evaluator
	last     event.Position
	seen     bool // last is set
	stats    Stats
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
	Late          uint64 `json:"late"`           // events that came later than windows wait for
	Conditions    uint64 `json:"conditions"`     // conditions that could not be answered, and so did not hold
	Evicted       uint64 `json:"evicted"`        // groups given up, for the bounds, before their window was over
	EvictedHeavy  uint64 `json:"evicted_heavy"`  // of these, groups that had counted more than one event
	Contributors  uint64 `json:"contributors"`   // sources that took part beyond those that are told of
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
	if o.MaxLogins == 0 {
		o.MaxLogins = DefaultMaxLogins
	}
	if o.MaxText == 0 {
		o.MaxText = maxLine
	}
	d := &Detector{opts: o, hash: hashKey{rand.Uint64(), rand.Uint64()}} //nolint:gosec // only against values that are chosen to meet
	d.subjects, d.shapes, d.byID, d.clocks = newSubjects(), map[shape]*shape{}, map[string]*group{}, newClocks()
	d.parts = map[string]*group{}
	d.logins, d.friends = newLogins(o.MaxLogins), newFriends(cmp.Or(max(o.MaxLogins, 0), DefaultMaxLogins))
	d.setRules(o.Rules)
	return d
}

func setDefault[T int | int64](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// SetRules exchanges the rules. What was counted for a rule, and its open offences, stay where the rule still groups and counts
// the same events the same way; otherwise they are forgotten.
func (d *Detector) SetRules(r Rules) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setRules(r)
}

func (d *Detector) setRules(r Rules) {
	former := map[string]*ruleState{}
	for _, s := range d.rules {
		former[s.Name] = s
	}
	d.opts.Rules = r
	d.rules = nil
	kept := map[*ruleState]bool{}
	for _, rule := range r.Rules {
		s := newRuleState(rule)
		s.shape = d.shape(rule)
		if old, ok := former[rule.Name]; ok && old.sig == s.sig {
			s.count = old.count
			*old = *s // groups point to it
			s = old
			kept[old] = true
		}
		if rule.SourceIn != "" && d.opts.OnList != nil {
			list := rule.SourceIn
			s.onList = func(a netip.Addr) bool { return d.opts.OnList(list, a) }
		}
		d.rules = append(d.rules, s)
	}
	for s := range d.subjects.all {
		for _, at := range slices.Clone(s.groups) {
			if !kept[at.rule] {
				d.drop(at.group)
			}
		}
	}
	d.table = newTable(d.rules)
}

// shape returns the one shape of rules that group alike.
func (d *Detector) shape(r Rule) *shape {
	s := shapeOf(r)
	known, ok := d.shapes[s]
	if !ok {
		known = &shape{}
		*known = s
		known.id = uint64(len(d.shapes))
		d.shapes[s] = known
	}
	return known
}

// Observe takes the event read from the line raw at pos and returns the offences that it completes: at most one of each
// rule, and those of a rule's contributors. An event at or shortly before the last position is ignored as
// seen before. FiredAt, ReceivedAt and Outcome of offences are left to the caller.
func (d *Detector) Observe(pos event.Position, e event.Event, raw []byte) []event.Offence {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.replayed(pos) {
		d.stats.Replayed++
		return nil
	}
	d.last, d.seen = pos, true
	d.logins.observe(pos, &e)
	if e.Kind == event.AuthOK {
		d.friends.note(e.Source)
	}
	rules := d.table.rules(&e)
	if len(rules) == 0 {
		return nil
	}
	var m made
	o := occurrence{event: &e, raw: raw, text: max(d.opts.MaxText, 0), pos: pos, nanos: nanosOf(e.Time), made: &m}
	var late bool
	if m.clock, late = d.clocks.tick(e.Host, o.nanos); late {
		d.stats.Late++
	}
	var fired []event.Offence
	for i := range rules {
		a := &rules[i]
		key, ok := a.shape.keyOf(&e)
		var at found
		if ok {
			at.hash = d.subjects.hash(&key, m.clock)
			at.of = d.subjects.find(at.hash, &key)
			if at.of != nil && len(a.rules) > 1 {
				d.warmed += at.of.warm(o.nanos)
			}
		}
		for _, r := range a.rules {
			switch {
			case r.guarded() && !d.concerns(r, &e):
			case !ok:
				d.stats.NoGroup++
			default:
				fired = d.add(fired, r, &at, &key, &o)
				d.tidy(&r.count[0])
			}
		}
	}
	d.sweep = (d.sweep + 1) % (len(d.rules) * classes)
	d.tidy(&d.rules[d.sweep/classes].count[d.sweep%classes])
	return fired
}

// contributes says whether sources that add to the rule's open offences are offenders themselves.
func (s *ruleState) contributes() bool { return s.Contributors > 0 && s.Action != event.ActionAlert }

// guarded says whether it takes more than an event's service and kind to concern the rule.
func (s *ruleState) guarded() bool { return s.If != nil || s.SourceIn != "" }

// concerns says whether an event is one of those that the rule is about.
func (d *Detector) concerns(r *ruleState, e *event.Event) bool {
	if r.SourceIn != "" && (r.onList == nil || !e.Source.IsValid() || !r.onList(event.Canonical(e.Source))) {
		return false
	}
	if r.If == nil {
		return true
	}
	holds, err := d.eval.holds(r.If, *e)
	if err != nil {
		d.stats.Conditions++
	}
	return holds
}

func (d *Detector) replayed(pos event.Position) bool {
	return d.seen && !d.last.Before(pos) && d.last.Sequence-pos.Sequence <= replayReach
}

// add counts an event for a rule's group of a subject.
func (d *Detector) add(fired []event.Offence, r *ruleState, at *found, key *subjectKey, o *occurrence) []event.Offence {
	var g *group
	if s := at.of.slot(r); s != nil {
		if g = s.group; s.openUntil != 0 {
			if o.nanos < s.openUntil {
				d.stats.Absorbed++
				if !r.contributes() { // as most do not: without a look at the group
					return fired
				}
				return d.contribute(fired, g, o)
			}
			d.drop(g)
			g = nil
		}
	}
	if r.Then != "" && !r.counts(o.event.Kind) {
		return d.complete(fired, g, o)
	}
	value, ok := d.hash.value(r, o)
	if !ok {
		d.stats.NoGroup++
		return fired
	}
	if g != nil && r.mode == distinct && g.again(r, value, o) {
		d.stats.Counted++
		return fired
	}
	if g == nil {
		g = &group{rule: r, clock: o.made.clock, last: o.nanos}
		if !r.shape.byHost {
			g.clock = d.clocks.all
		}
		d.join(at, key, g)
		d.enlist(g)
	} else {
		d.bytes -= g.bytes()
	}
	d.stats.Counted++
	n := g.insert(o.entry(value))
	d.bytes += g.bytes()
	d.weigh(g)
	from, to, sum := g.window(n, o.nanos)
	if sum < r.Count || r.Then != "" {
		d.bound()
		return fired
	}
	return d.fire(fired, g, g.entries[from:to], sum, o)
}

// complete fires a rule that waits for an event of another kind after those that it counts.
func (d *Detector) complete(fired []event.Offence, g *group, o *occurrence) []event.Offence {
	if g == nil {
		return fired
	}
	within := int64(g.rule.Within)
	from, sum := len(g.entries), 0
	for from > 0 && o.nanos-g.entries[from-1].nanos <= within {
		from--
		if g.rule.mode == distinct {
			sum++
		} else {
			sum += int(g.entries[from].attempts)
		}
	}
	if sum < g.rule.Count {
		return fired
	}
	return d.fire(fired, g, append(g.entries[from:], o.entry(0)), sum, o)
}

// fire makes a group's offence, and those of its contributors, and opens it.
func (d *Detector) fire(fired []event.Offence, g *group, window []entry, sum int, o *occurrence) []event.Offence {
	main := d.offence(g, window, sum, o)
	fired = append(fired, main)
	until := window[len(window)-1].nanos + int64(g.rule.For[0])
	d.begin(g, main.ID, until)
	if g.rule.contributes() {
		for i := range window {
			fired = d.contributor(fired, g, &window[i], o)
		}
	}
	return fired
}

// begin turns a group that counts into one whose offence is open.
func (d *Detector) begin(g *group, id string, until int64) {
	d.delist(g)
	d.bytes -= g.bytes()
	if g.rule.Contributors == 0 {
		g.entries, g.held = nil, 0
	}
	g.open = &opened{offence: id, until: until}
	g.of.slot(g.rule).openUntil = max(until, 1)
	d.open.push(g)
	d.byID[id] = g
	for d.open.n > d.opts.MaxOpen {
		d.drop(d.open.oldest())
		d.stats.EvictedOpen++
	}
}

// nanosOf is a time as the detector counts it: nanoseconds since 1970, 0 for what has no time or an earlier one,
// and never so late that sums overflow.
func nanosOf(t time.Time) int64 {
	const last = 7_258_118_400 // the year 2200, in seconds
	switch s := t.Unix(); {
	case s < 0:
		return 0
	case s >= last:
		return last * int64(time.Second)
	}
	return t.UnixNano()
}

func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
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
	s.Groups, s.Open, s.Bytes, s.Logins = d.counting, d.open.n, d.bytes, d.logins.n
	s.EvictedLogins = d.logins.evicted + d.friends.evicted
	return s
}
