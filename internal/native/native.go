// Package native reads the logs that software writes in forms of its own, where it can't write syslog, into records, and
// writes these as syslog (RFC 5424), which any receiver can read.
package native

import (
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// ElementID names the element of structured data in which Kokkuri states what a message's text does not: 32473 is
// the enterprise number for examples (RFC 5612), since Kokkuri has none.
const ElementID = "kokkuri@32473"

// Parameters of the element.
const (
	// Who wrote the message, as the host's journal or rsyslog saw it: what the writer can't choose.
	ParamUID  = "uid"
	ParamExe  = "exe"
	ParamUnit = "unit"

	ParamFormat = "format" // of the native log, such as postgres-csv
	ParamFile   = "file"   // that the record was read from

	// What the record states in fields of its own.
	ParamSource     = "source"      // an address, never a name
	ParamSourcePort = "source_port" // decimal
	ParamAccount    = "account"
	ParamDatabase   = "database"
	ParamReason     = "reason"
	ParamCode       = "code"  // such as an SQLSTATE, or an HTTP status
	ParamCount      = "count" // how many times it happened
)

// Param is a parameter of structured data.
type Param struct{ Name, Value string }

// Record is one entry of a native log.
type Record struct {
	Time   time.Time // zero where the entry states none
	PID    string    // empty where it states none
	Text   []byte    // the message, in one line
	Params []Param
}

// add states a parameter that is not empty.
func (r *Record) add(name, value string) {
	const longest = 512
	if value != "" {
		r.Params = append(r.Params, Param{name, value[:min(len(value), longest)]})
	}
}

// Format is a form of native log.
type Format struct {
	Name    string // as configurations name it, such as postgres-csv
	App     string // RFC 5424's APP-NAME: the program's name as it would call itself in syslog
	Service event.Service
	New     func() Reader
}

// Reader joins the lines of one log to records; a record may span lines. It is for one goroutine, and what it keeps is
// bounded. What it returns is valid until its next call.
type Reader interface {
	// Line takes the next line, without its end, and returns the records that are whole with it. ref gives
	// times that lack it their year and zone.
	Line(line []byte, ref time.Time) []Record
	// Flush returns the record that might have gone on, where there is one.
	Flush() []Record
}

// Find returns the format of a name.
func Find(name string) (Format, bool) {
	for _, f := range Formats() {
		if f.Name == name {
			return f, true
		}
	}
	return Format{}, false
}
