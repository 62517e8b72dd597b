package advice

import (
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/native"
)

// Who fails to log in to a server that is tried in thought (RFC 5737's addresses are nobody's).
const (
	triedAddress = "203.0.113.66"
	triedPort    = "40222"
	triedPID     = "4711"
)

// tellsSource says whether the log of a server with a log_line_prefix tells who failed to log in: it has what that server would
// write read as the agent reads it. A prefix may hold the address and yet not say whose it is, since names that
// clients choose stand before it.
func tellsSource(prefix string, connections bool) bool {
	format, ok := native.Find(native.PostgresStderr)
	if !ok {
		return false
	}
	r := format.New()
	var records []native.Record
	write := func(user, database, text string) {
		line := []byte(expanded(prefix, user, database) + text)
		for _, rec := range r.Line(line, time.Time{}) {
			records = append(records, kept(rec))
		}
	}
	if connections {
		write("[unknown]", "[unknown]", "LOG:  connection received: host="+triedAddress+" port="+triedPort)
	}
	write("alice", "shop", `FATAL:  password authentication failed for user "alice"`)
	for _, rec := range r.Flush() {
		records = append(records, kept(rec))
	}
	if len(records) == 0 {
		return false
	}
	failed := records[len(records)-1]
	for _, p := range failed.Params {
		if p.Name == native.ParamSource {
			return p.Value == triedAddress
		}
	}
	// The server finds the address in an earlier line of the process.
	return connections && failed.PID == triedPID && records[0].PID == triedPID && len(records) == 2
}

// kept is a record that outlives its reader's next call.
func kept(r native.Record) native.Record {
	r.Text, r.Params = append([]byte(nil), r.Text...), append([]native.Param(nil), r.Params...)
	return r
}

// expanded is what a log_line_prefix (PostgreSQL documentation, 20.8.3) becomes for a session. %q ends it only where there is
// none.
func expanded(prefix, user, database string) string {
	var b strings.Builder
	for i := 0; i < len(prefix); i++ {
		if prefix[i] != '%' {
			b.WriteByte(prefix[i])
			continue
		}
		i++
		digits := i
		for i < len(prefix) && (prefix[i] == '-' && i == digits || prefix[i] >= '0' && prefix[i] <= '9') {
			i++
		}
		if i == len(prefix) {
			break
		}
		width, _ := strconv.Atoi(prefix[digits:i])
		b.WriteString(padded(prefixPart(prefix[i], user, database), width))
	}
	return b.String()
}

func prefixPart(c byte, user, database string) string {
	switch c {
	case '%':
		return "%"
	case 'a':
		return "[unknown]"
	case 'u':
		return user
	case 'd':
		return database
	case 'r':
		return triedAddress + "(" + triedPort + ")"
	case 'h':
		return triedAddress
	case 'b':
		return "client backend"
	case 'p':
		return triedPID
	case 't':
		return "2026-11-22 18:00:00 UTC"
	case 's':
		return "2026-11-22 17:59:59 UTC"
	case 'm':
		return "2026-11-22 18:00:00.123 UTC"
	case 'n':
		return "1795197600.123"
	case 'i':
		return "authentication"
	case 'e':
		return "28P01"
	case 'c':
		return "6a01f2a0.1267"
	case 'l':
		return "1"
	case 'v':
		return "3/12"
	case 'x', 'Q':
		return "0"
	}
	return "" // as what there is not, and %q and %P in a session
}

// padded is text at least as wide as width says, to the left where it is negative.
func padded(text string, width int) string {
	missing := strings.Repeat(" ", min(max(max(width, -width)-len(text), 0), 1024))
	if width < 0 {
		return text + missing
	}
	return missing + text
}
