package native

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// postgresStderr reads what PostgreSQL writes to stderr, with any log_line_prefix in which a time (%m, %t, %n) comes before
// the first name. A message's further lines begin with a tab. But names in the prefix (%u, %d) are written as clients sent
// them, line feeds and all, so that a client can write lines of its own, each as perfect as the server's. What
// gives them away, and when a record is therefore [ReasonUnsure]:
//
//   - the line that a name breaks off has no severity, or the one after it has no time ([ReasonFragment] is what such a line
//     is then);
//   - otherwise both the rest of the broken line and the invented prefix are in one name of at most 63 bytes. So the line
//     before the invented one is short.
type postgresStderr struct {
	began   bool // text holds a record that is not yet returned
	text    []byte
	out     []byte // what text was, for the caller
	line    PGLine
	time    time.Time // of line; zero where it states none
	unsure  bool
	shorter int  // length of the physical line before, where it may have been broken off; 0 where not
	broken  bool // the line before has no severity, or this one has no time
	last    time.Time
	record  [1]Record
}

// Longest physical lines that a name of 63 bytes can break off before a whole prefix: that many bytes, more where the
// invented prefix may be shorter than the true one by the digits of a process or by an address.
const (
	shortLine        = 96
	shortWithAddress = 140
)

func (r *postgresStderr) Line(line []byte, ref time.Time) []Record {
	// A line after a tab goes on with the message, unless there is none yet: then it is within a name.
	if len(line) > 0 && line[0] == '\t' && (!r.broken || PostgresSeverity(line) < 0) {
		if r.began && len(r.text) < maxPostgresRecord {
			r.text = append(append(r.text, '\n'), line[1:min(len(line), maxPostgresRecord)]...)
		}
		r.noteEnd(line)
		return nil
	}
	stamp, _, timed := cutStamp(line)
	out := r.take(line, timed)
	if timed && !r.broken {
		r.last = stamp.time(ref)
	}
	r.begin(line, timed, ref)
	r.noteEnd(line)
	return out
}

// take returns the record that is whole since the line after it is there.
func (r *postgresStderr) take(next []byte, timed bool) []Record {
	if !r.began {
		return nil
	}
	const authorized = "connection authorized: user="
	reason := ""
	switch {
	case !timed:
		reason = ReasonFragment
	case r.unsure:
		reason = ReasonUnsure
	case bytes.Contains(r.text, []byte(authorized)) && quoted(next, authorized):
		reason = ReasonUnsure // it was the name of the one whose failure follows
	}
	return r.finish(reason)
}

// quoted says whether s stands in a line elsewhere than at the beginning of its message.
func quoted(line []byte, s string) bool {
	n := bytes.Count(line, []byte(s))
	if i := PostgresSeverity(line); i >= 0 && bytes.HasPrefix(line[i:], []byte("LOG:  "+s)) {
		n--
	}
	return n > 0
}

func (r *postgresStderr) finish(reason string) []Record {
	r.began = false
	r.text, r.out = r.out, r.text
	rec := Record{Time: r.last, PID: string(r.line.PID), Text: r.out, Params: []Param{{ParamFormat, PostgresStderr}}}
	switch {
	case r.broken:
		rec.Time = time.Time{} // whether it is a message of this program at all, nobody can tell
	case !r.time.IsZero():
		rec.Time = r.time
	}
	if reason != "" {
		rec.add(ParamReason, reason)
	} else if r.line.Source.IsValid() {
		rec.add(ParamSource, r.line.Source.String())
		if r.line.Port != 0 {
			rec.add(ParamSourcePort, strconv.Itoa(int(r.line.Port)))
		}
	}
	r.record[0] = rec
	return r.record[:]
}

// begin starts a record with its first line.
func (r *postgresStderr) begin(line []byte, timed bool, ref time.Time) {
	own := bytes.Clone(line[:min(len(line), maxPostgresRecord)])
	var l PGLine
	stamp, ok := l.split(own)
	r.began, r.line, r.time = true, l, stamp.time(ref)
	limit := shortLine
	if l.Source.IsValid() {
		limit = shortWithAddress
	}
	r.unsure = r.broken || !timed || r.shorter > 0 && r.shorter <= limit && !receivedWhole(l.Text)
	if r.broken || !timed {
		r.time, r.line.PID = time.Time{}, nil
	}
	r.broken = !ok
	r.text = append(r.text[:0], l.Text...)
	if !ok {
		r.text = append(r.text[:0], own...)
		r.line, r.time = PGLine{}, time.Time{}
		return
	}
	user := userOf(l.Text)
	if l.Source.IsValid() {
		r.line.Source, r.line.Port = l.SourceOf(user)
	} else {
		r.line.Source, r.line.Port = sourceAtEnd(l.Prefix, user)
	}
}

// userOf reads the name of a failed login.
func userOf(text []byte) []byte {
	_, name, _ := bytes.Cut(text, []byte("user \""))
	if i := bytes.LastIndexByte(name, '"'); i >= 0 { // it may have quotes in it
		return name[:i]
	}
	return name
}

// sourceAtEnd reads "user=%u,db=%d,app=%a,client=%h ", as pgBadger's documentation has it. No other prefix has the user's name
// where this one has it, whatever the names are, and only punctuation and numbers come before.
func sourceAtEnd(prefix, user []byte) (a netip.Addr, port uint16) {
	i := bytes.IndexFunc(prefix, func(c rune) bool {
		return c != ' ' && c != ':' && c != '[' && c != ']' && c != '-' && (c < '0' || c > '9')
	})
	if i < 0 || len(user) == 0 {
		return a, 0
	}
	rest, ok := bytes.CutPrefix(prefix[i:], []byte("user="))
	rest, ok2 := bytes.CutPrefix(rest, user)
	at := bytes.LastIndex(rest, []byte(",client="))
	if !ok || !ok2 || at < 0 || !bytes.HasPrefix(rest, []byte(",db=")) {
		return a, 0
	}
	host := bytes.TrimRight(rest[at+len(",client="):], " ")
	if i := bytes.IndexByte(host, '('); i >= 0 {
		host, port = host[:i], portInParens(host[i:])
	}
	a, err := netip.ParseAddr(string(host[:min(len(host), 64)]))
	if err != nil {
		return netip.Addr{}, 0
	}
	return event.Canonical(a), port
}

// noteEnd remembers how long a line is, with those that begin with a tab, that a name may have broken off.
func (r *postgresStderr) noteEnd(line []byte) {
	if len(line) > 0 && line[0] == '\t' {
		if r.shorter > 0 {
			r.shorter += len(line)
		}
		return
	}
	r.shorter = max(1, len(line))
	if r.began && receivedWhole(r.text) {
		r.shorter = 0
	}
}

// receivedWhole says whether text is "LOG:  connection received: host=A port=P" (or host=[local]) and nothing else: no name
// is long enough to have that and a prefix after it.
func receivedWhole(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("LOG:  connection received: host="))
	if string(rest) == "[local]" {
		return ok
	}
	host, port, ok2 := bytes.Cut(rest, []byte(" port="))
	return ok && ok2 && allDigits(port) && bytes.IndexByte(host, '@') < 0 && bytes.IndexByte(host, ' ') < 0
}

func (r *postgresStderr) Flush() []Record {
	if !r.began {
		return nil
	}
	if r.unsure || r.broken {
		return r.finish(ReasonUnsure)
	}
	return r.finish("")
}
