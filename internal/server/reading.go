package server

import (
	"context"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// readAhead is how many batches may wait, read, to be evaluated; who reads has to wait when there are more.
const readAhead = 4

// reading is a batch each line of which was read by itself.
type reading struct {
	seq      uint64
	batch    event.Batch
	patterns *parse.Patterns // it was read by
	lines    []lineReading   // those that say something, or may together with others
	last     latest
}

type lineReading struct {
	parse.Reading

	index int // in the batch
}

// lineReader reads batches. It is for one goroutine.
type lineReader struct {
	http     parse.HTTPOptions
	patterns *parse.Patterns
	reader   *parse.Reader
}

// read reads a batch by patterns, all anew.
func (lr *lineReader) read(r *reading, by *parse.Patterns) {
	if lr.reader == nil || lr.patterns != by {
		lr.patterns, lr.reader = by, parse.NewReader(parse.Options{HTTP: lr.http, Patterns: by})
	}
	r.patterns, r.last = by, latest{}
	n := 0
	for i, line := range r.batch.Lines {
		if n == len(r.lines) {
			r.lines = append(r.lines, lineReading{})
			r.lines = r.lines[:cap(r.lines)]
		}
		l := &r.lines[n]
		lr.reader.Line(line, r.batch.Received, &l.Reading)
		note := l.Note()
		r.last.add(note.Local, l.Event.Time)
		if l.Event.Kind != event.None || note.Forged || l.Joins() {
			l.index = i
			n++
		}
	}
	r.lines = r.lines[:n]
}

// ahead reads batches while earlier ones are evaluated.
type ahead struct {
	reader   lineReader
	patterns func() *parse.Patterns // that hold now
	ready    chan *reading
	free     chan *reading
}

func newAhead(http parse.HTTPOptions, patterns func() *parse.Patterns) *ahead {
	const underWay = 2 // one is being read and one evaluated
	a := &ahead{reader: lineReader{http: http}, patterns: patterns, ready: make(chan *reading, readAhead), free: make(chan *reading, readAhead+underWay)}
	for range cap(a.free) {
		a.free <- &reading{}
	}
	return a
}

// take reads a batch and puts it behind those that wait.
func (a *ahead) take(ctx context.Context, seq uint64, b event.Batch) error {
	var r *reading
	select {
	case r = <-a.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.seq, r.batch = seq, b
	a.reader.read(r, a.patterns())
	select {
	case a.ready <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each calls fn with each batch, in order, until ctx ends (returning nil) or fn fails (returning its error). What fn is given is
// used anew afterwards.
func (a *ahead) each(ctx context.Context, fn func(context.Context, *reading) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-a.ready:
			if err := fn(ctx, r); err != nil {
				return err
			}
			r.batch = event.Batch{} // its lines are as great as the message that they came in
			a.free <- r
		}
	}
}
