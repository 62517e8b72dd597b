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
	latest  *[latestStrings]string // of these, found without a search
	host    string                 // of the line before, which the next one's mostly is too
	clock   clock
	options lineOptions
	head    head // of the line that is read: on the heap once, not for each line
}

// Reading is what a line says by itself.
type Reading struct {
	Event  event.Event
	Header bool // the line has a header of one of the forms that are known
	known  bool
	note   Note
	joins  bool
	twin   twin
	inner  inner
	joined joined
	web    webTwin
	peer   peerForm
}

// Note tells what the reading's event does not say. Where the reading joins, it is true once it is settled.
func (r *Reading) Note() Note {
	n := r.note
	n.Service, n.NoAddress = r.Event.Service, lacksAddress(&r.Event)
	return n
}

// joined is what a Joiner needs of the lines of databases.
type joined struct {
	pid, serial string
	op          join
	tabbed      bool
	name        nameLine
}

// Joins says whether what the line means depends on the lines before it, or theirs on it: whether a [Joiner] must see it.
func (r *Reading) Joins() bool { return r.joins }

// Understood says whether the line has a form that is known of its program, though it may state nothing of interest.
func (r *Reading) Understood() bool { return r.known }

// Line reads a line, header and message, into r (see [Line]), all of which it sets.
func (p *Reader) Line(line []byte, ref time.Time, r *Reading) {
	h := &p.head
	*h = head{}
	if r.Header = p.clock.header(line, ref, h); !r.Header {
		*r = Reading{Event: event.Event{Kind: event.None}}
		return
	}
	var f fact
	parseWhole(h, p.options, p.intern, r, &f)
	r.Event.Host = p.internHost(h.host)
	r.twin, r.inner = twin{}, inner{}
	switch r.joins = true; {
	case f.first != notFirst || r.Event.Method == promptMethod:
		r.twin = twin{string(h.pid), f.first, max(f.repeated, 1)}
	case f.part != noPart:
		r.inner = innerOf(h, &f)
		r.joins = r.inner.part != noPart
	default:
		r.joins = false
	}
	switch r.Event.Service { //nolint:exhaustive // the others' lines say all themselves
	case event.MySQL:
		if r.joins = f.style != framed; !r.joins {
			break
		}
		r.joined = joined{pid: p.intern(h.pid), name: nameLineOf(&f, h.text)}
	case event.Postgres:
		if r.joins = f.join != noJoin; r.joins {
			r.joined = joined{pid: p.intern(h.pid), serial: p.intern(f.serial), op: f.join, tabbed: f.tabbed}
		}
	}
	r.web, r.peer = webTwin{f.web, max(f.repeated, 1)}, f.peer
	if f.web != notWeb || f.peer == peerName || f.peer == peerAddress && f.kind != event.None {
		r.joins = true
	}
}

// internHost is intern for a line's host.
func (p *Reader) internHost(b []byte) string {
	if string(b) != p.host {
		p.host = p.intern(b)
	}
	return p.host
}

// Message reads a message that came without a header as one of the service's.
func (p *Reader) Message(service event.Service, msg []byte) event.Event {
	return parseMessage(service, msg, p.options, p.intern)
}

// latestStrings is a power of two.
const latestStrings = 64

// intern returns b as a string, the same for the same bytes.
func (p *Reader) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if p.latest == nil {
		p.latest = new([latestStrings]string)
	}
	// What differs among short names is mostly at their ends.
	at := &p.latest[(len(b)+3*int(b[0])+5*int(b[len(b)-1]))%latestStrings]
	if *at == string(b) {
		return *at
	}
	s, ok := p.strings[string(b)]
	if !ok {
		if p.strings == nil || len(p.strings) >= maxInterned {
			p.strings = make(map[string]string)
		}
		s = string(b)
		p.strings[s] = s
	}
	*at = s
	return s
}

// Joiner settles readings whose meaning depends on other lines of their stream. It takes them in the stream's order; it
// is for one goroutine, and the zero value is ready.
type Joiner struct {
	twins       twins
	connections connections
	names       names
	links       links
	web         webTwins
	peers       naming
}

// Settle changes r's event where it restates what another line said, or lacks what another said. Readings that don't join need not come.
func (j *Joiner) Settle(r *Reading) {
	if !r.joins {
		return
	}
	j.peers.settle(&r.Event, r.peer)
	switch {
	case r.Event.Service == event.MySQL:
		j.names.settle(&r.Event, r.joined.pid, r.joined.name)
	case r.Event.Service == event.Postgres:
		j.links.once(&r.Event, r.joined)
		j.links.settle(&r.Event, r.joined)
	case r.web.line != notWeb:
		j.web.settle(&r.Event, r.web)
	case r.inner.part != noPart:
		j.connections.settle(&r.Event, r.inner)
	default:
		j.twins.settle(&r.Event, r.twin)
	}
}
