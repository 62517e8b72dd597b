// Package parse reads log lines into events: pure functions in which only the grammar of a line
// decides who did what, since most of a line's text may be an attacker's.
package parse

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxInterned bounds the strings that a Parser keeps for reuse.
const maxInterned = 8192

// Parser reads the lines of a stream in their order, like [Line]. Beyond that it knows of the few guesses that sshd
// states in two lines, of which either may be missing, and counts them once (see twins), and it reuses the
// strings that recur (hosts, accounts), so that the common lines cost no allocation. It is for one
// goroutine; the zero value is ready. What it remembers spans a few lines and is bounded; begun in
// the middle of a stream it may at worst count one guess of a connection twice.
type Parser struct {
	strings map[string]string
	twins   twins
	names   names
	joins   joins
}

// Line reads the next line (see [Line]).
func (p *Parser) Line(line []byte, ref time.Time) event.Event {
	h, ok := parseHeader(line, ref)
	if !ok {
		return event.Event{Kind: event.None}
	}
	e, f := parseWhole(h, p.intern)
	if f.first != notFirst || e.Method == promptMethod {
		p.twins.settle(&e, string(h.pid), f.first, max(f.repeated, 1))
	}
	p.settle(&e, h.pid, f, h.msg)
	return e
}

// settle changes an event where other lines of the same program say more of it.
func (p *Parser) settle(e *event.Event, pid []byte, f fact, msg []byte) {
	switch e.Service { //nolint:exhaustive // the others' lines say all themselves
	case event.MySQL:
		p.names.settle(e, p.intern(pid), f, msg)
	case event.Postgres:
		p.joins.once(e, p.intern(pid), p.intern(f.serial), f.tabbed)
		p.joins.settle(e, p.intern(pid), f.join)
	}
}

// Message reads one message without a header (see [Message]).
func (p *Parser) Message(service event.Service, msg []byte) event.Event {
	e, f := parseMessage(service, msg, p.intern)
	p.settle(&e, f.pid, f, msg)
	return e
}

func (p *Parser) intern(b []byte) string {
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

func plain(b []byte) string { return string(b) }

// Line reads one line by itself, header and message (the forms of [Header]), into an event; ref gives RFC
// 3164 times their year and zone. Event.Host is the header's. A line that says nothing of a service
// has kind none; one without a header moreover has no time. The event keeps nothing of line's
// memory. To count guesses read a stream's lines by a [Parser].
func Line(line []byte, ref time.Time) event.Event {
	h, ok := parseHeader(line, ref)
	if !ok {
		return event.Event{Kind: event.None}
	}
	e, _ := parseWhole(h, plain)
	return e
}

// Message reads a message that came without a header as one of the service's.
func Message(service event.Service, msg []byte) event.Event {
	e, _ := parseMessage(service, msg, plain)
	return e
}

// ServiceOf says which service the program behind a syslog tag belongs to; empty where none.
func ServiceOf(tag string) event.Service { return programOf([]byte(tag)).service }

func parseWhole(h head, str func([]byte) string) (event.Event, fact) {
	p := programOf(h.tag)
	f := fact{kind: event.None}
	if p.read != nil && originFits(h.sd, p) {
		f = p.read(h.message())
	}
	e := f.event(p.service, str)
	e.Host = str(h.host)
	e.Time = h.time
	return e, f
}

func parseMessage(service event.Service, msg []byte, str func([]byte) string) (event.Event, fact) {
	f := fact{kind: event.None}
	if p := programOfService(service); p.read != nil {
		f = p.read(message{text: msg})
	}
	return f.event(service, str), f
}

// fact is what a message states; its slices point into the message.
type fact struct {
	kind     event.Kind
	source   netip.Addr // invalid where the message names none, or not for sure
	port     uint16
	account  []byte
	method   []byte
	resource []byte
	attempts int
	closed   bool
	first    firstLine
	repeated int // how many times the message stands for
	style    lineStyle
	open     bool // account is a name that goes on in lines to come
	// inDatabase: resource is a name of the same kind.
	inDatabase bool
	join       join
	pid        []byte // of the process that wrote the message, as its text says
	serial     []byte // of the message of which the line is a part
	tabbed     bool   // the line begins with a tab
}

// maxAccount bounds what is kept of an account and of a resource.
const maxAccount = 512

// event is the fact as an event of a service, without host and time.
func (f fact) event(s event.Service, str func([]byte) string) event.Event {
	kind := f.kind
	if kind == "" {
		kind = event.None
	}
	return event.Event{
		Service: s, Kind: kind, Source: f.source, SourcePort: f.port, Account: str(f.account[:min(len(f.account), maxAccount)]),
		Method: methodName(f.method, str), Resource: str(f.resource[:min(len(f.resource), maxAccount)]), Attempts: f.attempts, Closed: f.closed,
	}
}

// methodName returns a method's name without allocating for the common ones.
func methodName(m []byte, str func([]byte) string) string {
	switch string(m) {
	case "":
		return ""
	case "password":
		return "password"
	case "publickey":
		return "publickey"
	case "none":
		return "none"
	case "keyboard-interactive/pam":
		return "keyboard-interactive/pam"
	}
	return str(m)
}
