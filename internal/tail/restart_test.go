package tail

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRestartGoesOnFromTheCursor(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}
	r := start(t, o, k)
	add(t, log, "1\n2\nhal")
	k.untilN(t, 2)
	r.stop()
	add(t, log, "f\n4\n")
	launch(t, o, k)
	k.untilN(t, 4)
	assert.Equal(t, []string{"1", "2", "half", "4"}, k.got())
	assert.Zero(t, k.again)
}

// TestFileAppearsWhileAway: a log that did not exist at the first start is new, not old.
func TestFileAppearsWhileAway(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	o := Options{Path: log, Cursor: cur, Poll: time.Hour}
	r := start(t, o, k)
	eventually(t, "cursor", func() bool { _, err := os.Stat(cur); return err == nil })
	r.stop()
	add(t, log, "1\n")
	launch(t, o, k)
	k.untilN(t, 1)
}

// TestCrashBetweenHandingOnAndAcknowledgement: the same lines come again under the same ID, without those that came since.
func TestCrashBetweenHandingOnAndAcknowledgement(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}
	lost := make(chan struct{})
	k.after = func(Batch) error { // taken, but the acknowledgement never arrives
		if k.again == 0 && len(k.lines) == 2 {
			close(lost)
		}
		return errDown
	}
	add(t, log, "1\n2\n")
	r := start(t, o, k)
	<-lost
	r.stop()
	k.mu.Lock()
	k.after = nil
	k.mu.Unlock()
	add(t, log, "3\n")
	again := launch(t, o, k)
	k.untilN(t, 3)
	assert.Equal(t, []string{"1", "2", "3"}, k.got())
	assert.EqualValues(t, 1, again.f.Stats().Resent)
}

func TestRestartAfterRotations(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}
	r := start(t, o, k)
	add(t, log, "1\n")
	k.untilN(t, 1)
	r.stop()
	age := func(path string, ago time.Duration) {
		at := time.Now().Add(-ago)
		require.NoError(t, os.Chtimes(path, at, at))
	}
	add(t, log+".4", "from long ago\n")
	age(log+".4", 5*time.Hour)
	add(t, log, "2\n")
	require.NoError(t, os.Rename(log, log+".2"))
	age(log+".2", 3*time.Hour)
	add(t, log+".1", "3 in a file that nobody saw while it was current\n")
	age(log+".1", 2*time.Hour)
	add(t, log+".1.gz", "not a log\n")
	add(t, log, "4\n")
	launch(t, o, k)
	k.untilN(t, 4)
	got := k.got()
	assert.Len(t, got, 4)
	for i, line := range got {
		assert.Equal(t, byte('1'+i), line[0], got)
	}
}

func TestRestartAfterCopyTruncate(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}
	r := start(t, o, k)
	add(t, log, "1 the line by which the file is known again\n")
	k.untilN(t, 1)
	r.stop()
	add(t, log, "2\n")
	whole, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(log+".1", whole, 0o600))
	require.NoError(t, os.Truncate(log, 0))
	add(t, log, "3 in the truncated file, which is now longer than the cursor's offset was\n")
	launch(t, o, k)
	k.untilN(t, 3)
	got := k.got()
	assert.Len(t, got, 3)
	for i, line := range got {
		assert.Equal(t, byte('1'+i), line[0], got)
	}
}

func TestFileLostWhileAway(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	k := newTaker()
	o := Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}
	r := start(t, o, k)
	add(t, log, "1\n")
	k.untilN(t, 1)
	r.stop()
	require.NoError(t, os.Remove(log))
	add(t, log, "2\n")
	again := launch(t, o, k)
	k.untilN(t, 2)
	assert.Equal(t, []string{"1", "2"}, k.got())
	assert.EqualValues(t, 1, again.f.Stats().LostFiles)
}

func TestBrokenCursor(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	require.NoError(t, os.WriteFile(cur, []byte("{half a"), 0o600))
	k := newTaker()
	add(t, log, "1\n")
	launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: time.Hour}, k)
	k.untilN(t, 1)
	_, err := os.Stat(cur + ".broken")
	require.NoError(t, err)
}

// TestCursorUnwritable: following goes on, and says that it can't remember.
func TestCursorUnwritable(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	require.NoError(t, os.MkdirAll(cur+".new", 0o700)) // makes the atomic replacement fail, also for root
	k := newTaker()
	r := launch(t, Options{Path: log, Cursor: cur, FromHead: true, Poll: 5 * time.Millisecond}, k)
	add(t, log, "1\n")
	k.untilN(t, 1)
	eventually(t, "finding", func() bool { return len(r.f.Findings()) == 1 })
	assert.Contains(t, r.f.Findings()[0].Text, "may come twice")
	require.NoError(t, os.Remove(cur+".new"))
	eventually(t, "finding gone", func() bool { return len(r.f.Findings()) == 0 })
}

// TestUnreadable runs as another user in a thread of its own where the tests run as root.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	log, cur := paths(t)
	require.NoError(t, os.Chmod(filepath.Dir(log), 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(log)), 0o755))
	add(t, log, "old\n")
	require.NoError(t, os.Chmod(log, 0))
	k := newTaker()
	f, err := New(Options{Path: log, Cursor: cur, Poll: time.Hour})
	require.NoError(t, err)
	f.watcher = NewWatcher(f.o.Log)
	defer f.watcher.Close()
	defer f.release()
	asNobody(t, f.look)
	require.Len(t, f.Findings(), 1)
	assert.Contains(t, f.Findings()[0].Text, "permission denied")
	assert.Contains(t, f.Findings()[0].Mend, "adm")

	add(t, log, "new\n")
	f.look() // now it may
	assert.Empty(t, f.Findings())
	_, err = f.drain(t.Context(), k.take)
	require.NoError(t, err)
	assert.Equal(t, []string{"new"}, k.got(), "what was there at the first look is old, unreadable or not")
}

// asNobody runs fn with the file system rights of nobody.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		fn()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is never unlocked: it ends with the goroutine.
		runtime.LockOSThread()
		_, _, e := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		if e != 0 {
			panic(e)
		}
		fn()
	}()
	<-done
}

func TestPathsAreKeptApart(t *testing.T) {
	t.Parallel()
	a, b := FileName("/var/log/auth.log"), FileName("/var/log_auth.log")
	assert.NotEqual(t, a, b)
	assert.True(t, strings.HasPrefix(a, "var_log_auth.log-"), a)
	assert.NotContains(t, FileName("../../etc/passwd"), "/")
}
