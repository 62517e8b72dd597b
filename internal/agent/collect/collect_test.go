package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// stream keeps batches as the bus does: one whose id it knows is acknowledged and dropped.
type stream struct {
	mu    sync.Mutex
	ids   []string
	lines []string
	// deaf makes it keep a batch and lose the acknowledgement, as a crash between the two does.
	deaf bool
	down bool
}

func (s *stream) publish(ctx context.Context, b event.Batch) error {
	s.mu.Lock()
	down, deaf := s.down, s.deaf
	if !down && !slices.Contains(s.ids, b.ID) {
		s.ids = append(s.ids, b.ID)
		for _, l := range b.Lines {
			s.lines = append(s.lines, string(l))
		}
	}
	s.mu.Unlock()
	switch {
	case deaf:
		<-ctx.Done()
		return ctx.Err()
	case down:
		return errors.New("no connection")
	}
	return nil
}

func (s *stream) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func (s *stream) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func collect(t *testing.T, s *stream, state, file string) (c *Collector, stop func()) {
	t.Helper()
	c, err := New(Options{Host: "web", Files: []string{file}, StateDir: state, Publish: s.publish, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return c, stop
}

// write appends lines in one piece: whoever follows the file sees all of them at once.
func write(t *testing.T, file string, from, to int) (lines []string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return lines
}

func arrives(t *testing.T, s *stream, want []string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Equal(c, want, s.got()) }, time.Minute, 5*time.Millisecond)
}

func TestEachLineOnceAcrossCrashes(t *testing.T) {
	t.Parallel()
	s, state, file := &stream{}, t.TempDir(), filepath.Join(t.TempDir(), "auth.log")
	c, stop := collect(t, s, state, file)
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, time.Millisecond, "the first look is over")
	want := write(t, file, 1000, 1010)
	arrives(t, s, want)

	s.set(func() { s.deaf = true }) // kept, but the agent dies before it hears so
	want = append(want, write(t, file, 2000, 2005)...)
	arrives(t, s, want)
	stop()
	s.set(func() { s.deaf = false })
	want = append(want, write(t, file, 3000, 3005)...)
	_, stop = collect(t, s, state, file)
	arrives(t, s, want)

	s.set(func() { s.down = true })
	want = append(want, write(t, file, 4000, 4005)...)
	require.NoError(t, os.Rename(file, file+".1")) // rotated while the bus is away
	want = append(want, write(t, file, 5000, 5005)...)
	s.set(func() { s.down = false })
	arrives(t, s, want)
	stop()
}

func TestUnreadableLogIsAFinding(t *testing.T) {
	t.Parallel()
	c, _ := collect(t, &stream{}, t.TempDir(), filepath.Join(t.TempDir(), "missing.log"))
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, time.Millisecond)
	require.Contains(t, c.Findings()[0].Subject, "missing.log")
	require.NotEmpty(t, c.Findings()[0].Mend)

	for _, files := range [][]string{{"relative.log"}, {"/var/log/%HOST%.log"}, {"/a.log", "/a.log"}} {
		_, err := New(Options{Host: "web", Files: files, StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		require.Error(t, err)
	}
}

// TestFilesByPattern: with wildcards every file that matches is followed, also one that comes later.
func TestFilesByPattern(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &stream{}
	c, err := New(Options{Host: "web", Files: []string{filepath.Join(dir, "*", "auth.log")}, StateDir: t.TempDir(), Publish: s.publish})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, time.Millisecond, "nothing is there yet")
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "auth.log"), []byte(name+"\n"), 0o600))
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.lines) == 2
	}, time.Minute, time.Millisecond)
	assert.ElementsMatch(t, []string{"a", "b"}, s.lines)
	cancel()
	require.NoError(t, <-done)
}
