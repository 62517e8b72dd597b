package parse

import (
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxInterned bounds the strings that a Reader keeps for reuse.
const maxInterned = 8192

// Reader reads lines each by itself, in any order: several may read the parts of one stream at the same time. What
// they read is settled by one [Joiner], in the stream's order. A Reader is for one goroutine; the zero value is ready.
type Reader struct {
	strings map[string]string
	clock   clock
}

// Reading is what a line says by itself.
type Reading struct {
	Event  event.Event
	Header bool // the line has a header of one of the forms that are known
	joins  bool
	twin   twin
}

// Joins says whether what the line means depends on the lines before it, or theirs on it: whether a [Joiner] must see it.
func (r *Reading) Joins() bool { return r.joins }

// Line reads a line, header and message, into r (see [Line]), all of which it sets.
func (p *Reader) Line(line []byte, ref time.Time, r *Reading) {
	var h head
	if r.Header = p.clock.header(line, ref, &h); !r.Header {
		*r = Reading{Event: event.Event{Kind: event.None}}
		return
	}
	f := parseWhole(&h, p.intern, &r.Event)
	if r.joins = f.first != notFirst || r.Event.Method == promptMethod; r.joins {
		r.twin = twin{string(h.pid), f.first, max(f.repeated, 1)}
	}
}

// Message reads a message that came without a header as one of the service's.
func (p *Reader) Message(service event.Service, msg []byte) event.Event {
	return parseMessage(service, msg, p.intern)
}

func (p *Reader) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := p.strings[string(b)]; ok {
		return s
	}
	if p.strings == nil || len(p.strings) >= maxInterned {
		p.strings = make(map[string]string)
	}
	s := string(b)
	p.strings[s] = s
	return s
}

// Joiner settles readings whose meaning depends on other lines of their stream. It takes them in the stream's order; it
// is for one goroutine, and the zero value is ready.
type Joiner struct {
	twins twins
}

// Settle changes r's event where it restates what another line said. Readings that don't join need not come.
func (j *Joiner) Settle(r *Reading) {
	if r.joins {
		j.twins.settle(&r.Event, r.twin)
	}
}
