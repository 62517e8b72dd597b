package explain

import (
	"bytes"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// sampleLines is how many lines tell an input's form.
const sampleLines = 200

// guess finds out whether the lines of a sample are in a form that software writes of its own, and which. Where they are
// lines of syslog, they are so whatever else could read them. It returns nil where they are in none.
func guess(formats []native.Format, sample []byte, service event.Service, ref time.Time) *converter {
	var lines [][]byte
	headers := 0
	for len(sample) > 0 && len(lines) < sampleLines {
		var line []byte
		line, sample = cutLine(sample)
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		lines = append(lines, line)
		if _, ok := parse.Header(line, ref); ok {
			headers++
		}
	}
	if len(lines) == 0 || 2*headers > len(lines) {
		return nil
	}
	var best native.Format
	most, told := 0, 0
	for _, f := range formats {
		if service != "" && f.Service != service {
			continue
		}
		// Two forms may both find records in a log: the right one finds out what they say.
		if n, events := understood(f, lines, ref); events > told || events == told && n > most {
			best, most, told = f, n, events
		}
	}
	if most == 0 || 2*most <= headers {
		return nil
	}
	return &converter{
		format: best, reader: best.New(), ref: ref, buf: make([]byte, blockSize),
		atOnce: slices.ContainsFunc(lines, func(line []byte) bool { return dated(best.New().Line(slices.Clone(line), ref)) > 0 }),
	}
}

// understood counts the records with a time that a format reads from lines, and the events that are read from these.
func understood(f native.Format, lines [][]byte, ref time.Time) (records, events int) {
	r := f.New()
	count := func(list []native.Record) {
		records += dated(list)
		for _, one := range list {
			if e := parse.Line(native.Encode(one, "", f.App), ref); e.Kind != event.None && e.Kind != event.Context {
				events++
			}
		}
	}
	for _, line := range lines {
		count(r.Line(slices.Clone(line), ref))
	}
	count(r.Flush())
	return records, events
}

func dated(list []native.Record) int {
	n := 0
	for _, r := range list {
		if !r.Time.IsZero() {
			n++
		}
	}
	return n
}

// converter makes lines of syslog of lines in another form.
type converter struct {
	format native.Format
	reader native.Reader
	ref    time.Time
	atOnce bool // a record is known to be over with its last line, not only with the next one's first
	buf    []byte
	data   []byte // of buf what is still to be converted
	begun  int    // how many lines ago the record under way began
	ended  bool
}

// next fills a block with the records of some lines. Each has the number of the line that it began with.
func (c *converter) next(s *splitter, b *block) {
	b.data, b.numbers = b.buf[:0], b.numbers[:0]
	for len(b.data) < blockSize/2 {
		if len(c.data) == 0 {
			if c.data, _ = s.next(c.buf); len(c.data) == 0 {
				if !c.ended {
					c.ended = true
					c.add(b, c.reader.Flush(), b.lines-c.begun)
				}
				return
			}
		}
		var line []byte
		line, c.data = cutLine(c.data)
		records := c.reader.Line(line, c.ref)
		c.add(b, records, b.lines-c.begun)
		switch {
		case len(records) == 0:
			c.begun++
		case c.atOnce:
			c.begun = 0
		default: // this line begins the next record
			c.begun = 1
		}
		b.lines++
	}
}

func (c *converter) add(b *block, records []native.Record, at int) {
	for _, r := range records {
		b.data = append(append(b.data, native.Encode(r, "", c.format.App)...), '\n')
		b.numbers = append(b.numbers, at)
	}
}
