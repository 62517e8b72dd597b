package detect

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// reader reads what writer wrote. After a fault every answer is zero and err says what was wrong.
type reader struct {
	b       []byte
	details []*detail
	err     error
}

func (r *reader) restore(d *Detector) {
	d.seen = r.uint() != 0
	d.last = r.position()
	for _, v := range [...]*uint64{
		&d.stats.Counted, &d.stats.Absorbed, &d.stats.Replayed, &d.stats.NoGroup, &d.stats.Evicted, &d.stats.EvictedOpen,
	} {
		*v = r.uint()
	}
	same := map[string]*Rule{}
	for range r.count() {
		name, sig := r.text(), r.text()
		if rule := d.rule(name); rule != nil && signature(rule) == sig {
			same[name] = rule
		}
	}
	for range r.count() {
		host := r.text()
		d.clocks[host] = r.int()
	}
	for range r.count() {
		g := &group{key: r.key()}
		for range r.count() {
			g.entries = append(g.entries, entry{nanos: r.int(), pos: r.position(), attempts: r.small(), whole: r.detail()})
		}
		if r.err == nil && same[g.key.rule] != nil && d.groups[g.key] == nil && len(g.entries) > 0 {
			d.groups[g.key] = g
			d.count.push(g)
			g.measure()
			d.bytes += g.bytes
		}
	}
	for range r.count() {
		g := &group{key: r.key(), offence: r.text(), openUntil: r.int()}
		if r.err == nil && same[g.key.rule] != nil && d.groups[g.key] == nil && g.offence != "" && d.byID[g.offence] == nil {
			d.groups[g.key] = g
			d.open.push(g)
			d.byID[g.offence] = g
		}
	}
	r.logins(&d.logins)
	if r.err == nil && len(r.b) > 0 {
		r.fail("more bytes than expected")
	}
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
func (r *reader) small() int {
	v := r.uint()
	if v > math.MaxInt32 {
		r.fail("a number is too large")
		return 0
	}
	return int(v)
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

func (r *reader) key() groupKey {
	return groupKey{rule: r.text(), source: r.prefix(), host: r.text(), account: r.text()}
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
	t := &detail{source: r.addr()}
	port := r.uint()
	if port > math.MaxUint16 {
		r.fail("a port is none")
		return nil
	}
	t.port = uint16(port)
	t.kind = event.Kind(r.text())
	t.host, t.account, t.method, t.line = r.text(), r.text(), r.text(), r.text()
	r.details = append(r.details, t)
	return t
}
