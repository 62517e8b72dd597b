package harvest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/harvest"
)

func put(t *testing.T, path, data string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
}

// since harvests and returns "path content", with a * where partial.
func since(t *testing.T, root, dir string, moment time.Time, limits harvest.Limits) ([]string, error) {
	t.Helper()
	var found []string
	err := harvest.Since(t.Context(), root, dir, moment, func(path string, f *os.File, info harvest.Info) error {
		data, err := io.ReadAll(f)
		require.NoError(t, err)
		assert.Equal(t, int64(len(data)), info.Size)
		assert.WithinDuration(t, time.Now(), info.Changed, time.Hour)
		mark := ""
		if info.Partial {
			mark = " *"
		}
		found = append(found, path+" "+string(data)+mark)
		return nil
	}, limits)
	return found, err
}

// pot makes a root folder with traps, and a secret outside.
func pot(t *testing.T) (root string) {
	t.Helper()
	base := t.TempDir()
	root = filepath.Join(base, "root")
	put(t, base+"/secret", "SECRET")
	put(t, root+"/etc/passwd", "pot's")
	put(t, root+"/up/b", "B")
	put(t, root+"/up/a", "A")
	put(t, root+"/up/d/c", "C")
	for link, target := range map[string]string{
		"out": base + "/secret", "rel": "../../secret", "host": "/etc/passwd", "dir": base, "loop": "loop", "proc": "/proc/self/root/etc/passwd",
		"in": "/etc", "self": ".",
	} {
		require.NoError(t, os.Symlink(target, root+"/up/"+link))
	}
	require.NoError(t, unix.Mkfifo(root+"/up/fifo", 0o666))
	if err := unix.Mknod(root+"/up/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		require.ErrorIs(t, err, unix.EPERM)
	}
	return root
}

func TestSinceTraps(t *testing.T) {
	t.Parallel()
	root := pot(t)
	found, err := since(t, root, "/up", time.Time{}, harvest.Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{"/up/a A", "/up/b B", "/up/d/c C"}, found)

	for dir, want := range map[string][]string{
		"/up/in": {"/up/in/passwd pot's"}, "up/d/": {"/up/d/c C"}, "/../../up/d": {"/up/d/c C"}, "/up/a": {"/up/a A"}, "/up/host": {"/up/host pot's"},
	} {
		found, err := since(t, root, dir, time.Time{}, harvest.Limits{})
		require.NoError(t, err, dir)
		assert.Equal(t, want, found, dir)
	}
	for dir, want := range map[string]error{
		"/up/out": unix.ENOENT, "/up/rel": unix.ENOENT, "/up/dir": unix.ENOENT, "/up/loop": unix.ELOOP, "/up/fifo": harvest.ErrNotRegular, "/no": unix.ENOENT,
		"/up/proc": unix.ENOENT,
	} {
		found, err := since(t, root, dir, time.Time{}, harvest.Limits{})
		require.ErrorIs(t, err, want, dir)
		assert.Empty(t, found)
	}
	_, err = since(t, root+"/none", "/", time.Time{}, harvest.Limits{})
	require.ErrorIs(t, err, unix.ENOENT)
}

func TestSinceMoment(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root+"/old", "")
	put(t, root+"/moved", "")
	put(t, root+"/touched", "")
	put(t, root+"/.rsync-partial/x", "")
	require.NoError(t, os.Mkdir(root+"/new", 0o755))
	moment := past(t, root+"/old")
	require.NoError(t, os.Rename(root+"/moved", root+"/new/moved"))
	require.NoError(t, os.Chtimes(root+"/touched", time.Unix(0, 0), time.Unix(0, 0)))
	put(t, root+"/new/came", "")
	found, err := since(t, root, "/", moment, harvest.Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{"/touched ", "/new/came ", "/new/moved "}, found)
	found, err = since(t, root, "/", time.Now().Add(time.Hour), harvest.Limits{})
	require.NoError(t, err)
	assert.Empty(t, found)
}

// past returns a moment that is so late after a file's change that the two can't be confused.
func past(t *testing.T, path string) time.Time {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(path, &stat))
	moment := time.Unix(stat.Ctim.Unix()).Add(100 * time.Millisecond)
	require.Eventually(t, func() bool { return time.Now().After(moment.Add(20 * time.Millisecond)) }, time.Minute, 5*time.Millisecond)
	return moment
}

func TestSincePartial(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{".a.txt.Xy12zZ", ".a.Xy12zZ", ".Xy12zZ", "..abcdef", ".a.Xy12z", ".a.Xy12z-", "a.Xy12zZ", ".~tmp~/x", "d/.rsync-partial/e/x"} {
		put(t, filepath.Join(root, name), "")
	}
	found, err := since(t, root, "/", time.Time{}, harvest.Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"/..abcdef ", "/.Xy12zZ ", "/.a.Xy12z ", "/.a.Xy12z- ", "/.a.Xy12zZ  *", "/.a.txt.Xy12zZ  *", "/a.Xy12zZ ", "/.~tmp~/x  *",
		"/d/.rsync-partial/e/x  *",
	}, found)
}

func TestSinceLimits(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root+"/a", "12345")
	put(t, root+"/b", "12345")
	put(t, root+"/d/d/c", "1")
	for limits, want := range map[harvest.Limits]int{
		{Files: 1}: 1, {Bytes: 1}: 1, {Bytes: 5}: 1, {Bytes: 6}: 2, {Depth: 1}: 2, {Entries: 4}: 2,
	} {
		found, err := since(t, root, "/", time.Time{}, limits)
		require.ErrorIs(t, err, harvest.ErrLimit, "%+v", limits)
		assert.Len(t, found, want, "%+v", limits)
	}
	for _, limits := range []harvest.Limits{{Files: 3}, {Bytes: 11}, {Depth: 2}, {Entries: 5}} {
		found, err := since(t, root, "/", time.Time{}, limits)
		require.NoError(t, err, "%+v", limits)
		assert.Len(t, found, 3, "%+v", limits)
	}
}

func TestSinceDeep(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	deep := root + strings.Repeat("/d", 200)
	require.NoError(t, os.MkdirAll(deep, 0o755))
	put(t, deep+"/x", "")
	put(t, root+strings.Repeat("/d", 100)+"/y", "")
	found, err := since(t, root, "/", time.Time{}, harvest.Limits{Depth: 1 << 20})
	require.ErrorIs(t, err, harvest.ErrLimit)
	assert.Equal(t, []string{strings.Repeat("/d", 100) + "/y "}, found)
}

func TestSinceStops(t *testing.T) {
	t.Parallel()
	root := pot(t)
	broken := errors.New("broken")
	calls := 0
	err := harvest.Since(t.Context(), root, "/", time.Time{}, func(string, *os.File, harvest.Info) error { calls++; return broken }, harvest.Limits{})
	require.ErrorIs(t, err, broken)
	assert.Equal(t, 1, calls)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = harvest.Since(ctx, root, "/", time.Time{}, func(string, *os.File, harvest.Info) error { calls++; return nil }, harvest.Limits{})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, calls)
}

func TestOpen(t *testing.T) {
	t.Parallel()
	root := pot(t)
	for path, want := range map[string]string{"/up/a": "A", "up/d/../b": "B", "/up/host": "pot's", "/../../../etc/passwd": "pot's", "/up/in/passwd": "pot's"} {
		f, err := harvest.Open(root, path)
		require.NoError(t, err, path)
		data, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.Equal(t, want, string(data))
	}
	for path, want := range map[string]error{
		"/up": harvest.ErrNotRegular, "/up/fifo": harvest.ErrNotRegular, "/up/out": unix.ENOENT, "/up/rel": unix.ENOENT, "": unix.ENOENT,
		"/up/a\x00b": unix.EINVAL, strings.Repeat("x", 5000): unix.ENAMETOOLONG,
	} {
		_, err := harvest.Open(root, path)
		require.ErrorIs(t, err, want, path)
	}
	if _, err := os.Lstat(root + "/up/null"); err == nil {
		_, err := harvest.Open(root, "/up/null")
		require.ErrorIs(t, err, harvest.ErrNotRegular)
	}
}

// TestMounts uses what is mounted on every machine.
func TestMounts(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/proc/version", "/proc/self/environ", "/proc/1/cmdline"} {
		_, err := harvest.Open("/", path)
		require.ErrorIs(t, err, unix.EXDEV, path)
	}
	_, err := harvest.Open("/", "/proc/self/root/etc/passwd")
	require.Error(t, err, "a magic link")
	_, err = since(t, "/", "/proc/sys/kernel", time.Time{}, harvest.Limits{})
	require.ErrorIs(t, err, unix.EXDEV)

	memory, err := os.MkdirTemp("/dev/shm", "kokkuri-test-") //nolint:usetesting // a file system in memory
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(memory) })
	put(t, memory+"/x", "X")
	f, err := harvest.Open("/", memory+"/x")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	found, err := since(t, "/", memory, time.Time{}, harvest.Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{memory + "/x X"}, found)
}

// TestRaces: while the attacker turns files into links and folders into other ones, nothing from outside is read.
func TestRaces(t *testing.T) {
	t.Parallel()
	root := pot(t)
	secret := filepath.Join(filepath.Dir(root), "secret")
	ctx, cancel := context.WithCancel(t.Context())
	var attacker sync.WaitGroup
	attacker.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			switchAround(root+"/up", secret, i)
		}
	})
	for range 300 {
		err := harvest.Since(ctx, root, "/up", time.Time{}, func(path string, f *os.File, _ harvest.Info) error {
			data, err := io.ReadAll(f)
			assert.NotEqual(t, "SECRET", string(data), path)
			return err
		}, harvest.Limits{})
		require.NoError(t, err)
		for _, path := range []string{"/up/t", "/up/s/secret", "/up/s/../../secret"} {
			f, err := harvest.Open(root, path)
			if err != nil {
				continue
			}
			data, _ := io.ReadAll(f)
			assert.NotEqual(t, "SECRET", string(data), path)
			_ = f.Close()
		}
	}
	cancel()
	attacker.Wait()
}

// switchAround makes t a file, a link, a FIFO in turn, and s a folder or a link to one outside.
func switchAround(dir, secret string, i int) {
	next := dir + "/next"
	_ = os.RemoveAll(next)
	switch i % 3 {
	case 0:
		_ = os.WriteFile(next, fmt.Appendf(nil, "%d", i), 0o600)
	case 1:
		_ = os.Symlink(secret, next)
	default:
		_ = unix.Mkfifo(next, 0o600)
	}
	_ = os.Rename(next, dir+"/t")
	_ = os.RemoveAll(dir + "/s")
	if i%2 == 0 {
		_ = os.Symlink(filepath.Dir(secret), dir+"/s")
	} else {
		_ = os.MkdirAll(dir+"/s/deep", 0o700)
		_ = os.Rename(dir+"/s/deep", dir+"/deep")
		_ = os.RemoveAll(dir + "/deep")
	}
}
