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
// lines of syslog, they are so whatever else could read them.
func guess(sample []byte, service event.Service, ref time.Time) (native.Format, bool) {
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
		return native.Format{}, false
	}
	var best native.Format
	most := 0
	for _, f := range native.Formats() {
		if service != "" && f.Service != service {
			continue
		}
		if n := understood(f, lines, ref); n > most {
			best, most = f, n
		}
	}
	return best, 2*most > headers && most > 0
}

// understood counts the records with a time that a format reads from lines.
func understood(f native.Format, lines [][]byte, ref time.Time) int {
	n := 0
	count := func(list []native.Record) {
		for _, r := range list {
			if !r.Time.IsZero() {
				n++
			}
		}
	}
	r := f.New()
	for _, line := range lines {
		count(r.Line(slices.Clone(line), ref))
	}
	count(r.Flush())
	return n
}

// converter makes lines of syslog of lines in another form.
type converter struct {
	format native.Format
	reader native.Reader
	ref    time.Time
	buf    []byte
	data   []byte // of buf what is still to be converted
	begun  int    // lines since the one that the record under way began with, which is one of them
	ended  bool
}

func newConverter(f native.Format, ref time.Time) *converter {
	return &converter{format: f, reader: f.New(), ref: ref, buf: make([]byte, blockSize)}
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
		at := b.lines
		if len(records) > 0 {
			// A record of this line alone, or one that this line told to be over.
			if !bytes.Contains(line, head(records[0].Text)) {
				at = b.lines - c.begun
			}
			c.begun = 0
		}
		c.add(b, records, at)
		b.lines++
		c.begun++
	}
}

func (c *converter) add(b *block, records []native.Record, at int) {
	for _, r := range records {
		b.data = append(append(b.data, native.Encode(r, "", c.format.App)...), '\n')
		b.numbers = append(b.numbers, at)
	}
}

// head is enough of a text to know it again.
func head(text []byte) []byte {
	const enough = 32
	return text[:min(len(text), enough)]
}
