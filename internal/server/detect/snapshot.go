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
const snapshotMagic = "KKDET\x03"

// Snapshot writes all that the detector remembers, with the last position, into bytes (binary; not JSON) for
// [Detector.Restore]. A detector restored from it answers the events after that position as this one would.
func (d *Detector) Snapshot() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &writer{b: append(make([]byte, 0, 1024+d.bytes/2), snapshotMagic...), details: map[*detail]uint64{}, strings: map[string]uint64{}}
	w.flag(d.seen)
	w.position(d.last)
	w.stats(d.stats)
	w.uint(d.hash[0])
	w.uint(d.hash[1])
	w.uint(uint64(len(d.rules)))
	numbers := map[*ruleState]uint64{}
	for i, r := range d.rules {
		numbers[r] = uint64(i)
		w.text(r.Name)
		w.text(r.sig)
	}
	w.clocks(&d.clocks)
	w.uint(uint64(d.sweep))
	w.uint(uint64(d.counting))
	for _, r := range d.rules {
		for c := range r.count {
			for g := r.count[c].oldest(); g != nil; g = g.newer {
				w.uint(numbers[r])
				w.group(g)
			}
		}
	}
	w.uint(uint64(d.open.n))
	for g := d.open.oldest(); g != nil; g = g.newer {
		w.uint(numbers[g.rule])
		w.group(g)
		w.text(g.open.offence)
		w.int(g.open.until)
		w.uint(uint64(len(g.open.told)))
		for _, value := range slices.Sorted(maps.Keys(g.open.told)) {
			w.uint(value)
			w.text(g.open.told[value])
		}
	}
	w.logins(&d.logins)
	w.friends(&d.friends)
	return binary.BigEndian.AppendUint32(w.b, crc32.ChecksumIEEE(w.b)), nil
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
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := New(d.opts)
	r := &reader{b: snapshot[len(snapshotMagic):n]}
	r.restore(fresh)
	if r.err != nil {
		return r.err
	}
	d.rules, d.table, d.subjects, d.shapes, d.byID, d.open = fresh.rules, fresh.table, fresh.subjects, fresh.shapes, fresh.byID, fresh.open
	d.parts = fresh.parts
	d.perClass, d.counting, d.bytes, d.clocks, d.hash = fresh.perClass, fresh.counting, fresh.bytes, fresh.clocks, fresh.hash
	d.sweep = fresh.sweep
	d.logins, d.friends, d.last, d.seen, d.stats = fresh.logins, fresh.friends, fresh.last, fresh.seen, fresh.stats
	return nil
}

type writer struct {
	b       []byte
	details map[*detail]uint64 // written ones, by number from 1
	strings map[string]uint64  // likewise
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

// name writes a string that most likely comes again: 0 and the string, or its number.
func (w *writer) name(s string) {
	if n, ok := w.strings[s]; ok {
		w.uint(n)
		return
	}
	w.uint(0)
	w.text(s)
	w.strings[s] = uint64(len(w.strings) + 1)
}

// clocks writes the hosts' clocks.
func (w *writer) clocks(c *clocks) {
	w.int(c.all.now)
	w.uint(uint64(len(c.byHost)))
	for _, host := range slices.Sorted(maps.Keys(c.byHost)) {
		w.name(host)
		w.int(c.byHost[host].now)
	}
}

func (w *writer) group(g *group) {
	w.prefix(g.of.key.prefix())
	w.name(g.of.key.host)
	w.name(g.of.key.account)
	w.int(g.last)
	w.int(g.listed)
	w.uint(uint64(len(g.entries)))
	for i := range g.entries {
		en := &g.entries[i]
		w.int(en.nanos)
		w.int(en.nanos - en.first)
		w.uint(en.seq)
		w.int(int64(en.index))
		w.uint(uint64(en.attempts))
		w.uint(en.value)
		w.detail(en.whole)
	}
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
	w.addr(t.addr())
	w.uint(uint64(t.port))
	for _, s := range [...]string{string(t.said.kind), string(t.said.service), t.said.host, t.account, t.said.method} {
		w.name(s)
	}
	w.text(t.resource)
	w.text(t.line)
}

func (w *writer) stats(s Stats) {
	for _, v := range [...]uint64{s.Counted, s.Absorbed, s.Replayed, s.NoGroup, s.Late, s.Conditions, s.Evicted, s.EvictedHeavy, s.Contributors, s.EvictedOpen} {
		w.uint(v)
	}
}

func (w *writer) friends(f *friends) {
	w.uint(f.evicted)
	for _, generation := range [...]map[netip.Prefix]struct{}{f.now, f.old} {
		w.uint(uint64(len(generation)))
		for _, p := range slices.SortedFunc(maps.Keys(generation), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }) {
			w.prefix(p)
		}
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
