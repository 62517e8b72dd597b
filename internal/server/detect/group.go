package detect

import (
	"net/netip"
	"slices"

	"github.com/dchest/siphash"

	"github.com/kokkuri/kokkuri/internal/event"
)

// subjectKey names whom or what a rule's group is about; what the rule doesn't group by is zero.
type subjectKey struct {
	shape   *shape
	source  netip.Prefix
	host    string
	account string
}

// subject has the groups of all rules that group alike: one search finds them all.
type subject struct {
	groups []slot
	key    subjectKey
}

// slot is a group with what most events want to know of it.
type slot struct {
	rule      *ruleState
	group     *group
	openUntil int64 // 0 while the group counts
}

// slot returns a rule's; nil where there is none.
func (s *subject) slot(r *ruleState) *slot {
	if s == nil {
		return nil
	}
	for i := range s.groups {
		if s.groups[i].rule == r {
			return &s.groups[i]
		}
	}
	return nil
}

func (s *subject) group(r *ruleState) *group {
	if at := s.slot(r); at != nil {
		return at.group
	}
	return nil
}

// group counts the events of one group, or is marked as one whose offence is open.
type group struct {
	rule         *ruleState
	of           *subject
	clock        *hostClock
	entries      []entry // by time, then by position
	held         int64   // bytes of what its entries keep whole, about
	offence      string  // id of the open offence; empty while the group counts
	openUntil    int64
	told         map[uint64]string // offences of contributors, by value
	last         int64             // time of the latest event
	listed       int64             // what that was when the group came to the end of its list
	class        int8
	older, newer *group
}

// entry is one event, or several that are counted together: those of a bucket or of a value.
type entry struct {
	nanos    int64 // of the latest
	first    int64 // of the earliest
	seq      uint64
	index    int32 // with seq the place of the earliest
	attempts int32
	size     uint32  // of what is kept whole, about; 0 where it is not
	value    uint64  // what they have in common; with distinct the value's hash
	whole    *detail // nil where only the count is kept
}

func (en *entry) position() event.Position {
	return event.Position{Sequence: en.seq, Index: int(en.index)}
}

// detail is what an entry's event said; the groups of several rules share it.
type detail struct {
	source   netip.Addr
	port     uint16
	kind     event.Kind
	service  event.Service
	host     string
	account  string
	method   string
	resource string
	line     string
}

// About how many bytes a group takes: with its place in the map and in a list, for each entry, and for each event that is kept whole.
const (
	groupBytes  = 280
	entryBytes  = 56
	detailBytes = 160
)

func newDetail(e *event.Event, raw []byte) *detail {
	return &detail{e.Source, e.SourcePort, e.Kind, e.Service, e.Host, e.Account, e.Method, e.Resource, string(raw)}
}

func (t *detail) size(line int) uint32 {
	return uint32(detailBytes + line + len(t.account) + len(t.resource))
}

func (en *entry) event() event.Event {
	t := en.whole
	attempts := int(en.attempts)
	if t.kind != event.AuthFailed {
		attempts = 0
	}
	return event.Event{
		Service: t.service, Kind: t.kind, Source: t.source, SourcePort: t.port, Account: t.account, Method: t.method, Resource: t.resource,
		Attempts: attempts, Host: t.host, Time: timeOf(en.nanos),
	}
}

// hashKey keys the hashes of values, so that nobody can choose values that count as one.
type hashKey [2]uint64

// value is what an entry of this event has in common with others; 0 where each stands for itself.
func (k hashKey) value(r *ruleState, e *event.Event, nanos int64) (v uint64, ok bool) {
	switch r.mode {
	case exact:
		return 0, true
	case bucketed:
		return uint64(nanos/r.width) + 1, true
	case distinct:
	}
	text := ""
	switch r.Distinct {
	case BySource:
		p := r.shape.sourceOf(e)
		if !p.IsValid() {
			return 0, false
		}
		b := p.Addr().As16()
		return siphash.Hash(k[0], k[1], b[:]) | 1, true
	case ByHost:
		text = e.Host
	case ByAccount:
		text = e.Account
	case Method:
		text = e.Method
	case Resource:
		text = e.Resource
	}
	return siphash.Hash(k[0], k[1], []byte(text)) | 1, text != ""
}

// sourceOf is an event's source as the shape's rules tell sources apart.
func (s *shape) sourceOf(e *event.Event) netip.Prefix {
	a := event.Canonical(e.Source)
	bits := s.ipv4
	if a.Is6() {
		bits = s.ipv6
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// keyOf returns the subject that an event is about; false where the event lacks a field of it.
func (s *shape) keyOf(e *event.Event) (subjectKey, bool) {
	k := subjectKey{shape: s}
	if s.bySource {
		if k.source = s.sourceOf(e); !k.source.IsValid() {
			return k, false
		}
	}
	if s.byHost {
		if k.host = e.Host; k.host == "" {
			return k, false
		}
	}
	if s.byAccount {
		if k.account = e.Account; k.account == "" {
			return k, false
		}
	}
	return k, true
}

// minContributors is how many sources of a rule with contributors are counted at least, and maxContributors how many are made offenders
// while an offence is open.
const (
	minContributors = 64
	maxContributors = 1024
)

// insert puts an event in its place, drops those that are too old to meet it or a late one, and returns
// the place.
func (g *group) insert(en entry) int {
	r := g.rule
	g.last = max(g.last, en.nanos)
	oldest := en.nanos - int64(r.Within) - int64(lateness)
	keep := 0
	for keep < len(g.entries) && g.entries[keep].nanos < oldest {
		keep++
	}
	if keep > 0 {
		g.forget(keep)
	}
	if r.mode != exact {
		if i := slices.IndexFunc(g.entries, func(x entry) bool { return x.value == en.value }); i >= 0 {
			g.unhold(&g.entries[i])
			en = g.entries[i].with(en)
			g.entries = slices.Delete(g.entries, i, i+1)
		}
	}
	// No window holds r.Count events, so two windows' worth is all that can matter; more are events whose
	// times lie far apart in either direction.
	most := 2*r.Count + 8
	switch {
	case r.mode == bucketed:
		most = 2*buckets + 8
	case r.Contributors > 0:
		most = max(most, minContributors)
	}
	if len(g.entries) > most {
		g.forget(1)
	}
	at := len(g.entries)
	for at > 0 && after(&g.entries[at-1], &en) {
		at--
	}
	if g.entries == nil {
		g.entries = make([]entry, 0, 1) // most groups never get another
	}
	g.entries = slices.Insert(g.entries, at, en)
	g.held += int64(en.size)
	if r.Contributors == 0 && len(g.entries) > maxProof {
		for i := len(g.entries) - maxProof - 1; i >= 0 && g.entries[i].whole != nil; i-- {
			g.unhold(&g.entries[i])
			g.entries[i].whole, g.entries[i].size = nil, 0
		}
	}
	return at
}

// again counts an event of the value that was the latest anyway, as most lines that restate an attempt are: it can't complete
// anything.
func (g *group) again(value uint64, o *occurrence) bool {
	if g.rule.mode != distinct || len(g.entries) == 0 {
		return false
	}
	en := &g.entries[len(g.entries)-1]
	if en.value != value || o.nanos < en.nanos {
		return false
	}
	en.nanos, g.last = o.nanos, max(g.last, o.nanos)
	en.attempts = int32(min(int64(en.attempts)+int64(max(o.event.Attempts, 1)), maxAttempts))
	return true
}

// forget drops the first n entries.
func (g *group) forget(n int) {
	for i := range n {
		g.unhold(&g.entries[i])
	}
	g.entries = slices.Delete(g.entries, 0, n)
}

func (g *group) unhold(en *entry) {
	g.held -= int64(en.size)
}

// bytes is about what the group takes.
func (g *group) bytes() int64 {
	return groupBytes + int64(len(g.of.key.account)+len(g.of.key.host)) + int64(cap(g.entries))*entryBytes + g.held
}

// with is two entries of the same value as one. The latest event stands for both.
func (en entry) with(other entry) entry {
	out := en
	out.attempts = int32(min(int64(en.attempts)+int64(other.attempts), maxAttempts))
	if other.nanos >= en.nanos {
		out.nanos, out.whole, out.size = other.nanos, other.whole, other.size
	}
	if other.first < en.first {
		out.first, out.seq, out.index = other.first, other.seq, other.index
	}
	return out
}

func after(a, b *entry) bool {
	if a.nanos != b.nanos {
		return a.nanos > b.nanos
	}
	return b.position().Before(a.position())
}

// weight puts a group into a class: 0 holds one event, 1 up to 3, 2 up to 7, 3 more.
func (g *group) weight() int8 {
	n := len(g.entries)
	if g.rule.mode == bucketed {
		n = 0
		for i := range g.entries {
			n += int(g.entries[i].attempts)
		}
	}
	switch {
	case n <= 1:
		return 0
	case n <= 3:
		return 1
	case n <= 7:
		return 2
	}
	return classes - 1
}

// window returns the entries [from, to) around the one at the place, which an event at the time now went to, that lie within
// the time of each other and count most; the earliest of such.
func (g *group) window(at int, now int64) (from, to, sum int) {
	within := int64(g.rule.Within)
	if g.rule.mode != exact {
		return g.merged(at, now)
	}
	first := at
	for first > 0 && g.entries[at].nanos-g.entries[first-1].nanos <= within {
		first--
	}
	end, total := first, 0
	for start := first; start <= at; start++ {
		for end < len(g.entries) && g.entries[end].nanos-g.entries[start].nanos <= within {
			total += int(g.entries[end].attempts)
			end++
		}
		if total > sum {
			from, to, sum = start, end, total
		}
		total -= int(g.entries[start].attempts)
	}
	return from, to, sum
}

// merged is the window of entries that stand for several events: those whose latest event is within the time before now, or later
// by no more than events may be late. So it counts what the exact window would, and what is a bucket, or the bounded
// lateness, beyond it.
func (g *group) merged(at int, now int64) (from, to, sum int) {
	within := int64(g.rule.Within)
	for from = at; from > 0 && now-g.entries[from-1].nanos <= within; {
		from--
	}
	for to = at + 1; to < len(g.entries) && g.entries[to].nanos-now <= int64(lateness); {
		to++
	}
	if g.rule.mode == distinct {
		return from, to, to - from
	}
	for i := from; i < to; i++ {
		sum += int(g.entries[i].attempts)
	}
	return from, to, sum
}
