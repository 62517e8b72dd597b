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
// states in two lines, of which either may be missing, and counts them once (see twins); of the guesses that name no
// address where an earlier line of the process did (see connections); and it reuses the
// strings that recur (hosts, accounts), so that the common lines cost no allocation. It is for one
// goroutine; the zero value is ready. What it remembers spans a few lines and is bounded; begun in
// the middle of a stream it may at worst count one guess of a connection twice.
type Parser struct {
	patterns    *Patterns
	strings     map[string]string
	twins       twins
	connections connections
	stats       Stats
}

// Options of a Parser.
type Options struct {
	// Patterns read the messages of programs that have no reader of their own; nil: there are none.
	Patterns *Patterns
}

// New makes a Parser.
func New(o Options) *Parser { return &Parser{patterns: o.Patterns} }

// Line reads the next line (see [Line]).
func (p *Parser) Line(line []byte, ref time.Time) event.Event {
	e, _ := p.Read(line, ref)
	return e
}

// Read reads the next line like [Parser.Line], and tells what its event does not say.
func (p *Parser) Read(line []byte, ref time.Time) (event.Event, Note) {
	h, ok := parseHeader(line, ref)
	if !ok {
		return event.Event{Kind: event.None}, Note{}
	}
	e, f, n := parseWhole(h, p.intern, p.patterns)
	if f.first != notFirst || e.Method == promptMethod {
		p.twins.settle(&e, string(h.pid), f.first, max(f.repeated, 1))
	}
	if f.part != noPart {
		p.connections.settle(&e, h.pid, f)
	}
	n.NoAddress = lacksAddress(e)
	p.stats.add(n)
	return e, n
}

// Message reads one message without a header (see [Message]).
func (p *Parser) Message(service event.Service, msg []byte) event.Event {
	return parseMessage(service, msg, p.intern, p.patterns)
}

// Stats are what was read until now and does not show in events.
func (p *Parser) Stats() Stats { return p.stats.clone() }

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
	e, _, _ := parseWhole(h, plain, nil)
	return e
}

// Message reads a message that came without a header as one of the service's.
func Message(service event.Service, msg []byte) event.Event {
	return parseMessage(service, msg, plain, nil)
}

// ServiceOf says which service the program behind a syslog tag belongs to; empty where none.
func ServiceOf(tag string) event.Service { return programOf([]byte(tag)).service }

// parseWhole reads a message with its header. What was not written by the program that its tag names states nothing.
func parseWhole(h head, str func([]byte) string, patterns *Patterns) (event.Event, fact, Note) {
	p := programOf(h.tag)
	if p.read == nil {
		p = programOfPAM(h.msg)
	}
	if p.read == nil {
		p = patterns.programOf(h.tag)
	}
	f, n := fact{kind: event.None}, Note{Service: p.service, Local: h.local}
	if p.read != nil {
		f = p.read(h.message())
		w := writerOf(h.sd)
		n.Vouched = w.known
		n.Unknown = f.kind == "" || f.kind == event.None
		if !w.fits(p, f) {
			n.Forged, f = f.states(), fact{kind: event.None}
		}
	}
	e := f.event(p.service, str)
	e.Host = str(h.host)
	e.Time = h.time
	n.Service = e.Service
	return e, f, n
}

func parseMessage(service event.Service, msg []byte, str func([]byte) string, patterns *Patterns) event.Event {
	p := programOfService(service)
	if p.read == nil || patterns.serves(service) {
		if f, ok := patterns.message(service, msg); ok {
			return f.event(service, str)
		}
	}
	f := fact{kind: event.None}
	if p.read != nil {
		f = p.read(message{text: msg})
	}
	return f.event(service, str)
}

// fact is what a message states; its slices point into the message.
type fact struct {
	service  event.Service // where it isn't the program's: PAM and dovecot speak for several
	kind     event.Kind
	source   netip.Addr // invalid where the message names none, or not for sure
	port     uint16
	account  []byte
	method   []byte
	means    string // the method where the message does not name it
	resource []byte
	attempts int
	closed   bool
	first    firstLine
	repeated int // how many times the message stands for
	part     part
	fails    int // guesses of the connection that ends with it; of part lastOfConnection
}

// states says whether the fact is more than context: what someone would forge.
func (f fact) states() bool {
	switch f.kind {
	case event.AuthFailed, event.AuthOK, event.Probe:
		return true
	case event.Context, event.None:
	}
	return f.first != notFirst
}

// maxAccount bounds what is kept of an account and of a resource.
const maxAccount = 512

// event is the fact as an event of a service, without host and time.
func (f fact) event(s event.Service, str func([]byte) string) event.Event {
	kind := f.kind
	if kind == "" {
		kind = event.None
	}
	if f.service != "" {
		s = f.service
	}
	method := f.means
	if method == "" {
		method = methodName(f.method, str)
	}
	return event.Event{
		Service: s, Kind: kind, Source: f.source, SourcePort: f.port, Account: str(f.account[:min(len(f.account), maxAccount)]),
		Method: method, Resource: str(f.resource[:min(len(f.resource), maxAccount)]), Attempts: f.attempts, Closed: f.closed,
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
