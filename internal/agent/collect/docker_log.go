package collect

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/native"
)

// dockerLine is a line of a container's log as Docker's driver json-file writes it.
type dockerLine struct {
	Log    string    `json:"log"` // without its line feed where it is a part of a longer line
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// dockerFormat is the format of a container whose program writes f.
func dockerFormat(f native.Format) native.Format {
	inner := f.New
	f.New = func() native.Reader { return &dockerReader{inner: inner} }
	return f
}

// dockerReader reads a container's log: what its program wrote to its two streams, each read by a reader of its own.
type dockerReader struct {
	inner   func() native.Reader
	streams [2]dockerStream // stdout, stderr
}

type dockerStream struct {
	reader native.Reader
	part   []byte    // of a line that Docker cut in pieces of 16 KiB
	last   time.Time // when the program wrote last
}

// Line takes a line of the file. One that isn't Docker's is passed over: the end of a file whose machine lost power.
func (d *dockerReader) Line(line []byte, _ time.Time) []native.Record {
	var l dockerLine
	if json.Unmarshal(line, &l) != nil {
		return nil
	}
	at := 0
	if l.Stream == "stderr" {
		at = 1
	}
	var out []native.Record
	other := &d.streams[1-at]
	if other.reader != nil && l.Time.Sub(other.last) >= settled { // it does not go on
		out = append(out, other.flush()...)
	}
	s := &d.streams[at]
	if s.reader == nil {
		s.reader = d.inner()
	}
	text, whole := strings.CutSuffix(l.Log, "\n")
	s.part = append(s.part, text[:min(len(text), maxLine-len(s.part))]...)
	s.last = l.Time
	if !whole {
		return out
	}
	if n := len(s.part); n > 0 && s.part[n-1] == '\r' { // of a terminal
		s.part = s.part[:n-1]
	}
	out = append(out, timed(s.reader.Line(s.part, l.Time), l.Time)...)
	s.part = nil // records may lie in it
	return out
}

// Flush returns what might have gone on.
func (d *dockerReader) Flush() []native.Record {
	var out []native.Record
	for i := range d.streams {
		if d.streams[i].reader != nil {
			out = append(out, d.streams[i].flush()...)
		}
	}
	return out
}

func (s *dockerStream) flush() []native.Record {
	var out []native.Record
	if len(s.part) > 0 { // a program that ended without a line feed
		for _, r := range timed(s.reader.Line(s.part, s.last), s.last) {
			r.Text, r.Params = bytes.Clone(r.Text), slices.Clone(r.Params) // the reader is asked once more
			out = append(out, r)
		}
		s.part = nil
	}
	return append(out, timed(s.reader.Flush(), s.last)...)
}

// timed gives records that state no time the one at which Docker took their line.
func timed(records []native.Record, at time.Time) []native.Record {
	for i := range records {
		if records[i].Time.IsZero() {
			records[i].Time = at
		}
	}
	return records
}
