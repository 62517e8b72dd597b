package tail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taker collects what it is given. Batches that come again under the same ID are dropped, as the stream does.
type taker struct {
	mu      sync.Mutex
	changed chan struct{} // closed and made anew at each change
	lines   []string
	at      []time.Time
	seen    map[string][]string
	again   int               // batches that came again
	before  func(Batch) error // called first
	after   func(Batch) error // called when the lines were taken: as if the acknowledgement got lost
	batches []Batch
}

var errDown = errors.New("the bus is down")

func newTaker() *taker {
	return &taker{changed: make(chan struct{}), seen: make(map[string][]string)}
}

func (k *taker) take(_ context.Context, b Batch) error {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.before != nil {
		if err := k.before(b); err != nil {
			return err
		}
	}
	var lines []string
	for _, l := range b.Lines {
		lines = append(lines, string(l))
	}
	if was, ok := k.seen[b.ID]; ok {
		k.again++
		if fmt.Sprint(was) != fmt.Sprint(lines) {
			panic(fmt.Sprintf("batch %s came again with other lines: %q, then %q", b.ID, was, lines))
		}
	} else {
		k.seen[b.ID] = lines
		k.lines = append(k.lines, lines...)
		for range lines {
			k.at = append(k.at, now)
		}
	}
	k.batches = append(k.batches, Batch{ID: b.ID, Path: b.Path})
	close(k.changed)
	k.changed = make(chan struct{})
	if k.after != nil {
		return k.after(b)
	}
	return nil
}

func (k *taker) got() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.lines...)
}

// until waits until cond holds for the lines.
func (k *taker) until(t require.TestingT, cond func(lines []string) bool) {
	deadline := time.After(time.Minute)
	for {
		k.mu.Lock()
		ok, changed := cond(k.lines), k.changed
		k.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(t, "timeout", "lines so far: %q", k.got())
		}
	}
}

func (k *taker) untilN(t require.TestingT, n int) {
	k.until(t, func(lines []string) bool { return len(lines) >= n })
}

// running is a follower at work.
type running struct {
	f    *Follower
	stop func()
}

func start(t require.TestingT, o Options, k *taker) *running {
	f, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, k.take) }()
	var once sync.Once
	return &running{f: f, stop: func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}}
}

// launch starts a follower that ends with the test, and waits until it looked for the first time.
func launch(t *testing.T, o Options, k *taker) *running {
	t.Helper()
	r := start(t, o, k)
	t.Cleanup(r.stop)
	return r
}

// writer appends to a file as a syslog daemon does.
func add(t require.TestingT, path, text string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func paths(t *testing.T) (log, cur string) {
	t.Helper()
	dir := t.TempDir()
	return filepath.Join(dir, "auth.log"), filepath.Join(t.TempDir(), "cursor.json")
}

// eventually waits until cond holds.
func eventually(t require.TestingT, what string, cond func() bool) {
	require.Eventually(t, cond, time.Minute, time.Millisecond, what)
}
