package detect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"

	"github.com/kokkuri/kokkuri/internal/event"
)

// ErrSnapshot says that a snapshot is damaged or of another version.
var ErrSnapshot = errors.New("no usable snapshot of the detector")

// snapshotMagic begins every snapshot; its last byte is the version of the form.
const snapshotMagic = "KKDET\x01"

// Snapshot writes all that the detector remembers, with the last position, into bytes (binary; not JSON) for
// [Detector.Restore]. A detector restored from it answers the events after that position as this one would.
func (d *Detector) Snapshot() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &writer{b: append(make([]byte, 0, 1024+d.bytes), snapshotMagic...), details: map[*detail]uint64{}}
	w.flag(d.seen)
	w.position(d.last)
	w.stats(d.stats)
	w.uint(uint64(len(d.rules)))
	for i := range d.rules {
		w.text(d.rules[i].Name)
		w.text(signature(&d.rules[i]))
	}
	w.uint(uint64(len(d.clocks)))
	for _, host := range slices.Sorted(maps.Keys(d.clocks)) {
		w.text(host)
		w.int(d.clocks[host])
	}
	w.uint(uint64(d.count.n))
	for g := d.count.oldest(); g != nil; g = g.newer {
		w.key(g.key)
		w.uint(uint64(len(g.entries)))
		for _, en := range g.entries {
			w.int(en.nanos)
			w.position(en.pos)
			w.uint(uint64(en.attempts))
			w.detail(en.whole)
		}
	}
	w.uint(uint64(d.open.n))
	for g := d.open.oldest(); g != nil; g = g.newer {
		w.key(g.key)
		w.text(g.offence)
		w.int(g.openUntil)
	}
	w.logins(&d.logins)
	return binary.BigEndian.AppendUint32(w.b, crc32.ChecksumIEEE(w.b)), nil
}

// signature says what a rule's groups are; where it changed, they can't be taken over.
func signature(r *Rule) string {
	return fmt.Sprintf("%s %v %v %d", r.Service, r.Kinds, r.GroupBy, r.IPv6Prefix)
}

// Restore replaces all that the detector remembers by what a snapshot holds. Groups of rules that are no
// more, or that group otherwise now, are left out. Where it fails, with [ErrSnapshot], the
// detector is as it was.
func (d *Detector) Restore(snapshot []byte) error {
	n := len(snapshot) - crc32.Size
	if n < len(snapshotMagic) || string(snapshot[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("%w: it does not begin as one of this version", ErrSnapshot)
	}
	if binary.BigEndian.Uint32(snapshot[n:]) != crc32.ChecksumIEEE(snapshot[:n]) {
		return fmt.Errorf("%w: wrong checksum", ErrSnapshot)
	}
	fresh := New(d.opts)
	r := &reader{b: snapshot[len(snapshotMagic):n]}
	r.restore(fresh)
	if r.err != nil {
		return r.err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups, d.byID, d.count, d.open, d.bytes = fresh.groups, fresh.byID, fresh.count, fresh.open, fresh.bytes
	d.clocks, d.logins, d.last, d.seen, d.stats = fresh.clocks, fresh.logins, fresh.last, fresh.seen, fresh.stats
	return nil
}

type writer struct {
	b       []byte
	details map[*detail]uint64 // written ones, by number from 1
}

func (w *writer) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)   { w.b = binary.AppendVarint(w.b, v) }

func (w *writer) flag(v bool) {
	if v {
		w.uint(1)
	} else {
		w.uint(0)
	}
}

func (w *writer) text(s string) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) position(p event.Position) {
	w.uint(p.Sequence)
	w.int(int64(p.Index))
}

func (w *writer) addr(a netip.Addr) {
	b := a.AsSlice()
	w.uint(uint64(len(b)))
	w.b = append(w.b, b...)
}

func (w *writer) prefix(p netip.Prefix) {
	w.addr(p.Addr())
	w.int(int64(p.Bits()))
}

func (w *writer) key(k groupKey) {
	w.text(k.rule)
	w.prefix(k.source)
	w.text(k.host)
	w.text(k.account)
}

// detail writes 0 for none, the number of one that was written before, or the next number and the detail.
func (w *writer) detail(t *detail) {
	if t == nil {
		w.uint(0)
		return
	}
	if n, ok := w.details[t]; ok {
		w.uint(n)
		return
	}
	n := uint64(len(w.details) + 1)
	w.details[t] = n
	w.uint(n)
	w.addr(t.source)
	w.uint(uint64(t.port))
	for _, s := range [...]string{string(t.kind), t.host, t.account, t.method, t.line} {
		w.text(s)
	}
}

func (w *writer) stats(s Stats) {
	for _, v := range [...]uint64{s.Counted, s.Absorbed, s.Replayed, s.NoGroup, s.Evicted, s.EvictedOpen} {
		w.uint(v)
	}
}

func (w *writer) logins(l *logins) {
	w.uint(l.evicted)
	w.uint(uint64(l.order.Len()))
	for el := l.order.Front(); el != nil; el = el.Next() {
		set := value(el)
		w.text(string(set.key.service))
		w.text(set.key.host)
		w.prefix(set.key.source)
		w.uint(uint64(len(set.list)))
		for _, one := range set.list {
			w.addr(one.peer.Addr())
			w.uint(uint64(one.peer.Port()))
			w.position(one.pos)
		}
	}
}
