package server

import (
	"sync"
	"sync/atomic"

	"github.com/kokkuri/kokkuri/internal/api"
)

// tailBuffer is how many events a slow reader may be behind before it misses some.
const tailBuffer = 1024

// tail hands events and evidence to those who watch. It is safe for concurrent use.
type tail struct {
	mu      sync.Mutex
	count   atomic.Int64 // of readers
	readers map[chan api.Watched]struct{}
	dropped atomic.Int64
}

func newTail() *tail { return &tail{readers: map[chan api.Watched]struct{}{}} }

// watched reports whether anybody reads.
func (t *tail) watched() bool { return t.count.Load() > 0 }

func (t *tail) publish(e api.Watched) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.readers {
		select {
		case c <- e:
		default:
			t.dropped.Add(1)
		}
	}
}

// subscribe returns a channel of them and what ends it.
func (t *tail) subscribe() (<-chan api.Watched, func()) {
	c := make(chan api.Watched, tailBuffer)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readers[c] = struct{}{}
	t.count.Store(int64(len(t.readers)))
	return c, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.readers, c)
		t.count.Store(int64(len(t.readers)))
	}
}
