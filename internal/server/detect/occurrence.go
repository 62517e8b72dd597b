package detect

import (
	"net/netip"

	"github.com/dchest/siphash"

	"github.com/kokkuri/kokkuri/internal/event"
)

// occurrence is an event with what the rules share of it.
type occurrence struct {
	event *event.Event
	raw   []byte
	pos   event.Position
	nanos int64
	text  int    // bytes that are kept of raw
	named uint64 // the account's value; 0 until a rule wants it
	made  *made  // apart, so that what outlives the event is not taken for the event itself
}

// made is what is made of an event and outlives it.
type made struct {
	clock *hostClock
	whole *detail // when the first rule wants it
}

func (o *occurrence) detail() *detail {
	if o.made.whole == nil {
		o.made.whole = newDetail(o.event, o.raw, o.text, o.made.clock.said(o.event))
	}
	return o.made.whole
}

// entry is the event as one of a group.
func (o *occurrence) entry(value uint64) entry {
	return entry{
		nanos: o.nanos, first: o.nanos, seq: o.pos.Sequence, index: int32(o.pos.Index),
		attempts: int32(min(max(o.event.Attempts, 1), maxAttempts)), value: value, whole: o.detail(),
	}
}

// detail is what an entry's event said; the groups of several rules share it.
type detail struct {
	said     *said
	source   address
	account  string
	resource string
	line     string
	size     uint32 // about how many bytes it takes
	port     uint16
	located  bool // it has a source
}

// said is what most events of a host have in common with others.
type said struct {
	service      event.Service
	kind         event.Kind
	host, method string
}

// About how many bytes a group takes: with its place in the map and in a list, for each entry, and for each event that is kept whole.
const (
	groupBytes  = 240
	entryBytes  = 48
	detailBytes = 96
)

// newDetail keeps an event and as many bytes of its line.
func newDetail(e *event.Event, raw []byte, text int, said *said) *detail {
	t := &detail{said: said, account: e.Account, resource: e.Resource, line: string(raw[:min(len(raw), text)]), port: e.SourcePort}
	t.source, t.located = addressOf(e.Source, 32, 128)
	// What is given up for the bounds does not depend on how much is kept of a line.
	t.size = sizeOf(t, min(len(raw), maxLine))
	return t
}

func sizeOf(t *detail, line int) uint32 {
	return uint32(detailBytes + line + len(t.account) + len(t.resource))
}

// addr is the source; invalid where there is none.
func (t *detail) addr() netip.Addr {
	if !t.located {
		return netip.Addr{}
	}
	return netip.AddrFrom16(t.source.bytes()).Unmap()
}

func (en *entry) position() event.Position {
	return event.Position{Sequence: en.seq, Index: int(en.index)}
}

func (en *entry) event() event.Event {
	t := en.whole
	attempts := int(en.attempts)
	if t.said.kind != event.AuthFailed {
		attempts = 0
	}
	return event.Event{
		Service: t.said.service, Kind: t.said.kind, Source: t.addr(), SourcePort: t.port, Account: t.account, Method: t.said.method,
		Resource: t.resource, Attempts: attempts, Host: t.said.host, Time: timeOf(en.nanos),
	}
}

// hashKey keys the hashes of values, so that nobody can choose values that count as one.
type hashKey [2]uint64

// value is what an entry of this event has in common with others; 0 where each stands for itself.
func (k hashKey) value(r *ruleState, o *occurrence) (v uint64, ok bool) {
	switch r.mode {
	case exact:
		return 0, true
	case bucketed:
		return uint64(o.nanos/r.width) + 1, true
	case distinct:
	}
	switch e := o.event; r.Distinct {
	case BySource:
		source, ok := addressOf(e.Source, r.shape.ipv4, r.shape.ipv6)
		if !ok {
			return 0, false
		}
		b := source.bytes()
		return siphash.Hash(k[0], k[1], b[:]) | 1, true
	case ByAccount:
		if o.named == 0 && e.Account != "" {
			o.named, _ = k.text(e.Account)
		}
		return o.named, o.named != 0
	case ByHost:
		return k.text(e.Host)
	case Method:
		return k.text(e.Method)
	case Resource:
		return k.text(e.Resource)
	}
	return 0, false
}

func (k hashKey) text(s string) (v uint64, ok bool) {
	return siphash.Hash(k[0], k[1], []byte(s)) | 1, s != ""
}
