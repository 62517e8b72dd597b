package detect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// groupKey names a group; what its rule doesn't group by is zero.
type groupKey struct {
	rule    string
	source  netip.Prefix
	host    string
	account string
}

// keyOf returns the group that an event belongs to; false where the event lacks a field of it.
func keyOf(r *Rule, e event.Event) (groupKey, bool) {
	k := groupKey{rule: r.Name}
	for _, f := range r.GroupBy {
		switch f {
		case BySource:
			if k.source = event.SourcePrefix(e.Source, r.IPv6Prefix); !k.source.IsValid() {
				return k, false
			}
		case ByHost:
			if k.host = e.Host; k.host == "" {
				return k, false
			}
		case ByAccount:
			if k.account = e.Account; k.account == "" {
				return k, false
			}
		}
	}
	return k, true
}

// group counts the events of one group, or is marked as one whose offence is open.
type group struct {
	key          groupKey
	entries      []entry // by time, then by position
	bytes        int64   // that the group takes, about
	offence      string  // id of the open offence; empty while the group counts
	openUntil    int64
	older, newer *group
}

// entry is one event.
type entry struct {
	nanos    int64
	pos      event.Position
	attempts int
	whole    *detail // nil where only the count is kept
}

// detail is what an entry's event said; the groups of several rules share it.
type detail struct {
	source  netip.Addr
	port    uint16
	kind    event.Kind
	host    string
	account string
	method  string
	line    string
}

const (
	groupBytes  = 320 // of a group, its place in the map and its strings
	entryBytes  = 48
	detailBytes = 144
)

func newDetail(e event.Event, raw []byte) *detail {
	if len(raw) > maxLine {
		raw = raw[:maxLine]
	}
	return &detail{e.Source, e.SourcePort, e.Kind, e.Host, e.Account, e.Method, string(raw)}
}

func (t *detail) size() int64 {
	return int64(detailBytes + len(t.line) + len(t.account))
}

func (t *detail) event(s event.Service, at time.Time, attempts int) event.Event {
	return event.Event{
		Service: s, Kind: t.kind, Source: t.source, SourcePort: t.port, Account: t.account, Method: t.method,
		Attempts: attempts, Host: t.host, Time: at,
	}
}

// insert puts an event in its place, drops those that are too old to meet it or a late one, and returns
// the place.
func (g *group) insert(r *Rule, en entry) int {
	oldest := en.nanos - int64(r.Within) - int64(lateness)
	keep := 0
	for keep < len(g.entries) && g.entries[keep].nanos < oldest {
		keep++
	}
	g.entries = slices.Delete(g.entries, 0, keep)
	// No window holds r.Count events, so two windows' worth is all that can matter; more are events whose
	// times lie far apart in either direction.
	if len(g.entries) > 2*r.Count+8 {
		g.entries = slices.Delete(g.entries, 0, 1)
	}
	at := len(g.entries)
	for at > 0 && after(g.entries[at-1], en) {
		at--
	}
	g.entries = slices.Insert(g.entries, at, en)
	for i := range max(0, len(g.entries)-maxProof) {
		g.entries[i].whole = nil
	}
	g.measure()
	return at
}

func after(a, b entry) bool {
	if a.nanos != b.nanos {
		return a.nanos > b.nanos
	}
	return b.pos.Before(a.pos)
}

func (g *group) measure() {
	g.bytes = groupBytes + int64(len(g.key.account)+len(g.key.host)) + int64(len(g.entries))*entryBytes
	for _, en := range g.entries {
		if en.whole != nil {
			g.bytes += en.whole.size()
		}
	}
}

// window returns the entries [from, to) around the one at the place that lie within the time of each other
// and have the most attempts; the earliest of such.
func (g *group) window(at int, within int64) (from, to, sum int) {
	first := at
	for first > 0 && g.entries[at].nanos-g.entries[first-1].nanos <= within {
		first--
	}
	end, total := first, 0
	for start := first; start <= at; start++ {
		for end < len(g.entries) && g.entries[end].nanos-g.entries[start].nanos <= within {
			total += g.entries[end].attempts
			end++
		}
		if total > sum {
			from, to, sum = start, end, total
		}
		total -= g.entries[start].attempts
	}
	return from, to, sum
}

// lru is a list of groups from the longest untouched to the latest.
type lru struct {
	head, tail *group // oldest and newest
	n          int
}

func (l *lru) oldest() *group { return l.head }

func (l *lru) push(g *group) {
	g.older, g.newer = l.tail, nil
	if l.tail != nil {
		l.tail.newer = g
	} else {
		l.head = g
	}
	l.tail = g
	l.n++
}

func (l *lru) remove(g *group) {
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		l.head = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		l.tail = g.older
	}
	g.older, g.newer = nil, nil
	l.n--
}

func (l *lru) touch(g *group) {
	if l.tail == g {
		return
	}
	l.remove(g)
	l.push(g)
}
