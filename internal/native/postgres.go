package native

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Names of the formats of PostgreSQL's log_destination.
const (
	PostgresStderr = "postgres-stderr"
	PostgresCSV    = "postgres-csv"
	PostgresJSON   = "postgres-json"
)

func postgresFormats() []Format {
	return []Format{
		{PostgresStderr, "postgres", event.Postgres, func() Reader { return &postgresStderr{} }},
		{PostgresCSV, "postgres", event.Postgres, func() Reader { return &postgresCSV{} }},
		{PostgresJSON, "postgres", event.Postgres, func() Reader { return &postgresJSON{} }},
	}
}

// Values of ParamReason. ReasonUnsure says that a client's name may have made the record's fields, ReasonFragment that
// the record is the beginning of a longer line, broken by such a name.
const (
	ReasonUnsure   = "unsure"
	ReasonFragment = "fragment"
)

// maxPostgresRecord bounds a record: what is longer is cut.
const maxPostgresRecord = 64 << 10

// postgresCSV reads csvlog (PostgreSQL 17, 19.8.4), in which every column but the last ones is the same since 9.0. A record
// spans lines where a quoted value does.
type postgresCSV struct {
	text   []byte
	quotes int // in text
	record [1]Record
}

// Columns of csvlog.
const (
	csvTime = iota
	csvUser
	csvDatabase
	csvPID
	csvFrom
	csvSeverity = 11
	csvCode     = 12
	csvMessage  = 13
	csvFewest   = 23 // columns: 9.0 to 12; 13 has one more, 14 three
)

func (r *postgresCSV) Line(line []byte, ref time.Time) []Record {
	if len(r.text) > 0 {
		r.text = append(r.text, '\n')
	}
	r.text = append(r.text, line...)
	r.quotes += bytes.Count(line, []byte{'"'})
	if r.quotes%2 == 1 && len(r.text) <= maxPostgresRecord {
		return nil
	}
	fields, err := csv.NewReader(bytes.NewReader(r.text)).Read()
	r.text, r.quotes = r.text[:0], 0
	if err != nil || len(fields) < csvFewest || len(fields[csvPID]) > 10 || !allDigits([]byte(fields[csvPID])) {
		return nil
	}
	r.record[0] = postgresRecord(PostgresCSV, fields[csvTime], fields[csvPID], fields[csvSeverity], fields[csvMessage], ref)
	host, port := fields[csvFrom], ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host, port = host[:i], host[i+1:]
	}
	r.record[0].addSource(host, port)
	r.record[0].add(ParamAccount, fields[csvUser])
	r.record[0].add(ParamDatabase, fields[csvDatabase])
	r.record[0].add(ParamCode, fields[csvCode])
	return r.record[:]
}

func (r *postgresCSV) Flush() []Record { return nil }

// postgresJSON reads jsonlog (PostgreSQL 15 and later, 19.8.5), one object a line.
type postgresJSON struct{ record [1]Record }

func (r *postgresJSON) Line(line []byte, ref time.Time) []Record {
	var entry struct {
		Timestamp  string `json:"timestamp"`
		User       string `json:"user"`
		Database   string `json:"dbname"`
		PID        int    `json:"pid"`
		RemoteHost string `json:"remote_host"`
		RemotePort int    `json:"remote_port"`
		Severity   string `json:"error_severity"`
		Code       string `json:"state_code"`
		Message    string `json:"message"`
	}
	if json.Unmarshal(line, &entry) != nil || entry.Severity == "" {
		return nil
	}
	r.record[0] = postgresRecord(PostgresJSON, entry.Timestamp, strconv.Itoa(entry.PID), entry.Severity, entry.Message, ref)
	r.record[0].addSource(entry.RemoteHost, strconv.Itoa(entry.RemotePort))
	r.record[0].add(ParamAccount, entry.User)
	r.record[0].add(ParamDatabase, entry.Database)
	r.record[0].add(ParamCode, entry.Code)
	return r.record[:]
}

func (*postgresJSON) Flush() []Record { return nil }

func postgresRecord(format, stamp, pid, severity, message string, ref time.Time) Record {
	at, _, _ := cutStamp([]byte(stamp))
	return Record{
		Time: at.time(ref), PID: pid, Text: []byte(severity + ":  " + message),
		Params: []Param{{ParamFormat, format}},
	}
}

// addSource adds a source where host is an address; with log_hostname it is a name.
func (r *Record) addSource(host, port string) {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return
	}
	r.add(ParamSource, event.Canonical(a).String())
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		r.add(ParamSourcePort, port)
	}
}
