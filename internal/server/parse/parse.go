// Package parse reads log lines into events: pure functions in which only the grammar of a line
// decides who did what, since most of a line's text may be an attacker's.
package parse

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Parser reads the lines of a stream in their order, like [Line]. Beyond that it knows of the few guesses that sshd
// states in two lines, of which either may be missing, and counts them once (see twins); of the guesses that name no
// address where an earlier line of the process did (see connections); and it reuses the
// strings that recur (hosts, accounts), so that the common lines cost no allocation. It is for one
// goroutine; the zero value is ready. What it remembers spans a few lines and is bounded; begun in
// the middle of a stream it may at worst count one guess of a connection twice.
//
// It is a [Reader] and a [Joiner], which who reads many lines at once uses apart.
type Parser struct {
	reader Reader
	joiner Joiner
	stats  Stats
}

// SetPatterns lets the Parser read by other patterns from the next line on.
func (p *Parser) SetPatterns(patterns *Patterns) { p.reader.options.patterns = patterns }

// Line reads the next line (see [Line]).
func (p *Parser) Line(line []byte, ref time.Time) event.Event {
	e, _ := p.Read(line, ref)
	return e
}

// Read reads the next line like [Parser.Line], and tells what its event does not say.
func (p *Parser) Read(line []byte, ref time.Time) (event.Event, Note) {
	var r Reading
	p.reader.Line(line, ref, &r)
	if r.joins {
		p.joiner.Settle(&r)
	}
	n := r.Note()
	p.stats.add(n)
	return r.Event, n
}

// Stats are what was read until now and does not show in events.
func (p *Parser) Stats() Stats { return p.stats.clone() }

// Message reads one message without a header (see [Message]).
func (p *Parser) Message(service event.Service, msg []byte) event.Event {
	return p.reader.Message(service, msg)
}

func plain(b []byte) string { return string(b) }

// Line reads one line by itself, header and message (the forms of [Header]), into an event; ref gives RFC
// 3164 times their year and zone. Event.Host is the header's. A line that says nothing of a service
// has kind none; one without a header moreover has no time. The event keeps nothing of line's
// memory. To count guesses read a stream's lines by a [Parser].
func Line(line []byte, ref time.Time) event.Event {
	var h head
	var c clock
	if !c.header(line, ref, &h) {
		return event.Event{Kind: event.None}
	}
	var r Reading
	var f fact
	parseWhole(&h, lineOptions{}, plain, &r, &f)
	r.Event.Host = string(h.host)
	return r.Event
}

// Message reads a message that came without a header as one of the service's.
func Message(service event.Service, msg []byte) event.Event {
	return parseMessage(service, msg, lineOptions{}, plain)
}

// ServiceOf says which service the program behind a syslog tag belongs to; empty where none.
func ServiceOf(tag string) event.Service { return programOf([]byte(tag)).service }

// lineOptions are what a line's readers are told.
type lineOptions struct {
	http     *httpRules
	patterns *Patterns
}

// parseWhole reads a line's message into r, but for its host, and what it states into f. What was not written by the program that its
// tag names states nothing.
func parseWhole(h *head, o lineOptions, str func([]byte) string, r *Reading, f *fact) {
	p := programOf(h.tag)
	if p.read == nil {
		p = o.patterns.programOf(h.tag)
	}
	if p.read == nil {
		p = programOfPAM(h.text)
	}
	r.note, r.known = Note{Local: h.local}, false
	if p.read == nil {
		*f = fact{kind: event.None}
	} else {
		h.http = o.http
		*f = p.read(&h.message)
		r.known = f.kind != ""
		r.note.Unknown = f.kind == ""
		r.note.Beside = f.style == framed
		w := writerOf(h.said)
		r.note.Vouched = w.known
		if w.known && !w.fits(&p, f) {
			r.note.Forged, *f = f.states(), fact{kind: event.None}
		}
	}
	f.event(p.service, str, &r.Event)
	r.Event.Time = h.time
}

func parseMessage(service event.Service, msg []byte, o lineOptions, str func([]byte) string) event.Event {
	var e event.Event
	f, ok := o.patterns.message(service, msg)
	if p := programOfService(service); !ok && p.read != nil {
		f = p.read(&message{text: msg, http: o.http})
	}
	f.event(service, str, &e)
	return e
}

// fact is what a message states; its slices point into the message.
type fact struct {
	service  event.Service // where it isn't the program's: PAM and Dovecot speak for several
	kind     event.Kind
	source   netip.Addr // invalid where the message names none, or not for sure
	account  []byte
	method   []byte
	means    string // the method where the message does not name it
	resource []byte
	serial   []byte // of the message of which the line is a part
	attempts int
	repeated int // how many times the message stands for
	fails    int // guesses of the connection that ends with it; of part lastOfConnection

	// What is small stands together: a fact is handed from reader to reader.
	port   uint16
	closed bool
	first  firstLine

	// What joins say of it, see [Joiner].
	join   join
	tabbed bool // the line begins with a tab
	style  lineStyle
	open   bool // account is a name that goes on in lines to come
	// inDatabase says that resource is such a name, of somebody who got in.
	inDatabase bool
	peer       peerForm
	web        webLine // which of a web server's two lines of a guess it is
	part       part
}

// states says whether the fact is more than context: what someone would forge.
func (f *fact) states() bool {
	switch f.kind {
	case event.AuthFailed, event.AuthOK, event.Probe:
		return true
	case event.Context, event.None:
	}
	return f.first != notFirst
}

// maxAccount bounds what is kept of an account and of a resource.
const maxAccount = 512

// event makes e the fact, as an event of a service, without host and time.
func (f *fact) event(s event.Service, str func([]byte) string, e *event.Event) {
	*e = event.Event{} // and then one by one: a whole literal is made elsewhere and copied
	e.Service, e.Kind = s, f.kind
	e.Source, e.SourcePort, e.Attempts, e.Closed = f.source, f.port, f.attempts, f.closed
	if f.kind == "" {
		e.Kind = event.None
	}
	if f.service != "" {
		e.Service = f.service
	}
	if len(f.account) > 0 {
		e.Account = str(f.account[:min(len(f.account), maxAccount)])
	}
	if e.Method = f.means; len(f.method) > 0 {
		e.Method = methodName(f.method, str)
	}
	if len(f.resource) > 0 {
		e.Resource = str(f.resource[:min(len(f.resource), maxAccount)])
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
