package tail

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBeginsAtTheEndAndGoesOn(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	add(t, log, "old 1\nold 2\nhalf")
	k := newTaker()
	r := launch(t, Options{Path: log, Cursor: cur, Poll: time.Hour}, k)
	eventually(t, "first look", func() bool { return r.f.Stats().Skipped > 0 })
	add(t, log, " a line\nnew\n")
	k.untilN(t, 2)
	assert.Equal(t, []string{"half a line", "new"}, k.got())
}

func TestFromHead(t *testing.T) {
	t.Parallel()
	log, _ := paths(t)
	add(t, log, "one\r\n\n\x00\x00two\r\nthr")
	k := newTaker()
	launch(t, Options{Path: log, FromHead: true, Poll: time.Hour}, k)
	k.untilN(t, 2)
	add(t, log, "ee")
	add(t, log, "\r")
	add(t, log, "\n")
	k.untilN(t, 3)
	assert.Equal(t, []string{"one", "two", "three"}, k.got())
}

// TestLatency appends single lines, with polling as good as off, and wants each handed on at once.
func TestLatency(t *testing.T) {
	log, cur := paths(t)
	add(t, log, "")
	k := newTaker()
	launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	const n = 200
	took := make([]time.Duration, 0, n)
	for i := range n {
		before := time.Now()
		add(t, log, fmt.Sprintf("line %d\n", i))
		k.untilN(t, i+1)
		k.mu.Lock()
		took = append(took, k.at[i].Sub(before))
		k.mu.Unlock()
	}
	slices.Sort(took)
	t.Logf("append to callback, cursor written before: median %v, 99th percentile %v", took[n/2], took[n*99/100])
	assert.Less(t, took[n/2], time.Millisecond)
}

func TestMissingThenCreated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "a", "b", "auth.log")
	k := newTaker()
	r := launch(t, Options{Path: log, Poll: time.Hour}, k)
	eventually(t, "finding", func() bool {
		fs := r.f.Findings()
		return len(fs) == 1 && strings.Contains(fs[0].Text, "no such file") && fs[0].Mend != ""
	})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a", "b"), 0o700))
	add(t, log, "first\n")
	k.untilN(t, 1)
	assert.Equal(t, []string{"first"}, k.got())
	eventually(t, "finding gone", func() bool { return len(r.f.Findings()) == 0 })
}

// Folders that come one in the other, while the follower begins to watch the one above, hide no file.
func TestFoldersThatComeAtOnce(t *testing.T) {
	t.Parallel()
	for range 200 {
		log := filepath.Join(t.TempDir(), "a", "b", "c", "d", "auth.log")
		k := newTaker()
		r := start(t, Options{Path: log, Poll: time.Hour}, k)
		eventually(t, "finding", func() bool { return len(r.f.Findings()) == 1 })
		require.NoError(t, os.MkdirAll(filepath.Dir(log), 0o700))
		add(t, log, "first\n")
		k.untilN(t, 1)
		r.stop()
	}
}

func TestRenameRotation(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	add(t, log, "1\n")
	k := newTaker()
	r := launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	k.untilN(t, 1)
	require.NoError(t, os.Rename(log, log+".1"))
	add(t, log+".1", "2 to the old file, no new one yet\n")
	k.untilN(t, 2)
	add(t, log, "") // logrotate's `create`; the daemon still holds the old one
	eventually(t, "new file seen", func() bool { return r.f.Stats().Rotations == 1 })
	add(t, log+".1", "3 to the old file beside an empty new one\n")
	k.untilN(t, 3)
	add(t, log, "4\n")
	k.untilN(t, 4)
	add(t, log+".1", "5 late\n") // of another writer, within the linger time
	k.untilN(t, 5)
	got := k.got()
	for i, line := range got {
		assert.True(t, strings.HasPrefix(line, strconv.Itoa(i+1)), got)
	}
}

func TestOldFileIsLetGo(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	add(t, log, "1\nhalf")
	k := newTaker()
	r := launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: 10 * time.Millisecond, Linger: 30 * time.Millisecond}, k)
	k.untilN(t, 1)
	for i := range 5 {
		require.NoError(t, os.Rename(log, fmt.Sprintf("%s.%d", log, 9-i)))
		add(t, log, fmt.Sprintf("%d\n", i+2))
		k.untilN(t, i+2)
	}
	eventually(t, "old files closed", func() bool {
		c, err := loadCursor(cur)
		return err == nil && c != nil && len(c.Files) == 1
	})
	assert.Equal(t, []string{"1", "2", "3", "4", "5", "6", "half"}, k.got())
	assert.EqualValues(t, 1, r.f.Stats().Unended, "the half line will get no more")
}

func TestTruncation(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "a long line that makes the file longer than it will be\n")
	k.untilN(t, 1)
	require.NoError(t, os.WriteFile(log, []byte("short\n"), 0o600)) // O_TRUNC
	k.untilN(t, 2)
	assert.Equal(t, "short", k.got()[1])
}

// TestTruncationUnseen truncates and writes more than before while the follower is busy: only the head tells.
func TestTruncationUnseen(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	entered, leave := make(chan struct{}), make(chan struct{})
	k.before = func(Batch) error {
		if len(k.lines) == 0 {
			close(entered)
			<-leave
		}
		return nil
	}
	launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "first content, first line\n")
	<-entered
	require.NoError(t, os.WriteFile(log, []byte("second content, line 1\nsecond content, line 2\n"), 0o600))
	close(leave)
	k.untilN(t, 3)
	assert.Equal(t, []string{"first content, first line", "second content, line 1", "second content, line 2"}, k.got())
}

func TestCopyTruncateWithUnreadLines(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	entered, leave := make(chan struct{}), make(chan struct{})
	k.before = func(Batch) error {
		if len(k.lines) == 0 {
			close(entered)
			<-leave
		}
		return nil
	}
	r := launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "Nov 22 18:00:00 web sshd[1]: the first line\n")
	<-entered
	add(t, log, "Nov 22 18:00:01 web sshd[1]: not yet read\n")
	whole, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(log+".1", whole, 0o600))
	require.NoError(t, os.Truncate(log, 0))
	add(t, log, "Nov 22 18:00:02 web sshd[1]: after\n")
	close(leave)
	k.untilN(t, 3)
	got := k.got()
	assert.Contains(t, got[1], "not yet read")
	assert.Contains(t, got[2], "after")
	assert.EqualValues(t, 1, r.f.Stats().Truncations)
}

func TestSparseTruncation(t *testing.T) {
	t.Parallel()
	log, _ := paths(t)
	f, err := os.Create(log) // without O_APPEND: after a truncation a hole is left before the next line
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	k := newTaker()
	launch(t, Options{Path: log, FromHead: true, Poll: time.Hour}, k)
	_, err = f.WriteString(strings.Repeat("x", 300_000) + "\n")
	require.NoError(t, err)
	k.untilN(t, 1)
	require.NoError(t, os.Truncate(log, 0))
	_, err = f.WriteString("after the hole\n")
	require.NoError(t, err)
	k.untilN(t, 2)
	assert.Equal(t, "after the hole", k.got()[1])
}

func TestOverlongLine(t *testing.T) {
	t.Parallel()
	log, _ := paths(t)
	k := newTaker()
	r := launch(t, Options{Path: log, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "before\n"+strings.Repeat("y", 5_000_000))
	add(t, log, "z\nafter\n")
	k.untilN(t, 3)
	got := k.got()
	assert.Equal(t, "before", got[0])
	assert.Equal(t, strings.Repeat("y", 64<<10), got[1])
	assert.Equal(t, "after", got[2])
	assert.EqualValues(t, 1, r.f.Stats().CutLines)
	assert.EqualValues(t, 5_000_001-64<<10, r.f.Stats().CutBytes)
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	log, _ := paths(t)
	var text bytes.Buffer
	for i := range 3000 {
		fmt.Fprintf(&text, "%d %s\n", i, strings.Repeat("w", i%700))
	}
	add(t, log, text.String())
	k := newTaker()
	most, bytesMost := 0, 0
	k.before = func(b Batch) error {
		size := 0
		for _, l := range b.Lines {
			size += len(l)
		}
		most, bytesMost = max(most, len(b.Lines)), max(bytesMost, size)
		return nil
	}
	launch(t, Options{Path: log, FromHead: true, Poll: time.Hour}, k)
	k.untilN(t, 3000)
	for i, line := range k.got() {
		require.True(t, strings.HasPrefix(line, fmt.Sprint(i, " ")))
	}
	assert.LessOrEqual(t, most, 500)
	assert.LessOrEqual(t, bytesMost, 256<<10)
}

func TestRetriesTheSameBatch(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	var ids []string
	k.before = func(b Batch) error {
		ids = append(ids, b.ID)
		if len(ids) < 3 {
			return errDown
		}
		return nil
	}
	r := launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "x\n")
	k.untilN(t, 1)
	k.mu.Lock()
	assert.Equal(t, []string{ids[0], ids[0], ids[0]}, ids)
	k.mu.Unlock()
	eventually(t, "finding gone", func() bool { return len(r.f.Findings()) == 0 && r.f.Stats().Retries == 2 })
}

func TestSymlink(t *testing.T) {
	t.Parallel()
	log, _ := paths(t)
	realLog := filepath.Join(t.TempDir(), "real.log")
	add(t, realLog, "1\n")
	require.NoError(t, os.Symlink(realLog, log))
	k := newTaker()
	launch(t, Options{Path: log, FromHead: true, Poll: time.Hour}, k)
	k.untilN(t, 1)
	add(t, realLog, "2\n")
	k.untilN(t, 2)
}

func TestNotAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := launch(t, Options{Path: dir, Poll: 5 * time.Millisecond}, newTaker())
	eventually(t, "finding", func() bool {
		fs := r.f.Findings()
		return len(fs) == 1 && fs[0].Level == "error" && strings.Contains(fs[0].Text, "not a regular file")
	})
}

func TestDirectoryGoesAndComesBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.Mkdir(dir, 0o700))
	log := filepath.Join(dir, "auth.log")
	k := newTaker()
	launch(t, Options{Path: log, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "1\n")
	k.untilN(t, 1)
	require.NoError(t, os.Rename(dir, dir+".old"))
	require.NoError(t, os.Mkdir(dir, 0o700))
	add(t, log, "2\n")
	k.untilN(t, 2)
	add(t, log, "3\n")
	k.untilN(t, 3)
	assert.Equal(t, []string{"1", "2", "3"}, k.got())
}

// TestWithoutInotify: where the kernel gives no inotify instance the file is looked at ten times a second, and that is said.
func TestWithoutInotify(t *testing.T) {
	t.Parallel()
	log, _ := paths(t)
	w := &Watcher{err: syscall.EMFILE, done: make(chan struct{}), dirs: make(map[string]map[*subscriber]struct{})}
	close(w.done)
	k := newTaker()
	r := launch(t, Options{Path: log, Watcher: w, FromHead: true, Poll: time.Hour}, k)
	add(t, log, "1\n")
	k.untilN(t, 1)
	require.Len(t, r.f.Findings(), 1)
	assert.Contains(t, r.f.Findings()[0].Mend, "max_user_instances")
}
