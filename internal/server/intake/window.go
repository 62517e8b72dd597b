package intake

import (
	"context"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Batches that may wait for the bus at once: of one connection, and of all. A sender has to wait when there are more.
const (
	maxWindow   = 16
	maxUnderWay = 128
)

// window is what of a connection is on its way to the bus: batches are sent one after the other, and acknowledged meanwhile.
type window struct {
	in     *Intake
	sent   chan waiting
	acked  sync.WaitGroup
	mu     sync.Mutex
	failed bool
}

// waiting is a batch that was sent.
type waiting struct {
	batch event.Batch // without its lines
	lines int
	wait  func(context.Context) error
}

// newWindow makes a window whose owner closes it.
func (in *Intake) newWindow(ctx context.Context) *window {
	w := &window{in: in, sent: make(chan waiting, maxWindow)}
	w.acked.Go(func() {
		for one := range w.sent {
			if !w.in.acknowledged(ctx, one) {
				w.fail()
				w.in.lost(ctx, one.batch.Host, one.lines)
			}
			<-w.in.underWay
		}
	})
	return w
}

// send hands a batch on; false where the bus took one before, or this one, no more. Its lines may be reused afterwards.
func (w *window) send(ctx context.Context, b event.Batch) bool {
	if w.in.o.Send == nil {
		return w.in.publish(ctx, b) || w.lost(ctx, b)
	}
	if w.hasFailed() {
		return w.lost(ctx, b)
	}
	select {
	case w.in.underWay <- struct{}{}:
	case <-ctx.Done():
		return w.lost(ctx, b)
	}
	wait, err := w.in.o.Send(b)
	if err != nil { // it can't be sent as it is; Publish tells why
		<-w.in.underWay
		return w.in.publish(ctx, b) || w.lost(ctx, b)
	}
	one := waiting{batch: b, lines: len(b.Lines), wait: wait}
	one.batch.Lines = nil
	w.sent <- one // its reader ends with the channel
	return true
}

func (w *window) lost(ctx context.Context, b event.Batch) bool {
	w.in.lost(ctx, b.Host, len(b.Lines))
	return false
}

// close waits until all that was sent is acknowledged, or can't be any more.
func (w *window) close() {
	close(w.sent)
	w.acked.Wait()
}

func (w *window) fail() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = true
}

func (w *window) hasFailed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}
