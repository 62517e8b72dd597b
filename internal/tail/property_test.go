package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// world is a syslog daemon that writes and rotates a log, and a follower that is killed now and then.
type world struct {
	dir, log, cur string
	w             *os.File
	unwritten     string // rest of a line that was begun
	written       []string
	k             *taker
	r             *running
}

func (w *world) options() Options {
	return Options{
		Path: w.log, Cursor: w.cur, FromHead: true, MaxLines: 7, MaxBytes: 300, MaxLine: 80,
		Poll: 2 * time.Millisecond, Linger: 300 * time.Millisecond, Backoff: time.Millisecond,
	}
}

func (w *world) open(t *rapid.T) {
	f, err := os.OpenFile(w.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	require.NoError(t, err)
	w.w = f
}

func (w *world) write(t *rapid.T, text string) {
	_, err := w.w.WriteString(text)
	require.NoError(t, err)
}

func (w *world) line(t *rapid.T) string {
	line := fmt.Sprintf("%d %s", len(w.written), rapid.StringMatching(`[a-z ]{0,70}`).Draw(t, "text"))
	w.written = append(w.written, line)
	return line + rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(t, "end")
}

// TestNothingLostNothingDoubled: whatever the schedule of writes, rotations, failures and kills, the stream (which drops
// what comes again under the same ID) holds every line once, in order.
func TestNothingLostNothingDoubled(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "") //nolint:usetesting // one for each of many schedules
		require.NoError(t, err)
		w := &world{dir: dir, log: filepath.Join(dir, "auth.log"), cur: filepath.Join(dir, "state", "cursor"), k: newTaker()}
		w.open(t)
		w.r = start(t, w.options(), w.k)
		eventually(t, "first look", func() bool { _, err := os.Stat(w.cur); return err == nil })
		defer func() {
			w.r.stop()
			_ = w.w.Close()
		}()
		t.Repeat(map[string]func(*rapid.T){
			"write lines": func(t *rapid.T) {
				var b strings.Builder
				b.WriteString(w.unwritten)
				for range rapid.IntRange(1, 20).Draw(t, "lines") {
					b.WriteString(w.line(t))
				}
				text := b.String()
				w.unwritten = ""
				if rapid.Bool().Draw(t, "stop within a line") {
					cut := rapid.IntRange(0, len(text)-1).Draw(t, "at")
					text, w.unwritten = text[:cut], text[cut:]
				}
				w.write(t, text)
			},
			"rotate": func(t *rapid.T) {
				for i := 99; i > 0; i-- { // so many that none is deleted while it is still read: its number would be the next one's
					_ = os.Rename(fmt.Sprintf("%s.%d", w.log, i), fmt.Sprintf("%s.%d", w.log, i+1))
				}
				require.NoError(t, os.Rename(w.log, w.log+".1"))
				old := w.w
				create := rapid.Bool().Draw(t, "create at once")
				if create {
					w.open(t)
				}
				text := w.unwritten + w.line(t)
				w.unwritten = ""
				_, err := old.WriteString(text)
				require.NoError(t, err)
				require.NoError(t, old.Close())
				if !create {
					w.open(t)
				}
			},
			"fail": func(t *rapid.T) {
				n := rapid.IntRange(1, 3).Draw(t, "times")
				w.k.mu.Lock()
				defer w.k.mu.Unlock()
				w.k.before = func(Batch) error {
					if n--; n >= 0 {
						return errDown
					}
					return nil
				}
			},
			"kill": func(t *rapid.T) { w.killAndRestart(t) },
			"catch up": func(t *rapid.T) {
				n := len(w.written)
				if w.unwritten != "" {
					return
				}
				w.k.untilN(t, n)
			},
		})
		w.write(t, w.unwritten+w.line(t))
		w.k.untilN(t, len(w.written))
		w.r.stop()
		if diff := cmp.Diff(w.written, w.k.got()); diff != "" {
			t.Fatalf("written - and got +:\n%s", diff)
		}
	})
}

// killAndRestart ends the follower as SIGKILL does: nothing is written after the moment of the kill, which lies between the
// taking of a batch and its acknowledgement where a batch comes within a while, else in idleness.
func (w *world) killAndRestart(t *rapid.T) {
	var cursor []byte
	killed := make(chan struct{})
	dead := false
	w.k.mu.Lock()
	lose := rapid.Bool().Draw(t, "batch is lost, not only its acknowledgement")
	die := func(Batch) error {
		if !dead {
			dead = true
			cursor, _ = os.ReadFile(w.cur)
			close(killed)
		}
		return errDown
	}
	if lose {
		w.k.before = die
	} else {
		w.k.before = func(Batch) error {
			if dead {
				return errDown
			}
			return nil
		}
		w.k.after = die
	}
	w.k.mu.Unlock()
	if w.unwritten == "" {
		w.write(t, w.line(t))
	}
	select {
	case <-killed:
	case <-time.After(10 * time.Millisecond):
		w.k.mu.Lock()
		if !dead {
			dead = true
			cursor, _ = os.ReadFile(w.cur)
		}
		w.k.before = func(Batch) error { return errDown }
		w.k.mu.Unlock()
	}
	w.r.stop()
	require.NotEmpty(t, cursor)
	require.NoError(t, os.WriteFile(w.cur, cursor, 0o600))
	w.k.mu.Lock()
	w.k.before, w.k.after = nil, nil
	w.k.mu.Unlock()
	w.r = start(t, w.options(), w.k)
}
