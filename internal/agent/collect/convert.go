package collect

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

const (
	settled      = time.Second // after so long without a line, a record does not go on
	maxOpenLines = 2048        // of a record that is not whole
	maxOpenBytes = 256 << 10
	maxText      = maxLine / 4 // an escaped line feed takes four bytes
	maxParam     = 2048
)

// converter turns the lines of one log into records, and these into syslog on the bus.
//
// A record may span batches of lines, and the cursor behind the lines moves with each batch. So the lines of a record that
// is not whole yet, and of the one before it, are kept in a state file: after a crash a new reader gets them again, and
// stands where the old one did. What is published is named after the batch of lines that completed it, and the state moves only after it was
// taken: what a crash makes come again comes under the same ID.
type converter struct {
	format   native.Format
	file     string // what the records say they were read from
	host     string
	publish  func(ctx context.Context, b event.Batch) error
	problems *trouble.Kept
	log      *slog.Logger
	now      func() time.Time

	mu     sync.Mutex // over all below
	reader native.Reader
	kept   stateFile
	state  convertState
	idle   *time.Timer
	last   time.Time // when something was taken last

	busy             atomic.Int64 // callers of take
	records, retries atomic.Int64
	lost             *losses
}

// convertState is what survives a crash.
type convertState struct {
	Last     string   `json:"last"`               // batch of lines that was taken last
	Lines    [][]byte `json:"lines,omitempty"`    // that bring a new reader to where this one stands; see feed
	Open     bool     `json:"open,omitempty"`     // a record may go on
	Flushing bool     `json:"flushing,omitempty"` // that record is being published as it is
}

func newConverter(f native.Format, file, state string, c *Options, p *trouble.Kept) *converter {
	return &converter{
		format: f, file: file, host: c.Host, publish: c.Publish, problems: p, log: c.Log, now: time.Now,
		reader: f.New(), kept: stateFile{path: state}, last: time.Now(), lost: cmp.Or(c.lost, &losses{}),
	}
}

// run follows with f until ctx ends.
func (v *converter) run(ctx context.Context, f *tail.Follower) error {
	if err := v.restore(ctx); err != nil {
		return err
	}
	defer v.kept.close()
	v.idle = time.NewTimer(settled)
	defer v.idle.Stop()
	ctx, cancel := context.WithCancel(ctx)
	var flusher sync.WaitGroup
	flusher.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-v.idle.C:
				_ = v.settle(ctx) // fails only when ctx ends
			}
		}
	})
	err := f.Run(ctx, v.take)
	cancel()
	flusher.Wait()
	if err != nil {
		return fmt.Errorf("follow %s: %w", v.file, err)
	}
	return nil
}

// restore brings a new reader to where an earlier run's stood.
func (v *converter) restore(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.kept.load(&v.state, v.log); err != nil {
		return err
	}
	feed(v.reader, v.state.Lines, v.now()) // what was whole with them was published
	if v.state.Flushing {
		_ = v.flush(ctx) // fails only when ctx ends
	}
	return nil
}

// take turns a batch of lines into records and returns when the bus has them.
func (v *converter) take(ctx context.Context, b tail.Batch) error {
	v.busy.Add(1)
	defer v.busy.Add(-1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if b.ID == v.state.Last {
		return nil // an earlier run did, and was killed before the cursor moved
	}
	ref := v.now()
	var records [][]byte
	lines, whole := v.state.Lines, [2]int{} // whole: the lines with which the last two records were whole
	for i, line := range lines {
		if len(line) == 0 {
			whole = [2]int{whole[1], i}
		}
	}
	for _, line := range b.Lines {
		if len(line) == 0 {
			continue // tail hands none on
		}
		lines = append(lines, bytes.Clone(line))
		if got := v.reader.Line(line, ref); len(got) > 0 {
			records = v.encode(records, got)
			whole = [2]int{whole[1], len(lines) - 1}
		}
	}
	if err := v.send(ctx, b.ID, records); err != nil {
		return v.rewind(err)
	}
	v.state = convertState{Last: b.ID}
	v.state.Lines, v.state.Open = v.trim(lines, whole, ref)
	full := tooMuch(v.state.Lines)
	if full && !v.state.Open {
		v.state.Lines = nil
	}
	v.save()
	v.last = v.now()
	if full && v.state.Open {
		v.lost.split.Add(1)
		return v.flush(ctx)
	}
	v.idle.Reset(settled)
	return nil
}

// rewind puts the reader back to where it stood before the batch that was not taken: it comes again.
func (v *converter) rewind(err error) error {
	v.reader = v.format.New()
	feed(v.reader, v.state.Lines, v.now())
	return err
}

// feed gives lines to a reader; an empty one, which no log has, stands for a record that did not go on.
func feed(r native.Reader, lines [][]byte, ref time.Time) {
	for _, line := range lines {
		if len(line) == 0 {
			r.Flush()
		} else {
			r.Line(line, ref)
		}
	}
}

func tooMuch(lines [][]byte) bool {
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	return len(lines) > maxOpenLines || size > maxOpenBytes
}

// trim returns lines that bring a new reader to where one stands after all of them, and whether a record may go on then.
// What the record before said may matter for how the next is read, so both are kept where that is a place to begin at;
// there may be none but the very first line.
func (v *converter) trim(lines [][]byte, whole [2]int, ref time.Time) (kept [][]byte, open bool) {
	now := v.replay(lines, ref)
	for _, part := range [][][]byte{lines[whole[0]:], lines[whole[1]:], lines[min(whole[1]+1, len(lines)):]} {
		if slices.Equal(v.replay(part, ref), now) {
			return part, len(now) > 0
		}
	}
	return lines, len(now) > 0
}

// replay is the record that is open after lines.
func (v *converter) replay(lines [][]byte, ref time.Time) []string {
	r := v.format.New()
	feed(r, lines, ref)
	var out []string
	for _, record := range r.Flush() {
		out = append(out, string(native.Encode(record, v.host, v.format.App)))
	}
	return out
}

// settle publishes the record that might have gone on and did not.
func (v *converter) settle(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.state.Open || v.now().Sub(v.last) < settled {
		return nil
	}
	return v.flush(ctx)
}

// flush publishes the open record as it is. That it is about to is written down first: else, after a crash, lines that came
// meanwhile would be taken for more of it.
func (v *converter) flush(ctx context.Context) error {
	if !v.state.Flushing {
		v.state.Flushing = true
		v.save()
	}
	records := v.encode(nil, v.reader.Flush())
	if err := v.send(ctx, v.state.Last+".end", records); err != nil {
		return v.rewind(err)
	}
	v.state = convertState{Last: v.state.Last, Lines: append(v.state.Lines, nil)}
	if tooMuch(v.state.Lines) {
		v.state.Lines = nil
	}
	v.save()
	return nil
}

func (v *converter) save() {
	if err := v.kept.save(&v.state); err != nil {
		v.problems.Set("cursor", event.Finding{
			Level: trouble.Error, Subject: v.kept.path, Text: fmt.Sprintf("after a restart records may come twice: %v", err),
			Mend: "free space in, or let this program write to, " + filepath.Dir(v.kept.path),
		})
		return
	}
	v.problems.Clear("cursor")
}

// encode appends records as lines of syslog.
func (v *converter) encode(lines [][]byte, records []native.Record) [][]byte {
	for _, r := range records {
		r.Params = append([]native.Param(nil), r.Params...)
		r.Params = v.complete(r.Params)
		if len(r.Text) > maxText {
			v.lost.cut(len(r.Text) - maxText)
			r.Text = r.Text[:maxText]
		}
		lines = append(lines, native.Encode(r, v.host, v.format.App))
	}
	return lines
}

// complete bounds parameters, and adds of which form the log is and where it lies.
func (v *converter) complete(params []native.Param) []native.Param {
	stated := map[string]bool{}
	for i, p := range params {
		stated[p.Name] = true
		if len(p.Value) > maxParam {
			v.lost.cut(len(p.Value) - maxParam)
			params[i].Value = p.Value[:maxParam]
		}
	}
	for _, p := range []native.Param{{Name: native.ParamFormat, Value: v.format.Name}, {Name: native.ParamFile, Value: v.file}} {
		if !stated[p.Name] && p.Value != "" {
			params = append(params, p)
		}
	}
	return params
}

// send publishes lines in batches whose IDs begin with id.
func (v *converter) send(ctx context.Context, id string, lines [][]byte) error {
	for i, part := range parts(lines) {
		err := persist(ctx, v.publish, event.Batch{
			Host: v.host, Road: event.RoadAgent, Origin: v.file, Received: v.now(), ID: fmt.Sprintf("%s/%s.%d", v.host, id, i), Lines: part,
		}, v.problems, &v.retries)
		if err != nil {
			return err
		}
		v.records.Add(int64(len(part)))
	}
	return nil
}

// quiet reports whether nothing was taken for d and nothing waits.
func (v *converter) quiet(d time.Duration) bool {
	if v.busy.Load() > 0 {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.state.Open && v.now().Sub(v.last) > d
}
