package native

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"
)

// PGLine is a line of PostgreSQL, split at its severity.
type PGLine struct {
	Prefix []byte // what stands before the severity, without the time
	Text   []byte // from the severity on
	PID    []byte // %p in brackets; nil where there is none before the first name
	// Source is %h or %r where it stands before any name; Port is %r's.
	Source netip.Addr
	Port   uint16
	// sourceText is Source as it stands in the prefix.
	sourceText []byte
}

// PostgresSeverity is where the first severity (or DETAIL, HINT …) with its colon and two spaces begins in b; -1 where there
// is none.
func PostgresSeverity(b []byte) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(":  "))
		if i < 0 {
			return -1
		}
		end := at + i
		begin := end
		for begin > 0 && end-begin < len("STATEMENT") && (b[begin-1] >= 'A' && b[begin-1] <= 'Z' || b[begin-1] >= '1' && b[begin-1] <= '5') {
			begin--
		}
		if isSeverity(b[begin:end]) {
			return begin
		}
		at = end + 1
	}
}

func isSeverity(b []byte) bool {
	switch string(b) {
	case "LOG", "FATAL", "ERROR", "WARNING", "NOTICE", "INFO", "PANIC", "DEBUG1", "DEBUG2", "DEBUG3", "DEBUG4", "DEBUG5",
		"DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION":
		return true
	}
	return false
}

// Split splits a line at its severity and reads what stands before it without knowing log_line_prefix: a time
// (%m, %t or %n), which it leaves out, then numbers in any punctuation until the first name. What comes after that a client may
// have chosen. ok is false, and l as it was, where the line has no severity.
func (l *PGLine) Split(b []byte) (ok bool) {
	_, ok = l.split(b)
	return ok
}

func (l *PGLine) split(b []byte) (stamp pgStamp, ok bool) {
	stamp, rest, _ := cutStamp(b)
	i := PostgresSeverity(rest)
	if i < 0 {
		return stamp, false
	}
	*l = PGLine{Prefix: rest[:i], Text: rest[i:]}
	if l.scan(stamp.before) {
		l.scan(l.Prefix)
	}
	return stamp, true
}

// pgStamp is a time as it stands in a line.
type pgStamp struct {
	before []byte // numbers and punctuation
	text   []byte // 2026-11-22 18:00:00.123, or seconds since 1970 with three decimals; nil where there is none
	zone   []byte // nil: the seconds'
}

// cutStamp finds a time that only numbers and punctuation stand before; rest follows it.
func cutStamp(b []byte) (s pgStamp, rest []byte, ok bool) {
	const farthest = 32
	for i := 0; i < len(b) && i < farthest; i++ {
		c := b[i]
		if c >= '0' && c <= '9' && (i == 0 || b[i-1] < '0' || b[i-1] > '9') {
			if s, rest, ok := stampAt(b[i:]); ok {
				s.before = b[:i]
				return s, rest, true
			}
		}
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= 0x80 || c < ' ' {
			break
		}
	}
	return pgStamp{}, b, false
}

func stampAt(b []byte) (s pgStamp, rest []byte, ok bool) {
	if !isDateTime(b) {
		const whole, all = 10, 14 // between 2001 and 2286
		if len(b) <= all || !allDigits(b[:whole]) || b[whole] != '.' || !allDigits(b[whole+1:all]) || allDigits(b[all:all+1]) {
			return s, b, false
		}
		return pgStamp{text: b[:all]}, b[all:], true
	}
	_, rest = decimals(b[len(dateTime):])
	if len(rest) == 0 || rest[0] != ' ' {
		return s, b, false
	}
	text, zone := b[:len(b)-len(rest)], rest[1:]
	n := 0
	for n < len(zone) && n < 8 && isZoneByte(zone[n]) {
		n++
	}
	if n == 0 || zone[0] >= '0' && zone[0] <= '9' {
		return s, b, false
	}
	return pgStamp{text: text, zone: zone[:n]}, zone[n:], true
}

// time is zero where there is none; ref gives abbreviations their zone.
func (s pgStamp) time(ref time.Time) time.Time {
	switch {
	case s.text == nil:
		return time.Time{}
	case s.zone == nil:
		n, _ := strconv.ParseInt(string(s.text[:10]), 10, 64)
		return time.Unix(n, int64(digits(s.text[11:]))*int64(time.Millisecond)).UTC()
	}
	t, _, _ := cutDateTime(s.text, time.UTC)
	return inZone(t, string(s.zone), ref)
}

func isZoneByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '-'
}

// SourceOf is the source of a line about the user, whose name the line's text says: a name may look like an address itself.
func (l *PGLine) SourceOf(user []byte) (netip.Addr, uint16) {
	if !l.Source.IsValid() || len(user) == 0 || bytes.Contains(user, l.sourceText) {
		return netip.Addr{}, 0
	}
	return l.Source, l.Port
}

// scan reads a part of what stands before the severity, up to the first name; it reports whether to go on.
func (l *PGLine) scan(b []byte) bool {
	for len(b) > 0 {
		switch c := b[0]; {
		case c == '[':
			if end := bytes.IndexByte(b, ']'); end > 0 && allDigits(b[1:end]) {
				if l.PID == nil {
					l.PID = b[1:end]
				}
				b = b[end+1:]
				continue
			}
			b = b[1:]
		case isPunctuation(c) || c == ':' && (len(b) < 2 || b[1] != ':'):
			b = b[1:]
		default:
			n := 0
			for n < len(b) && isAddressByte(b[n]) {
				n++
			}
			if n == 0 || !l.token(b[:n], b) {
				return false
			}
			b = b[n:]
		}
	}
	return true
}

func isAddressByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '.' || c == ':'
}

// isPunctuation says whether a byte may stand between numbers.
func isPunctuation(c byte) bool {
	switch c {
	case ']', '(', ')', ',', ';', '<', '>', '{', '}', '|', '/', '*', '#', '-':
		return true
	}
	return c <= ' '
}

// token takes one that may be an address, or a number; it reports whether to go on.
func (l *PGLine) token(t, from []byte) bool {
	trimmed := bytes.TrimRight(t, ":")
	if len(trimmed) == 0 {
		return true
	}
	if len(trimmed) < 64 && (bytes.IndexByte(trimmed, ':') >= 0 || bytes.Count(trimmed, []byte(".")) == 3) {
		if a, ok := Address(trimmed); ok {
			l.Source, l.sourceText = a, trimmed
			l.Port = portInParens(from[len(trimmed):])
			return false
		}
	}
	for _, c := range trimmed { // numbers of processes, lines and transactions; sessions have hexadecimal ones
		if c >= 'A' && c <= 'F' {
			return false
		}
	}
	return trimmed[0] >= '0' && trimmed[0] <= '9' && (allDigits(trimmed) || bytes.IndexByte(trimmed, '.') > 0)
}

// portInParens reads "(P)".
func portInParens(b []byte) uint16 {
	end := bytes.IndexByte(b, ')')
	if len(b) == 0 || b[0] != '(' || end < 0 {
		return 0
	}
	port, err := strconv.ParseUint(string(b[1:min(end, 7)]), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}
