package explain

import (
	"bytes"
	"io"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	// maxLine bounds what is kept of a line; the rest of a longer one is skipped.
	maxLine = 64 << 10
	// blockSize is how much is read and parsed at once.
	blockSize = 128 << 10
)

// block is a part of an input, whole lines, on its way through the parts of a run.
type block struct {
	buf     []byte
	data    []byte // lines with their ends; the last of an input may lack it
	file    int    // which of the inputs
	ref     time.Time
	base    int   // number in the run of the input's first line
	first   int   // number in the run of the block's first line
	lines   int   // how many there are in the input
	numbers []int // of each line in data, where these are not the input's own; counted from first

	parsed
	ready chan struct{} // takes a value when the block is parsed
}

// parsed is what is read from a block.
type parsed struct {
	items  []item
	joins  []parse.Reading // of items that join
	out    []byte          // JSON of the lines, but of those items that join
	kinds  [5]int          // lines by kind, without the items
	counts [2]int          // events and guesses, without the items
	shapes []shape         // of lines that were not understood
}

// item is a line that can't be done with apart from the others of its stream.
type item struct {
	event event.Event
	text  []byte
	line  int    // its number in the run
	out   int    // where in the block's JSON it belongs
	join  int32  // its reading's place among those that join; noJoin where it is none of these
	wants wanted // shards that are to see it
}

const noJoin = -1

// reading returns an item's reading; nil where it doesn't join.
func (b *block) reading(it *item) *parse.Reading {
	if it.join == noJoin {
		return nil
	}
	return &b.joins[it.join]
}

// reset makes a block ready for other lines.
func (b *block) reset() {
	clear(b.shapes) // items hold no more than the readers' strings
	b.data, b.numbers, b.lines = nil, b.numbers[:0], 0
	b.parsed = parsed{items: b.items[:0], joins: b.joins[:0], out: b.out[:0], shapes: b.shapes[:0]}
}

// splitter cuts a stream into blocks at ends of lines.
type splitter struct {
	r     io.Reader
	carry []byte // the beginning of a line that is still to come
	skip  bool   // the rest of an overlong line is still to be dropped
	err   error  // that ended the stream; io.EOF at its end
}

// next fills a buffer with whole lines and returns them; none at the end of the stream. After an error it returns what came before.
func (s *splitter) next(buf []byte) (data []byte, lines int) {
	for s.err == nil {
		n := copy(buf, s.carry)
		s.carry = s.carry[:0]
		var m int
		m, s.err = fill(s.r, buf[n:])
		data = buf[:n+m]
		if s.skip {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				continue
			}
			data, s.skip = data[i+1:], false
		}
		end := bytes.LastIndexByte(data, '\n') + 1
		switch {
		case s.err != nil:
			end = len(data)
		case end == 0 && len(data) >= maxLine: // a line longer than a block
			s.skip = true
			return data[:maxLine], 1
		}
		s.carry = append(s.carry, data[end:]...)
		if data = data[:end]; len(data) > 0 {
			return data, countLines(data)
		}
	}
	return nil, 0
}

// fill reads until buf is full or the stream ends. Other than [io.ReadFull] it tells a stream's own unexpected end from its end.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err //nolint:wrapcheck // as a reader's
}

func countLines(data []byte) int {
	n := bytes.Count(data, []byte{'\n'})
	if len(data) > 0 && data[len(data)-1] != '\n' {
		n++
	}
	return n
}

// cutLine takes the first line off, without its end, and cut to what is kept of one.
func cutLine(data []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(data, []byte{'\n'})
	return bytes.TrimSuffix(line[:min(len(line), maxLine)], []byte{'\r'}), rest
}
