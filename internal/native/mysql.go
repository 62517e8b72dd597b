package native

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Names of the formats of MariaDB and MySQL.
const (
	MySQLError = "mysql-error" // the error log of either as text
	MySQLJSON  = "mysql-json"  // the error log of MySQL 8 and later with component_log_sink_json
)

func mysqlFormats() []Format {
	return []Format{
		{MySQLError, "mysqld", event.MySQL, func() Reader { return &mysqlError{} }},
		{MySQLJSON, "mysqld", event.MySQL, func() Reader { return &mysqlJSON{} }},
	}
}

// mysqlError reads error logs line by line:
//
//	2026-11-22  8:00:00 31 [Warning] …                        MariaDB, in the server's local time
//	2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] …      MySQL 5.7 and later
//	261122  8:00:00 [Warning] …                               before that
//
// The text of a record is the whole line, since how long it is matters to whoever reads it (see names in package parse).
// A line that states no time goes on where the line before it ended; it is a record of its own all the same, for in
// MariaDB's log nobody can tell where a user name with line feeds in it ends.
type mysqlError struct {
	last   time.Time
	record [1]Record
}

func (r *mysqlError) Line(line []byte, ref time.Time) []Record {
	if len(line) == 0 {
		return nil
	}
	if t, _, ok := mysqlTime(line, ref); ok {
		r.last = t
	}
	r.record[0] = Record{Time: r.last, Text: line, Params: []Param{{ParamFormat, MySQLError}}}
	return r.record[:]
}

func (*mysqlError) Flush() []Record { return nil }

func mysqlTime(b []byte, ref time.Time) (t time.Time, rest []byte, ok bool) {
	if len(b) > 10 && b[10] == 'T' {
		stamp, rest, _ := bytes.Cut(b, []byte(" "))
		t, err := time.Parse(time.RFC3339Nano, string(stamp[:min(len(stamp), 64)]))
		return t.UTC(), trimSpaces(rest), err == nil
	}
	if len(b) > 15 && b[6] == ' ' && allDigits(b[:6]) {
		b = bytes.Join([][]byte{[]byte("20"), b[:2], []byte("-"), b[2:4], []byte("-"), b[4:]}, nil)
	}
	t, rest, ok = cutDateTime(b, ref.Location())
	if !ok || len(rest) == 0 || rest[0] != ' ' {
		return t, b, false
	}
	rest = trimSpaces(rest)
	thread, _, _ := bytes.Cut(rest, []byte(" "))
	return t.UTC(), rest, allDigits(thread) || bytes.HasPrefix(rest, []byte("[")) // else it is some other program's
}

func trimSpaces(b []byte) []byte { return bytes.TrimLeft(b, " ") }

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// mysqlJSON reads one object a line (MySQL 8.4 Reference Manual, 7.4.2.7). Its text becomes what the text log would
// have said.
type mysqlJSON struct{ record [1]Record }

func (r *mysqlJSON) Line(line []byte, _ time.Time) []Record {
	var entry struct {
		Time      time.Time `json:"time"`
		Label     string    `json:"label"`
		Code      int       `json:"err_code"`
		Subsystem string    `json:"subsystem"`
		Thread    uint64    `json:"thread"`
		Message   *string   `json:"msg"`
	}
	line = bytes.TrimSuffix(bytes.TrimSpace(line), []byte(","))
	if json.Unmarshal(line, &entry) != nil || entry.Message == nil {
		return nil
	}
	code := fmt.Sprintf("MY-%06d", entry.Code)
	r.record[0] = Record{
		Time:   entry.Time.UTC(),
		Text:   fmt.Appendf(nil, "%d [%s] [%s] [%s] %s", entry.Thread, entry.Label, code, entry.Subsystem, *entry.Message),
		Params: []Param{{ParamFormat, MySQLJSON}, {ParamCode, code}, {"thread", strconv.FormatUint(entry.Thread, 10)}},
	}
	return r.record[:]
}

func (*mysqlJSON) Flush() []Record { return nil }
