package parse

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	// maxNameChars is how long MariaDB lets a user name be, in characters; MySQL 5.7 clips at 32.
	maxNameChars = 128
	// maxDatabaseChars is how long a database's name may be, with which a user who got in can do the same.
	maxDatabaseChars = 64

	maxStreams  = 1024 // of logs with raw names
	maxCredited = 1024 // sources of a stream
	maxCredit   = 64
	maxUnproven = 8 // more lines than a name can hold
)

// names settles which lines of a log with raw names are to be believed. MariaDB writes a user name as the client sent it,
// line feeds and all, so that a client can write lines of its own into the log, with the server's own words before the
// first line feed:
//
//	2026-11-22 18:00:00 16 [Warning] Access denied for user 'a'@'198.51.100.9'
//	2026-11-22 18:00:00 17 [Warning] Access denied for user 'root'@'203.0.113.66' (using password: YES)
//
// can be two guesses of two sources or one of 203.0.113.66, with 72 characters as its name; nothing in the lines tells
// which. But names are no longer than 128 characters, so a line is sure as soon as no line that ends a name
// comes with another source in what is left of them. The source of a line is stated at once where the source
// has been sure of an earlier line that was not yet used for this: so no source is blamed more often than it failed, and
// the first guess of a source names none. A name that visibly goes on in later lines is one guess without a source.
type names struct {
	streams recent[streamKey, *nameStream]
}

// streamKey is one program on one host.
type streamKey struct{ host, pid string }

type nameStream struct {
	raw      bool // lines with raw names have been seen
	left     int  // characters in which a name that began in an earlier line may end
	ended    bool // one may have ended already
	unproven []unproven
	credit   recent[netip.Addr, *int] // lines that were sure, and not yet used
}

// unproven is a line that is not yet sure.
type unproven struct {
	source netip.Addr
	left   int // characters in which its name may still end
}

// nameLine is what of a line decides whether it is sure; lengths are in characters.
type nameLine struct {
	style            lineStyle
	open, inDatabase bool
	length           int // of the message, with the line feed
	end              int // how many of them may belong to a name that ends in it; -1 where none ends
	rest             int // of the message from the name's beginning on, with the line feed
}

func nameLineOf(f *fact, msg []byte) nameLine {
	n, count := chars(msg), chars
	if n == len(msg) { // all of it is ASCII, and so are its parts
		count = func(b []byte) int { return len(b) }
	}
	l := nameLine{style: f.style, open: f.open, inDatabase: f.inDatabase, length: n + 1, end: -1}
	if before, ok := nameEnd(msg); ok {
		l.end = count(before)
	}
	switch {
	case f.inDatabase:
		l.rest = count(f.resource) + 1
	case f.kind == event.AuthFailed:
		_, name, _ := bytes.Cut(msg, []byte("user '"))
		l.rest = count(name) + 1
	}
	return l
}

// settle changes e, read from a line of the process pid, where the line is not sure.
func (n *names) settle(e *event.Event, pid string, l nameLine) {
	k := streamKey{e.Host, pid}
	s, ok := n.streams.get(k)
	if !ok {
		if e.Kind == event.None || l.style == oneLine {
			return
		}
		n.streams.half = maxStreams
		s = &nameStream{credit: recent[netip.Addr, *int]{half: maxCredited}}
		n.streams.put(k, s)
	}
	s.raw = s.raw || l.style != oneLine && e.Kind != event.None
	if !s.raw {
		return
	}
	s.prove(e, l)
	if s.inName(e, l) {
		return
	}
	switch {
	case e.Kind == event.Probe && l.style == unknownStyle:
		e.Source = netip.Addr{} // without its prefix it is short enough for a name
	case l.inDatabase:
		s.left, s.ended = maxDatabaseChars-l.rest, true
	case e.Kind == event.AuthFailed && l.open:
		s.left, s.ended = maxNameChars-l.rest, false
	case e.Kind == event.AuthFailed && e.Source.IsValid():
		source := e.Source
		s.believe(e)
		s.remember(source, l)
	}
}

// inName changes e where the line may be inside a name that began in an earlier line: all up to the first possible end is,
// and is no guess more; after that it may be, and has no source, but is more likely a guess of its own. A line that is
// longer than what is left is the name's end at most: what it ends with is true.
func (s *nameStream) inName(e *event.Event, l nameLine) bool {
	if s.left <= 0 {
		return false
	}
	inside := l.length <= s.left
	s.left -= l.length
	switch {
	case !s.ended:
		s.ended = l.end >= 0
		e.Source, e.Attempts = netip.Addr{}, 0
		if e.Kind != event.None {
			e.Kind = event.Context
		}
		return true
	case inside && e.Kind == event.AuthFailed && l.length <= maxDatabaseChars: // too short for a line of its own
		e.Kind, e.Source, e.Attempts = event.Context, netip.Addr{}, 0
		return true
	case inside && !l.open:
		e.Source = netip.Addr{}
		return true
	}
	return false
}

// prove goes through the lines that are not yet sure: this one may be the end of their name.
func (s *nameStream) prove(e *event.Event, l nameLine) {
	kept := s.unproven[:0]
	for _, u := range s.unproven {
		if l.end >= 0 && l.end <= u.left && (e.Kind != event.AuthFailed || e.Source != u.source) {
			continue // it may have invented u's line
		}
		if u.left -= l.length; u.left > 0 {
			kept = append(kept, u)
			continue
		}
		c, ok := s.credit.get(u.source)
		if !ok {
			c = new(int)
			s.credit.put(u.source, c)
		}
		*c = min(*c+1, maxCredit)
	}
	s.unproven = kept
}

// believe leaves e its source where an earlier line vouches for it.
func (s *nameStream) believe(e *event.Event) {
	c, ok := s.credit.get(e.Source)
	if !ok || *c == 0 {
		e.Source = netip.Addr{}
		return
	}
	*c--
}

func (s *nameStream) remember(source netip.Addr, l nameLine) {
	if len(s.unproven) < maxUnproven {
		s.unproven = append(s.unproven, unproven{source, max(1, maxNameChars-l.rest)})
	}
}

// nameEnd returns what of msg may belong to a name that ends in it.
func nameEnd(msg []byte) (name []byte, ok bool) {
	if len(msg) == 0 {
		return nil, false
	}
	rest := msg
	if msg[len(msg)-1] == '.' {
		rest, _ = cutEnd(msg, ". Disconnecting.")
		if i := lastIndex(msg, "'. Account is "); i >= 0 {
			rest = msg[:i+1]
		}
	}
	rest, _, _ = mysqlUsing(rest)
	rest, ok = cutEnd(rest, "'")
	i := lastIndex(rest, "'@'")
	if !ok || i < 0 {
		return nil, false
	}
	return msg[:i], true
}

// chars counts the characters of UTF-8: the bytes that don't continue one.
func chars(b []byte) int {
	n := 0
	for len(b) >= 8 && binary.LittleEndian.Uint64(b)&0x8080808080808080 == 0 {
		b, n = b[8:], n+8
	}
	for _, c := range b {
		if c&0xc0 != 0x80 {
			n++
		}
	}
	return n
}
