package parse

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxJoins = 4096            // connections whose address is remembered; at most twice as many
	joinLife = 3 * time.Minute // longer than a server waits for a login (PostgreSQL: a minute)
)

// reopenAfter is how soon a number of a process that has let somebody in may come again; sooner it is rather somebody
// who got in and writes into the log.
const reopenAfter = 10 * time.Minute

// sameMessage is within what time all lines of one message come.
const sameMessage = 5 * time.Second

// join says what a line means for the connection that its process serves, where programs say a peer's address
// in one line and what became of it in another.
type join uint8

const (
	noJoin          join = iota
	joinOpened           // the event's source is the peer of a new connection
	joinFailed           // the login failed, and the connection is at its end
	joinPassed           // the login succeeded
	joinPassedBlind      // the same, said where names may have invented it: nobody is named
	joinClosed           // the connection is at its end
)

// links gives events the address that an earlier line of the same process stated. A process serves one connection, and
// its number comes again; so what is opened twice with different peers belongs to nobody.
type links struct {
	open    recent[streamKey, opened]
	counted recent[streamKey, *stated] // the message of a process that was counted last, where several lines are one
}

type stated struct {
	serial string
	at     time.Time
}

// once demotes a guess that another line of the same message has stated, and one in a line
// that begins with a tab, unless the process still waits for a login: who got in can make it write such lines.
func (j *links) once(e *event.Event, l joined) {
	if l.serial == "" || e.Kind != event.AuthFailed {
		return
	}
	k := streamKey{e.Host, l.pid}
	if l.tabbed {
		if o, ok := j.open.get(k); !ok || o.passed {
			e.Kind, e.Attempts = event.Context, 0
			return
		}
	}
	last, ok := j.counted.get(k)
	switch {
	case !ok:
		j.counted.half = maxJoins
		j.counted.put(k, &stated{l.serial, e.Time})
	case last.serial == l.serial && e.Time.Sub(last.at) <= sameMessage:
		e.Kind, e.Attempts = event.Context, 0
	default:
		*last = stated{l.serial, e.Time}
	}
}

type opened struct {
	peer   netip.AddrPort // invalid: contradictory
	passed bool
	at     time.Time
}

// settle fills in what e lacks.
func (j *links) settle(e *event.Event, l joined) {
	op := l.op
	if op == noJoin || l.pid == "" {
		return
	}
	k := streamKey{e.Host, l.pid}
	o, known := j.open.get(k)
	if known && !o.passed && (e.Time.Sub(o.at) > joinLife || o.at.Sub(e.Time) > joinLife) {
		j.open.remove(k)
		known = false
	}
	if op == joinOpened {
		j.openedAt(k, e, o, known && (!o.passed || e.Time.Sub(o.at) < reopenAfter))
		return
	}
	if !known {
		return
	}
	// Who has logged in can't fail to any more: it is another process with the same number, or an invented line.
	if !e.Source.IsValid() && o.peer.IsValid() && (op != joinFailed || !o.passed) && op != joinPassedBlind {
		e.Source, e.SourcePort = o.peer.Addr(), o.peer.Port()
	}
	if op == joinPassed || op == joinPassedBlind {
		o.passed = true
		j.open.put(k, o)
		return
	}
	j.open.remove(k)
}

func (j *links) openedAt(k streamKey, e *event.Event, o opened, pending bool) {
	j.open.half = maxJoins
	now := opened{at: e.Time}
	if e.Source.IsValid() {
		now.peer = netip.AddrPortFrom(e.Source, e.SourcePort)
	}
	if pending && o.peer != now.peer {
		now.peer = netip.AddrPort{}
		e.Source, e.SourcePort = netip.Addr{}, 0
	}
	j.open.put(k, now)
}
