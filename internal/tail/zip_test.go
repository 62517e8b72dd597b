package tail

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// compress runs the real gzip, as logrotate does.
func compress(t require.TestingT, path string) {
	out, err := exec.Command("gzip", path).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestCompressedWhileAway(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: 5 * time.Millisecond}
	k := newTaker()
	r := start(t, o, k)
	long := strings.Repeat("x", 300)
	add(t, log, "1 "+long+"\n2\n")
	k.untilN(t, 2)
	r.stop()

	// Two days later: what was followed is .2.gz, the day after is .1.gz, both with a last line without an end.
	add(t, log, "3\n4")
	require.NoError(t, os.Rename(log, log+".2"))
	compress(t, log+".2")
	add(t, log+".1", "5 "+long+"\n6")
	compress(t, log+".1")
	add(t, log, "7\n8")
	o.Linger = 10 * time.Millisecond
	again := start(t, o, k)
	k.untilN(t, 7)
	assert.Equal(t, []string{"1 " + long, "2", "3", "5 " + long, "7"}, without(k.got(), "4", "6"))
	eventually(t, "old files are let go", func() bool {
		c, err := loadCursor(cur)
		return err == nil && c != nil && len(c.Files) == 1
	})
	add(t, log, " and its end\n")
	k.untilN(t, 8)
	again.stop()
	st := again.f.Stats()
	assert.EqualValues(t, 2, st.Unended)
	assert.Zero(t, st.LostFiles)
	got := k.got()
	assert.Equal(t, "8 and its end", got[len(got)-1], "the last line of the file that is written to was kept")

	// And nothing of it comes again.
	launch(t, o, k)
	add(t, log, "9\n")
	k.untilN(t, 9)
	assert.Len(t, k.got(), 9)
}

// without returns lines without some, each of which must be there once.
func without(lines []string, some ...string) (out []string) {
	left := make(map[string]int)
	for _, s := range some {
		left[s]++
	}
	for _, l := range lines {
		if left[l] > 0 {
			left[l]--
			continue
		}
		out = append(out, l)
	}
	return out
}

// TestCompressedCopyWhileAway: logrotate with copytruncate and compress.
func TestCompressedCopyWhileAway(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: 5 * time.Millisecond}
	k := newTaker()
	r := start(t, o, k)
	add(t, log, strings.Repeat("x", 100)+"\n")
	k.untilN(t, 1)
	r.stop()
	add(t, log, "2\n")
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(log+".1", text, 0o600))
	require.NoError(t, os.Truncate(log, 0))
	compress(t, log+".1")
	add(t, log, "3\n")
	launch(t, o, k)
	k.untilN(t, 3)
	assert.Equal(t, []string{"2", "3"}, k.got()[1:])
}

// TestBrokenZip: a compressed file that is damaged is reported as lost, and the rest is followed.
func TestBrokenZip(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(b []byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-9] },
		"flipped": func(b []byte) []byte { b[len(b)-6] ^= 1; return b },
		"no gzip": func([]byte) []byte { return []byte("plain\n") },
		"empty":   func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, cur := paths(t)
			o := Options{Path: log, Cursor: cur, FromHead: true, Poll: 5 * time.Millisecond}
			k := newTaker()
			r := start(t, o, k)
			add(t, log, "1\n")
			k.untilN(t, 1)
			r.stop()
			add(t, log, "2\n")
			require.NoError(t, os.Rename(log, log+".1"))
			compress(t, log+".1")
			b, err := os.ReadFile(log + ".1.gz")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(log+".1.gz", damage(b), 0o600))
			add(t, log, "3\n")
			again := launch(t, o, k)
			k.untilN(t, 2)
			assert.Equal(t, []string{"1", "3"}, k.got())
			assert.EqualValues(t, 1, again.f.Stats().LostFiles)
		})
	}
}

// TestLastLineAfterACrash: the last line, which has no end, is handed on, the acknowledgement is lost, and the follower killed.
func TestLastLineAfterACrash(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: 2 * time.Millisecond, Linger: 5 * time.Millisecond, Backoff: time.Hour}
	k := newTaker()
	var cursor []byte
	killed := make(chan struct{})
	k.after = func(Batch) error {
		if k.lines[len(k.lines)-1] != "half" {
			return nil
		}
		if cursor == nil {
			cursor, _ = os.ReadFile(cur)
			close(killed)
		}
		return errDown
	}
	add(t, log, "1\nhalf")
	r := start(t, o, k)
	k.untilN(t, 1)
	require.NoError(t, os.Rename(log, log+".1"))
	add(t, log, "2\n")
	<-killed
	r.stop()
	require.NoError(t, os.WriteFile(cur, cursor, 0o600))
	k.mu.Lock()
	k.after = nil
	k.mu.Unlock()
	launch(t, o, k)
	add(t, log, "3\n")
	k.untilN(t, 4)
	assert.ElementsMatch(t, []string{"1", "2", "half", "3"}, k.got())
	assert.Equal(t, 1, k.again)
}

// TestRotatedAndCompressed: whatever is written, rotated and compressed while nobody looks, and whenever somebody does, each
// line comes once.
func TestRotatedAndCompressed(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "") //nolint:usetesting // one for each of many schedules
		require.NoError(t, err)
		log := filepath.Join(dir, "auth.log")
		o := Options{
			Path: log, Cursor: filepath.Join(dir, "state", "cursor"), FromHead: true, MaxLines: 7, MaxBytes: 300,
			Poll: time.Millisecond, Linger: 20 * time.Millisecond,
		}
		k := newTaker()
		var written []string
		write := func(n int) {
			var b strings.Builder
			for range n {
				line := fmt.Sprintf("%d %s", len(written), rapid.StringMatching(`[a-z ]{0,70}`).Draw(t, "text"))
				written = append(written, line)
				b.WriteString(line + "\n")
			}
			add(t, log, b.String())
		}
		rotate := func() {
			for i := 8; i > 0; i-- {
				for _, suffix := range []string{"", zipSuffix} {
					_ = os.Rename(fmt.Sprintf("%s.%d%s", log, i, suffix), fmt.Sprintf("%s.%d%s", log, i+1, suffix))
				}
			}
			require.NoError(t, os.Rename(log, log+".1"))
			if rapid.Bool().Draw(t, "at once") {
				compress(t, log+".1")
			} else if _, err := os.Stat(log + ".2"); err == nil {
				compress(t, log+".2")
			}
		}
		for range rapid.IntRange(1, 4).Draw(t, "times") {
			write(rapid.IntRange(1, 30).Draw(t, "seen"))
			r := start(t, o, k)
			k.untilN(t, len(written))
			r.stop()
			write(rapid.IntRange(0, 10).Draw(t, "unseen"))
			for range rapid.IntRange(0, 3).Draw(t, "rotations") {
				rotate()
				write(rapid.IntRange(1, 10).Draw(t, "after"))
			}
		}
		r := start(t, o, k)
		k.untilN(t, len(written))
		r.stop()
		if diff := cmp.Diff(written, k.got()); diff != "" {
			t.Fatalf("written - and got +:\n%s", diff)
		}
	})
}
