package native

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// PGLine is a line of PostgreSQL, split at its severity.
type PGLine struct {
	Time   time.Time // zero where the prefix has none
	Prefix []byte    // what stands before the severity, without the time
	Text   []byte    // from the severity on
	PID    []byte    // %p in brackets; nil where there is none before the first name
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

// PostgresLine splits a line at its severity and reads what stands before it without knowing log_line_prefix: a time
// (%m, %t or %n), then numbers in any punctuation until the first name. What comes after that a client may have chosen.
func PostgresLine(b []byte) (PGLine, bool) { return postgresLine(b, time.Time{}) }

func postgresLine(b []byte, ref time.Time) (l PGLine, ok bool) {
	t, rest, _ := postgresTime(b, ref)
	i := PostgresSeverity(rest)
	if i < 0 {
		return PGLine{}, false
	}
	l.Time, l.Prefix, l.Text = t, rest[:i], rest[i:]
	l.scan()
	return l, true
}

// postgresTime reads a time that only numbers and punctuation stand before.
func postgresTime(b []byte, ref time.Time) (t time.Time, rest []byte, ok bool) {
	const farthest = 32
	for i := 0; i < len(b) && i < farthest; i++ {
		c := b[i]
		if c >= '0' && c <= '9' && (i == 0 || b[i-1] < '0' || b[i-1] > '9') {
			if t, rest, ok := postgresTimeAt(b[i:], ref); ok {
				if i > 0 {
					rest = append(b[:i:i], rest...)
				}
				return t, rest, true
			}
		}
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= 0x80 || c < ' ' {
			break
		}
	}
	return time.Time{}, b, false
}

func postgresTimeAt(b []byte, ref time.Time) (t time.Time, rest []byte, ok bool) {
	t, rest, ok = cutDateTime(b, time.UTC)
	if !ok {
		return cutEpoch(b)
	}
	if len(rest) == 0 || rest[0] != ' ' {
		return t, b, false
	}
	zone := rest[1:]
	n := 0
	for n < len(zone) && n < 8 && isZoneByte(zone[n]) {
		n++
	}
	if n == 0 || zone[0] >= '0' && zone[0] <= '9' {
		return t, b, false
	}
	return inZone(t, string(zone[:n]), ref), zone[n:], true
}

func isZoneByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '-'
}

// cutEpoch reads a leading time in seconds since 1970 with three decimals, between 2001 and 2286.
func cutEpoch(b []byte) (t time.Time, rest []byte, ok bool) {
	const whole, all = 10, 14
	if len(b) <= all || !allDigits(b[:whole]) || b[whole] != '.' || !allDigits(b[whole+1:all]) || allDigits(b[all:all+1]) {
		return t, b, false
	}
	n, err := strconv.ParseInt(string(b[:whole]), 10, 64)
	return time.Unix(n, int64(digits(b[whole+1:all]))*int64(time.Millisecond)).UTC(), b[all:], err == nil
}

// SourceOf is the source of a line about the user, whose name the line's text says: a name may look like an address itself.
func (l *PGLine) SourceOf(user []byte) (netip.Addr, uint16) {
	if !l.Source.IsValid() || len(user) == 0 || bytes.Contains(user, l.sourceText) {
		return netip.Addr{}, 0
	}
	return l.Source, l.Port
}

// scan reads the prefix up to the first name.
func (l *PGLine) scan() {
	b := l.Prefix
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
		case c <= ' ' || c == ':' && (len(b) < 2 || b[1] != ':') || bytes.IndexByte([]byte("](),;<>{}|/*#-"), c) >= 0:
			b = b[1:]
		default:
			n := 0
			for n < len(b) && isAddressByte(b[n]) {
				n++
			}
			if n == 0 || !l.token(b[:n], b) {
				return
			}
			b = b[n:]
		}
	}
}

func isAddressByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '.' || c == ':'
}

// token takes one that may be an address, or a number; it reports whether to go on.
func (l *PGLine) token(t, from []byte) bool {
	trimmed := bytes.TrimRight(t, ":")
	if len(trimmed) == 0 {
		return true
	}
	if len(trimmed) < 64 && (bytes.IndexByte(trimmed, ':') >= 0 || bytes.Count(trimmed, []byte(".")) == 3) {
		if a, err := netip.ParseAddr(string(trimmed)); err == nil {
			l.Source, l.sourceText = event.Canonical(a), trimmed
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
