package explain

import (
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// worker parses blocks, each by itself.
type worker struct {
	reader  parse.Reader
	service event.Service
	json    *jsonLines // nil where no lines are written
	wanted  func(*event.Event) wanted
	masker  masker
}

// block parses a block's lines.
func (w *worker) block(b *block) {
	data := b.data
	var r parse.Reading
	for n := 0; len(data) > 0; n++ {
		var line []byte
		line, data = cutLine(data)
		number := b.first + n
		if len(b.numbers) > 0 {
			number = b.first + b.numbers[n]
		}
		w.reader.Line(line, b.ref, &r)
		if !r.Header && w.service != "" {
			r.Event = w.reader.Message(w.service, line)
		}
		e := &r.Event
		if e.Kind == event.None && !r.Understood() && (e.Service != "" || !r.Header) {
			b.shapes = w.masker.add(b.shapes, line, e.Service, r.Header, number, b.ref)
		}
		if r.Joins() {
			b.items = append(b.items, item{line: number, text: line, out: len(b.out), join: int32(len(b.joins))})
			b.joins = append(b.joins, r)
			continue
		}
		if w.json != nil {
			b.out = w.json.appendLine(b.out, b, number, e)
		}
		if wants := w.wanted(e); wants != 0 {
			b.items = append(b.items, item{event: *e, line: number, text: line, out: len(b.out), join: noJoin, wants: wants})
			continue
		}
		b.kinds[kindIndex(e.Kind)]++
		if e.Kind != event.None {
			b.counts[0]++
			b.counts[1] += e.Attempts
		}
	}
}
