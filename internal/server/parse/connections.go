package parse

import (
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxConnections = 4096
	connectionLife = 15 * time.Minute
)

// part is what a message is in a connection, of which a process of its own writes several. Only messages
// in which no client has a word may begin one.
type part uint8

const (
	noPart            part = iota
	firstOfConnection      // it names the peer before anything can happen
	guessInside            // a guess that may lack its address
	loginInside            // a login that may lack its address
	lastOfConnection       // it ends; fails is how many guesses it had
)

// connections complete messages by what others of the same process said. Dropbear, since 2020, names no address
// where it refuses an unknown account, and login(1) none where it lets someone in. A dropbear that refuses a known account
// for its shell says only at the end how many guesses there were.
type connections struct {
	byProcess map[process]*connection
}

type process struct {
	service event.Service
	host    string
	pid     uint32
}

type connection struct {
	peer
	begun   bool // its first line was seen, so that all its guesses were
	counted int
	last    time.Time
}

// inner is what of a line tells its place in a connection.
type inner struct {
	part  part
	fails int
	pid   uint32
}

// innerOf is empty where the line names no process.
func innerOf(h *head, f *fact) inner {
	pid, ok := pidNumber(h.pid)
	if !ok {
		return inner{}
	}
	return inner{f.part, f.fails, pid}
}

// settle changes e, which says itself what f says of its place, by what is known of the connection.
func (c *connections) settle(e *event.Event, f inner) {
	k := process{e.Service, e.Host, f.pid}
	conn := c.byProcess[k]
	if conn != nil && e.Time.Sub(conn.last) > connectionLife {
		delete(c.byProcess, k)
		conn = nil
	}
	if f.part == firstOfConnection {
		conn = c.begin(k)
		conn.peer, conn.begun = peer{e.Source, e.SourcePort}, true
	}
	if conn == nil && f.part == guessInside && e.Source.IsValid() {
		conn = c.begin(k) // of a program that has no first line
		conn.peer = peer{e.Source, e.SourcePort}
	}
	if conn == nil {
		return
	}
	conn.last = e.Time
	if !e.Source.IsValid() && f.part != lastOfConnection {
		e.Source, e.SourcePort = conn.addr, conn.port
	}
	switch f.part {
	case guessInside:
		conn.counted += e.Attempts
	case loginInside:
		if conn.addr.IsValid() {
			e.Kind, e.Method = event.AuthOK, "password"
		}
	case lastOfConnection:
		if more := f.fails - conn.counted; conn.begun && more > 0 {
			e.Kind, e.Attempts, e.Method = event.AuthFailed, more, "password"
		} else if conn.counted > 0 && e.Kind == event.Probe {
			e.Kind = event.Context
		}
		delete(c.byProcess, k)
	case noPart, firstOfConnection:
	}
}

func (c *connections) begin(k process) *connection {
	if c.byProcess == nil || len(c.byProcess) >= maxConnections {
		c.byProcess = make(map[process]*connection)
	}
	conn := &connection{}
	c.byProcess[k] = conn
	return conn
}

func pidNumber(b []byte) (uint32, bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	n, ok := number(b)
	return uint32(n), ok
}
