package detect

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/kokkuri/kokkuri/internal/event"
)

// reader reads what writer wrote. After a fault every answer is zero and err says what was wrong.
type reader struct {
	b       []byte
	details []*detail
	strings []string
	said    map[said]*said
	err     error
}

func (r *reader) restore(d *Detector) {
	d.seen = r.uint() != 0
	d.last = r.position()
	for _, v := range [...]*uint64{
		&d.stats.Counted, &d.stats.Absorbed, &d.stats.Replayed, &d.stats.NoGroup, &d.stats.Late, &d.stats.Conditions,
		&d.stats.Evicted, &d.stats.EvictedHeavy, &d.stats.Contributors, &d.stats.EvictedOpen,
	} {
		*v = r.uint()
	}
	d.hash = hashKey{r.uint(), r.uint()}
	var same []*ruleState // by number; nil where it is another now
	for range r.count() {
		rule := d.rule(r.text())
		if sig := r.text(); rule != nil && rule.sig != sig {
			rule = nil
		}
		same = append(same, rule)
	}
	d.clocks.all.now = r.int()
	for range r.count() {
		host, now := r.name(), r.int()
		d.clocks.of(host).now = now
	}
	if len(d.rules) > 0 {
		d.sweep = int(r.uint() % uint64(len(d.rules)*classes))
	} else {
		r.uint()
	}
	for range r.count() {
		if g := r.group(d, same); g != nil && len(g.entries) > 0 {
			d.restored(g)
			listed := g.listed
			d.enlist(g)
			g.listed = listed
			d.bytes += g.bytes()
		}
	}
	for range r.count() {
		g, offence, until := r.group(d, same), r.text(), r.int()
		told := map[uint64]string{}
		for range r.count() {
			value := r.uint()
			told[value] = r.text()
		}
		if r.err == nil && g != nil && offence != "" && d.byID[offence] == nil {
			g.open = &opened{offence: offence, until: until}
			for value, id := range told {
				d.tell(g, value, id)
			}
			d.restored(g)
			listed := g.listed
			d.open.push(g)
			g.listed = listed
			d.byID[offence] = g
		}
	}
	r.logins(&d.logins)
	r.friends(&d.friends)
	if r.err == nil && len(r.b) > 0 {
		r.fail("more bytes than expected")
	}
}

// group reads a group; nil where its rule is another now.
func (r *reader) group(d *Detector, same []*ruleState) *group {
	n := r.uint()
	if n >= uint64(len(same)) {
		r.fail("a rule is missing")
		return nil
	}
	by := Group{r.prefix(), r.name(), r.name()}
	g := &group{rule: same[n], last: r.int(), listed: r.int()}
	for range r.count() {
		en := entry{nanos: r.int()}
		en.first = en.nanos - r.int()
		en.seq, en.index = r.uint(), int32(r.int())
		en.attempts, en.value, en.whole = r.small(), r.uint(), r.detail()
		g.entries = append(g.entries, en)
	}
	if r.err != nil || g.rule == nil {
		return nil
	}
	key, ok := g.rule.shape.keyOfGroup(by)
	if !ok {
		return nil
	}
	g.clock = d.clocks.all
	if g.rule.shape.byHost {
		g.clock = d.clocks.of(key.host)
	}
	g.of = &subject{key: key, hash: d.subjects.hash(&key, g.clock)}
	if d.subjects.find(g.of.hash, &key).group(g.rule) != nil || g.rule.Contributors > 0 && slices.ContainsFunc(g.entries, func(en entry) bool { return en.whole == nil }) {
		return nil
	}
	return g
}

// restored puts a group back that was read.
func (d *Detector) restored(g *group) {
	for i := range g.entries {
		if w := g.entries[i].whole; w != nil {
			g.held += w.size
		}
	}
	key, hash := g.of.key, g.of.hash
	d.join(&found{of: d.subjects.find(hash, &key), hash: hash}, &key, g)
}

func (r *reader) friends(f *friends) {
	evicted := r.uint()
	for i := range 2 {
		generation := map[netip.Prefix]struct{}{}
		for range r.count() {
			generation[r.prefix()] = struct{}{}
		}
		if i == 0 {
			f.now = generation
		} else {
			f.old = generation
		}
	}
	f.evicted = evicted
}

func (r *reader) logins(l *logins) {
	evicted := r.uint()
	for range r.count() {
		k := loginKey{service: event.Service(r.text()), host: r.text(), source: r.prefix()}
		for range r.count() {
			addr, port := r.addr(), r.uint()
			pos := r.position()
			if r.err == nil && port <= math.MaxUint16 {
				l.add(k, login{netip.AddrPortFrom(addr, uint16(port)), pos})
			}
		}
	}
	l.evicted = evicted
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrSnapshot, what)
	}
	r.b = nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("it ends too early")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("it ends too early")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many of something follow; each takes at least a byte.
func (r *reader) count() int {
	v := r.uint()
	if v > uint64(len(r.b)) {
		r.fail("a number is too large")
		return 0
	}
	return int(v)
}

// small reads a number of attempts.
func (r *reader) small() int32 {
	v := r.uint()
	if v > math.MaxInt32 {
		r.fail("a number is too large")
		return 0
	}
	return int32(v)
}

// name reads a string that may have come before.
func (r *reader) name() string {
	n := r.uint()
	if n > uint64(len(r.strings)) {
		r.fail("a string is missing")
		return ""
	}
	if n > 0 {
		return r.strings[n-1]
	}
	s := r.text()
	r.strings = append(r.strings, s)
	return s
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("it ends too early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string { return string(r.take(r.count())) }

func (r *reader) position() event.Position {
	return event.Position{Sequence: r.uint(), Index: int(r.int())}
}

func (r *reader) addr() netip.Addr {
	b := r.take(r.count())
	if len(b) == 0 {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		r.fail("an address is none")
	}
	return a
}

func (r *reader) prefix() netip.Prefix {
	a, bits := r.addr(), r.int()
	if !a.IsValid() || bits < 0 || bits > int64(a.BitLen()) {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits))
}

func (r *reader) detail() *detail {
	n := r.uint()
	switch {
	case n == 0:
		return nil
	case n <= uint64(len(r.details)):
		return r.details[n-1]
	case n > uint64(len(r.details))+1:
		r.fail("an event is missing")
		return nil
	}
	t := &detail{}
	t.source, t.located = addressOf(event.Canonical(r.addr()), 32, 128)
	port := r.uint()
	if port > math.MaxUint16 {
		r.fail("a port is none")
		return nil
	}
	t.port = uint16(port)
	said := said{kind: event.Kind(r.name()), service: event.Service(r.name()), host: r.name()}
	t.account, said.method = r.name(), r.name()
	t.resource, t.line = r.text(), r.text()
	t.said, t.size = r.same(said), sizeOf(t, len(t.line))
	r.details = append(r.details, t)
	return t
}

// same returns what several details say, once for all of them.
func (r *reader) same(s said) *said {
	known, ok := r.said[s]
	if !ok {
		if r.said == nil {
			r.said = map[said]*said{}
		}
		known = &s
		r.said[s] = known
	}
	return known
}
