package explain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// progressEvery is how often Progress is called.
const progressEvery = 100 * time.Millisecond

// run explains the inputs: one goroutine reads blocks of lines, several parse them, and the caller's takes them in their order, settles
// what lines mean together, detects and writes. What is written depends on nothing but the inputs.
type run struct {
	opts   Options
	inputs []Input
	begin  time.Time
	out    *bufio.Writer
	to     writer
	json   *jsonLines // nil where lines are not written
	joiner parse.Joiner
	shards []*shard
	found  []found
	files  *numbering
	shapes shapes
	sum    Summary
	kinds  [5]int

	read, total atomic.Int64 // bytes of inputs
	told        time.Time    // when Progress was called
}

func newRun(inputs []Input, out *bufio.Writer, opts Options, begin time.Time) *run {
	r := &run{opts: opts, inputs: inputs, begin: begin, out: out, told: begin, files: newNumbering(inputs)}
	text := maxProofText + 1 // so that it is seen to go on
	if opts.JSON || opts.Summary {
		text = -1
	}
	r.shards = newShards(opts, text)
	if opts.JSON {
		j := &jsonLines{w: out, quiet: opts.Summary, files: r.files}
		r.to = j
		if !opts.Summary {
			r.json = j
		}
	} else {
		r.to = &report{w: out, quiet: opts.Summary, files: r.files, kinds: &r.kinds, rules: map[string]*fired{}}
	}
	for _, in := range inputs {
		r.total.Add(in.Size)
	}
	return r
}

// all explains all inputs.
func (r *run) all(ctx context.Context) (Summary, error) {
	ctx, stop := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop(nil)
	blocks := 2*r.opts.Workers + 2
	free, work, ordered := make(chan *block, blocks), make(chan *block, blocks), make(chan *block, blocks)
	for range blocks {
		free <- &block{ready: make(chan struct{}, 1)}
	}
	var readErr error
	parts.Go(func() {
		defer close(ordered)
		defer close(work)
		readErr = r.readAll(ctx, free, func(b *block) {
			work <- b // there is room for all blocks that there are
			ordered <- b
		})
	})
	for range r.opts.Workers {
		w := worker{reader: *parse.NewReader(parse.Options{HTTP: r.opts.HTTP, Patterns: r.opts.Rules.Patterns}), service: r.opts.Service, json: r.json, wanted: r.wanted}
		parts.Go(func() {
			for b := range work {
				w.block(b)
				b.ready <- struct{}{}
			}
		})
	}
	for b := range ordered {
		<-b.ready
		if ctx.Err() != nil {
			break
		}
		if err := r.block(b); err != nil {
			return r.sum, err
		}
		b.reset()
		free <- b
	}
	if ctx.Err() != nil {
		return r.sum, fmt.Errorf("explain: %w", context.Cause(ctx))
	}
	for _, s := range r.shards {
		st := s.detector.Stats()
		r.sum.Evicted += st.Evicted + st.EvictedOpen
	}
	r.sum.Shapes, r.sum.Unknown = r.shapes.top(), r.shapes.lines
	return r.sum, readErr // the reader has ended, for it closed ordered
}

// readAll reads the inputs, one after the other, into blocks.
func (r *run) readAll(ctx context.Context, free <-chan *block, hand func(*block)) error {
	first := 1
	for i, in := range r.inputs {
		r.files.begins(first)
		lines, err := r.readOne(ctx, i, first, free, hand)
		first += lines
		if err != nil {
			return &readError{name: in.Name, line: lines, cause: err}
		}
	}
	return nil
}

func (r *run) readOne(ctx context.Context, i, first int, free <-chan *block, hand func(*block)) (lines int, err error) {
	s, err := open(r.inputs[i], r.opts.Service, r.begin, &r.read)
	if err != nil {
		return 0, err
	}
	defer s.Close() //nolint:errcheck // only read from
	for {
		var b *block
		select {
		case b = <-free:
		case <-ctx.Done():
			return lines, ctx.Err()
		}
		if b.buf == nil {
			b.buf = make([]byte, blockSize)
		}
		b.file, b.ref, b.base, b.first = i, s.ref, first, first+lines
		if s.next(b); b.lines == 0 && len(b.data) == 0 {
			if errors.Is(s.err(), io.EOF) {
				s.done = true
				return lines, nil
			}
			return lines, s.err()
		}
		lines += b.lines
		hand(b)
	}
}

// block takes a parsed block in.
func (r *run) block(b *block) error {
	r.sum.Lines += b.lines
	r.sum.Events += b.counts[0]
	r.sum.Guesses += b.counts[1]
	for i, n := range b.kinds {
		r.kinds[i] += n
	}
	written := 0
	write := func(to int) error {
		if to == written {
			return nil
		}
		if _, err := r.out.Write(b.out[written:to]); err != nil {
			return fmt.Errorf("write explanation: %w", err)
		}
		written = to
		return nil
	}
	for i := range b.items {
		it := &b.items[i]
		if joins := b.reading(it); joins != nil {
			r.joiner.Settle(joins)
			it.event, it.wants = joins.Event, r.wanted(&joins.Event)
		}
		r.count(&it.event)
	}
	found := r.detect(b)
	for i := range b.items {
		it := &b.items[i]
		if r.json != nil && it.join != noJoin {
			if err := write(it.out); err != nil {
				return err
			}
			if err := r.json.line(b, it.line, &it.event); err != nil {
				return err
			}
		}
		for ; len(found) > 0 && found[0].item == i; found = found[1:] {
			for _, o := range found[0].offences {
				r.sum.Offences++
				if err := write(it.out); err != nil {
					return err
				}
				if err := r.to.offence(o); err != nil {
					return err
				}
			}
		}
	}
	r.shapes.merge(b.shapes)
	r.progress()
	return write(len(b.out))
}

func (r *run) count(e *event.Event) {
	r.kinds[kindIndex(e.Kind)]++
	if e.Kind == event.None {
		return
	}
	r.sum.Events++
	r.sum.Guesses += e.Attempts
	if e.Time.IsZero() {
		r.sum.Timeless++
	}
}

func (r *run) progress() {
	if r.opts.Progress == nil {
		return
	}
	if now := r.opts.Now(); now.Sub(r.told) >= progressEvery {
		r.told = now
		r.opts.Progress(Progress{Read: r.read.Load(), Total: r.total.Load(), Lines: r.sum.Lines})
	}
}

// numbering says where the lines of a run stand in the inputs.
type numbering struct {
	mu     sync.Mutex
	inputs []Input
	first  []int // number in the run of each input's first line
}

func newNumbering(inputs []Input) *numbering { return &numbering{inputs: inputs} }

func (n *numbering) begins(first int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.first = append(n.first, first)
}

// several reports whether a line's number alone says not which it is.
func (n *numbering) several() bool { return len(n.inputs) > 1 }

// place returns the input and the number therein of a line of the run.
func (n *numbering) place(line int) (name string, number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, first := range slices.Backward(n.first) {
		if line >= first {
			return n.inputs[i].Name, line - first + 1
		}
	}
	return "", line
}
