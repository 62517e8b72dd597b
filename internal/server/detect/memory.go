package detect

import (
	"net/netip"
	"slices"

	"github.com/kokkuri/kokkuri/internal/event"
)

// hostClock is the time of a host's latest event, in nanoseconds, and what its events have in common.
type hostClock struct {
	now   int64
	host  string // empty: of all
	hash  uint64 // the host's, see subjects; 0 until it is asked for
	parts []*said
}

// maxSaid bounds what is remembered of a host to be shared; other events have their own.
const maxSaid = 8

// said is what an event says that others of its host say too, once for all of them.
func (c *hostClock) said(e *event.Event) *said {
	for _, known := range c.parts {
		if known.kind == e.Kind && known.method == e.Method && known.service == e.Service && known.host == e.Host {
			return known
		}
	}
	one := &said{e.Service, e.Kind, e.Host, e.Method}
	if len(c.parts) < maxSaid {
		c.parts = append(c.parts, one)
	}
	return one
}

// tick moves the clock to the time of an event and reports whether that came later than windows wait for. Such an event moves the
// clock back: one line with a time in the future must not make all later ones too old.
func (c *hostClock) tick(now int64) (late bool) {
	late = now < c.now-int64(lateness)
	if now > c.now || late {
		c.now = now
	}
	return late
}

// clocks are those of the hosts, and one of all together: hosts' logs may be apart by hours, as when one was cut off.
type clocks struct {
	all    *hostClock
	byHost map[string]*hostClock
	last   [recentHosts]*hostClock // that had events
	next   int                     // of these, to be replaced
}

// recentHosts is how many hosts' clocks are found without a search: hosts take turns.
const recentHosts = 4

func newClocks() clocks { return clocks{all: &hostClock{}, byHost: map[string]*hostClock{}} }

// tick moves the clocks to the time of a host's event.
func (c *clocks) tick(host string, now int64) (clock *hostClock, late bool) {
	clock = c.find(host)
	late = clock.tick(now)
	if clock != c.all {
		c.all.tick(now)
	}
	return clock, late
}

func (c *clocks) find(host string) *hostClock {
	for _, k := range &c.last {
		if k != nil && k.host == host {
			return k
		}
	}
	k := c.of(host)
	if k != c.all {
		c.last[c.next] = k
		c.next = (c.next + 1) % recentHosts
	}
	return k
}

// of returns a host's clock; too many hosts share one.
func (c *clocks) of(host string) *hostClock {
	if host == "" {
		return c.all
	}
	k, ok := c.byHost[host]
	if !ok {
		if len(c.byHost) >= maxHosts {
			return c.all
		}
		k = &hostClock{host: host}
		c.byHost[host] = k
	}
	return k
}

// obsolete says whether no event can meet the group's any more.
func (g *group) obsolete() bool {
	return g.last+int64(g.rule.Within+lateness) < g.clock.now
}

// tidy drops a group of a list that is obsolete, if the first is.
func (d *Detector) tidy(l *lru) {
	if g := l.oldest(); g != nil && !l.renew(g) && g.obsolete() {
		d.drop(g)
	}
}

// renew puts a group that had events since it came to the end of the list there again, so that no event has to.
func (l *lru) renew(g *group) bool {
	if g.last <= g.listed {
		return false
	}
	l.remove(g)
	l.push(g)
	return true
}

// bound gives groups up that are too many. Every class has a right to a quarter of the room, and of those that have more
// the lightest loses first: so a flood of sources that do one thing each can't push out those that do more, and those
// that do more can't take the room of those that begin.
func (d *Detector) bound() {
	for d.counting > d.opts.MaxGroups || d.bytes > d.opts.MaxBytes && d.counting > 1 {
		g := d.victim()
		if !g.obsolete() {
			d.stats.Evicted++
			if g.class > 0 {
				d.stats.EvictedHeavy++
			}
		}
		d.drop(g)
	}
}

// most is how many groups that had events since are passed over when one is given up.
const most = 8

// victim is the group to give up next: of the lightest class that has more than its share, of the rule that has most of it, the
// oldest.
func (d *Detector) victim() *group {
	class := 0
	for c := range classes {
		if d.perClass[c] > d.counting/classes {
			class = c
			break
		}
		if d.perClass[c] > d.perClass[class] {
			class = c
		}
	}
	var from *lru
	for _, r := range d.rules {
		if l := &r.count[class]; from == nil || l.n > from.n {
			from = l
		}
	}
	g := from.oldest()
	for range most {
		if !from.renew(g) {
			break
		}
		g = from.oldest()
	}
	return g
}

func (d *Detector) enlist(g *group) {
	g.class = g.weight()
	g.rule.count[g.class].push(g)
	d.perClass[g.class]++
	d.counting++
}

func (d *Detector) delist(g *group) {
	g.rule.count[g.class].remove(g)
	d.perClass[g.class]--
	d.counting--
}

// weigh puts a group that grew or shrank into its class.
func (d *Detector) weigh(g *group) {
	if g.weight() != g.class {
		d.delist(g)
		d.enlist(g)
	}
}

// join adds a group to its subject, which is made where it isn't there, or not any more.
func (d *Detector) join(at *found, key *subjectKey, g *group) {
	if at.of == nil || len(at.of.groups) == 0 {
		at.of = newSubject(key, at.hash)
		d.subjects.add(at.of)
	}
	g.of = at.of
	s := slot{rule: g.rule, group: g}
	if g.open != nil {
		s.openUntil = max(g.open.until, 1)
	}
	g.of.groups = append(g.of.groups, s)
}

func (d *Detector) drop(g *group) {
	i := slices.IndexFunc(g.of.groups, func(at slot) bool { return at.group == g })
	if g.of.groups = slices.Delete(g.of.groups, i, i+1); len(g.of.groups) == 0 {
		d.subjects.remove(g.of)
	}
	if g.open != nil {
		d.open.remove(g)
		delete(d.byID, g.open.offence)
		for _, id := range g.open.told {
			delete(d.parts, id)
		}
		return
	}
	d.delist(g)
	d.bytes -= g.bytes()
}

// friends remembers the sources that logged in anywhere, an IPv6 one by its /64. Two generations: when the newer is full the
// older one is forgotten, but what is asked for or logs in again moves to the newer.
type friends struct {
	limit    int
	evicted  uint64
	now, old map[netip.Prefix]struct{}
}

func newFriends(limit int) friends {
	return friends{limit: max(limit/2, 1), now: map[netip.Prefix]struct{}{}}
}

func (f *friends) note(a netip.Addr) {
	if a.IsValid() {
		f.add(friendOf(a))
	}
}

func (f *friends) add(p netip.Prefix) {
	if _, ok := f.now[p]; ok {
		return
	}
	if len(f.now) >= f.limit {
		for old := range f.old {
			if _, ok := f.now[old]; !ok {
				f.evicted++
			}
		}
		f.old, f.now = f.now, map[netip.Prefix]struct{}{}
	}
	f.now[p] = struct{}{}
}

func (f *friends) has(a netip.Addr) bool {
	p := friendOf(a)
	if _, ok := f.now[p]; ok {
		return true
	}
	_, ok := f.old[p]
	if ok {
		f.add(p)
	}
	return ok
}

func friendOf(a netip.Addr) netip.Prefix { return event.SourcePrefix(a, 64) }
