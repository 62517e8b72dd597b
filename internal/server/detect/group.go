package detect

import (
	"slices"
)

// group counts the events of one group, or is marked as one whose offence is open. There are very many: their size and that of
// entries is what bounds them, and what a search costs.
type group struct {
	rule         *ruleState
	of           *subject
	clock        *hostClock
	entries      []entry // by time, then by position
	open         *opened // nil while the group counts
	last         int64   // time of the latest event
	listed       int64   // what that was when the group came to the end of its list
	older, newer *group
	held         uint32 // bytes of what its entries keep whole, about
	class        int8
}

// opened is what is known of a group whose offence is open.
type opened struct {
	offence string // its id
	until   int64
	told    map[uint64]string // offences of contributors, by value
}

// entry is one event, or several that are counted together: those of a bucket or of a value.
type entry struct {
	nanos    int64 // of the latest
	first    int64 // of the earliest
	seq      uint64
	value    uint64  // what they have in common; with distinct the value's hash
	whole    *detail // nil where only the count is kept
	index    int32   // with seq the place of the earliest
	attempts int32
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
	g.hold(&en)
	if r.Contributors == 0 && len(g.entries) > maxProof {
		for i := len(g.entries) - maxProof - 1; i >= 0 && g.entries[i].whole != nil; i-- {
			g.unhold(&g.entries[i])
			g.entries[i].whole = nil
		}
	}
	return at
}

// again counts an event of the value that was the latest anyway, as most lines that restate an attempt are: it can't complete
// anything.
func (g *group) again(r *ruleState, value uint64, o *occurrence) bool {
	if len(g.entries) == 0 {
		return false
	}
	en := &g.entries[len(g.entries)-1]
	if en.value != value || o.nanos < en.nanos || o.nanos-en.nanos > int64(r.Within)+int64(lateness) {
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

func (g *group) hold(en *entry) {
	if en.whole != nil {
		g.held += en.whole.size
	}
}

func (g *group) unhold(en *entry) {
	if en.whole != nil {
		g.held -= en.whole.size
	}
}

// bytes is about what the group takes.
func (g *group) bytes() int64 {
	return groupBytes + int64(len(g.of.key.account)+len(g.of.key.host)) + int64(cap(g.entries))*entryBytes + int64(g.held)
}

// with is two entries of the same value as one. The latest event stands for both.
func (en entry) with(other entry) entry {
	out := en
	out.attempts = int32(min(int64(en.attempts)+int64(other.attempts), maxAttempts))
	if other.nanos >= en.nanos {
		out.nanos, out.whole = other.nanos, other.whole
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
