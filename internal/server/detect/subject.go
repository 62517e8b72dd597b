package detect

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// address is a source without the bits by which sources are alike; an IPv4 one as it is mapped into IPv6.
type address struct{ hi, lo uint64 }

// addressOf is a canonical address cut to as many bits as its family's are told apart by; ok is false for none.
func addressOf(a netip.Addr, ipv4, ipv6 int) (cut address, ok bool) {
	bits := ipv6
	switch {
	case !a.IsValid():
		return address{}, false
	case a.Is4() || a.Is4In6():
		bits = ipv4 + 96
	}
	b := a.As16()
	cut = address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	if bits <= 64 {
		cut.hi, cut.lo = cut.hi&(^uint64(0)<<(64-bits)), 0
	} else {
		cut.lo &= ^uint64(0) << (128 - bits)
	}
	return cut, true
}

func (a address) bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return b
}

// subjectKey names whom or what a rule's group is about; what the rule doesn't group by is zero.
type subjectKey struct {
	shape   *shape
	source  address
	host    string
	account string
}

func (k *subjectKey) is(other *subjectKey) bool {
	return k.source == other.source && k.shape == other.shape && k.host == other.host && k.account == other.account
}

// prefix is the source; invalid where the rule doesn't group by it.
func (k *subjectKey) prefix() netip.Prefix {
	if !k.shape.bySource {
		return netip.Prefix{}
	}
	a := netip.AddrFrom16(k.source.bytes()).Unmap()
	if a.Is4() {
		return netip.PrefixFrom(a, k.shape.ipv4)
	}
	return netip.PrefixFrom(a, k.shape.ipv6)
}

// group is the same for those that ask.
func (k *subjectKey) group() Group { return Group{k.prefix(), k.host, k.account} }

// keyOf returns the subject that an event is about; false where the event lacks a field of it.
func (s *shape) keyOf(e *event.Event) (k subjectKey, ok bool) {
	k.shape = s
	if s.bySource {
		if k.source, ok = addressOf(e.Source, s.ipv4, s.ipv6); !ok {
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

// keyOfGroup is the key of a group as it is told; false where no event could be of it.
func (s *shape) keyOfGroup(g Group) (subjectKey, bool) {
	k, ok := s.keyOf(&event.Event{Source: g.Source.Addr(), Host: g.Host, Account: g.Account})
	return k, ok && k.group() == g
}

// sourceOf is an event's source as the shape's rules tell sources apart.
func (s *shape) sourceOf(e *event.Event) netip.Prefix {
	k := subjectKey{shape: &shape{bySource: true, ipv4: s.ipv4, ipv6: s.ipv6}}
	var ok bool
	if k.source, ok = addressOf(e.Source, s.ipv4, s.ipv6); !ok {
		return netip.Prefix{}
	}
	return k.prefix()
}

// subject has the groups of all rules that group alike: one search finds them all.
type subject struct {
	key    subjectKey
	groups []slot
	hash   uint64
	next   *subject // of the same hash
}

// newSubject is a subject with room for its groups, which for the usual number is where the subject is: a search waits for memory
// more than for anything else.
func newSubject(key *subjectKey, hash uint64) *subject {
	switch room := key.shape.room; {
	case room == 1:
		s := &struct {
			subject

			slots [1]slot
		}{subject: subject{key: *key, hash: hash}}
		s.groups = s.slots[:0]
		return &s.subject
	case room <= usualRoom:
		s := &struct {
			subject

			slots [usualRoom]slot
		}{subject: subject{key: *key, hash: hash}}
		s.groups = s.slots[:0]
		return &s.subject
	}
	return &subject{key: *key, hash: hash, groups: make([]slot, 0, key.shape.room)}
}

// usualRoom is how many groups a subject has at most as a rule; with them it is 192 bytes.
const usualRoom = 4

// warm has the processor fetch the groups that an event at the time goes to, all at once instead of one after the other.
func (s *subject) warm(now int64) (sum int64) {
	for i := range s.groups {
		if at := &s.groups[i]; at.openUntil <= now {
			sum += at.group.last
		}
	}
	for i := range s.groups {
		if at := &s.groups[i]; at.openUntil <= now {
			if n := len(at.group.entries); n > 0 {
				sum += at.group.entries[n-1].nanos
			}
		}
	}
	return sum
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

// found is where a key's subject is, or is to be.
type found struct {
	of   *subject // nil: none
	hash uint64
}

// subjects finds subjects by their keys. Their hashes are keyed, so that nobody can choose keys that meet.
type subjects struct {
	by   map[uint64]*subject
	seed maphash.Seed
}

func newSubjects() subjects { return subjects{map[uint64]*subject{}, maphash.MakeSeed()} }

// hash is a key's. Most events are of few hosts, whose clocks know theirs.
func (s *subjects) hash(k *subjectKey, clock *hostClock) uint64 {
	var b [40]byte
	binary.LittleEndian.PutUint64(b[0:], k.source.hi)
	binary.LittleEndian.PutUint64(b[8:], k.source.lo)
	binary.LittleEndian.PutUint64(b[16:], k.shape.id)
	if !k.shape.byHost && !k.shape.byAccount {
		return maphash.Bytes(s.seed, b[:24])
	}
	if k.shape.byHost {
		if clock.host != k.host {
			binary.LittleEndian.PutUint64(b[24:], maphash.String(s.seed, k.host))
		} else {
			if clock.hash == 0 {
				clock.hash = maphash.String(s.seed, k.host)
			}
			binary.LittleEndian.PutUint64(b[24:], clock.hash)
		}
	}
	if k.shape.byAccount {
		binary.LittleEndian.PutUint64(b[32:], maphash.String(s.seed, k.account))
	}
	return maphash.Bytes(s.seed, b[:])
}

// find returns the subject of a key with its hash; nil where there is none.
func (s *subjects) find(hash uint64, k *subjectKey) *subject {
	of := s.by[hash]
	for of != nil && !of.key.is(k) {
		of = of.next
	}
	return of
}

func (s *subjects) add(of *subject) {
	of.next = s.by[of.hash]
	s.by[of.hash] = of
}

func (s *subjects) remove(of *subject) {
	first := s.by[of.hash]
	if first != of {
		for before := first; before != nil; before = before.next {
			if before.next == of {
				before.next = of.next
				return
			}
		}
		return
	}
	if of.next == nil {
		delete(s.by, of.hash)
	} else {
		s.by[of.hash] = of.next
	}
}

// all are the subjects there are.
func (s *subjects) all(yield func(*subject) bool) {
	for _, of := range s.by {
		for of != nil {
			next := of.next
			if !yield(of) {
				return
			}
			of = next
		}
	}
}
