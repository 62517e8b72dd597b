package collect

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Bounds of a batch, below those of the bus.
const (
	maxBatchLines = 500
	maxBatchBytes = 256 << 10
	maxLine       = 64 << 10
)

// outbox hands batches to the bus so that a crash neither loses nor doubles one. A batch is written down before it is
// published, with the position P in its source that holds once it was taken; one that is not known to be taken goes
// out again, the very same under the same ID, even where the source can't give it a second time.
type outbox[P any] struct {
	host     string
	origin   string // of the batches
	name     string // of the road; makes IDs unique on the host
	publish  func(ctx context.Context, b event.Batch) error
	road     event.Road
	file     stateFile
	state    outboxState[P]
	known    bool // a position was saved
	problems *trouble.Kept
	log      *slog.Logger

	batches, lines, resent, retries atomic.Int64
}

type outboxState[P any] struct {
	Epoch    string          `json:"epoch"` // random: IDs of a state that was lost are not used again
	Sequence uint64          `json:"sequence"`
	Position P               `json:"position"`
	Pending  *outboxBatch[P] `json:"pending,omitempty"`
}

type outboxBatch[P any] struct {
	Received time.Time `json:"received"`
	Lines    [][]byte  `json:"lines"`
	Next     P         `json:"next"`
}

// open reads what an earlier run left.
func (b *outbox[P]) open() error {
	known, err := b.file.load(&b.state, b.log)
	if err != nil {
		return err
	}
	b.known = known
	if !known || b.state.Epoch == "" {
		b.state.Epoch = newNonce()
	}
	return nil
}

// resend publishes the batch that an earlier run handed on last.
func (b *outbox[P]) resend(ctx context.Context) error {
	if b.state.Pending == nil {
		return nil
	}
	b.resent.Add(1)
	return b.flush(ctx)
}

// put publishes lines and returns when the bus has them; next is the position then. It fails only when ctx ends.
func (b *outbox[P]) put(ctx context.Context, lines [][]byte, next P) error {
	b.state.Pending = &outboxBatch[P]{Received: time.Now(), Lines: lines, Next: next}
	b.state.Sequence++
	b.save()
	return b.flush(ctx)
}

func (b *outbox[P]) flush(ctx context.Context) error {
	p := b.state.Pending
	for i, lines := range parts(p.Lines) {
		if err := persist(ctx, b.publish, event.Batch{
			Host: b.host, Road: b.road, Origin: b.origin, Received: p.Received, Lines: lines,
			ID: fmt.Sprintf("%s/%s/%s-%d.%d", b.host, b.name, b.state.Epoch, b.state.Sequence, i),
		}, b.problems, &b.retries); err != nil {
			return err
		}
	}
	b.batches.Add(1)
	b.lines.Add(int64(len(p.Lines)))
	b.move(p.Next)
	return nil
}

// move notes a position up to which there was nothing to publish, or all was.
func (b *outbox[P]) move(next P) {
	b.state.Position, b.state.Pending, b.known = next, nil, true
	b.save()
}

// save writes the state. That it can't be written is reported and does not stop the road: a line that comes twice
// after a crash is better than none.
func (b *outbox[P]) save() {
	if err := b.file.save(&b.state); err != nil {
		b.problems.Set("cursor", event.Finding{
			Level: trouble.Error, Subject: b.file.path, Text: fmt.Sprintf("after a restart lines may come twice: %v", err),
			Mend: "free space in, or let this program write to, " + filepath.Dir(b.file.path),
		})
		return
	}
	b.problems.Clear("cursor")
}

func (b *outbox[P]) close() { b.file.close() }

// parts cuts lines into as many as the bus takes at once.
func parts(lines [][]byte) [][][]byte {
	var out [][][]byte
	for len(lines) > 0 {
		n, size := 0, 0
		for n < len(lines) && n < maxBatchLines && (n == 0 || size+len(lines[n]) < maxBatchBytes) {
			size += len(lines[n]) + 1
			n++
		}
		out = append(out, lines[:n])
		lines = lines[n:]
	}
	return out
}

// persist publishes a batch until it was taken; it fails only when ctx ends.
func persist(
	ctx context.Context, publish func(ctx context.Context, b event.Batch) error, batch event.Batch, p *trouble.Kept, retries *atomic.Int64,
) error {
	const longest = 5 * time.Second
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, longest) {
		err := publish(ctx, batch)
		if err == nil {
			p.Clear("publish")
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("publish lines of %s: %w", batch.Origin, ctx.Err())
		}
		retries.Add(1)
		p.Set("publish", event.Finding{
			Level: trouble.Warning, Subject: batch.Origin, Text: fmt.Sprintf("lines wait to be handed on: %v", err),
			Mend: "nothing is lost: it is tried again until it works",
		})
		if !wait(ctx, pause) {
			return fmt.Errorf("publish lines of %s: %w", batch.Origin, ctx.Err())
		}
	}
}
