package archive_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/archive"
)

// pot is a real overlay file system over two layers.
type pot struct {
	archive.Layers

	root   string
	secret string
	kept   map[string]string
}

func newPot(t *testing.T) *pot {
	t.Helper()
	base := t.TempDir()
	p := &pot{root: base + "/root", secret: base + "/secret", kept: make(map[string]string)}
	p.Upper, p.Lower = base+"/upper", []string{base + "/top", base + "/bottom"}
	for _, d := range append([]string{p.root, p.Upper, base + "/work"}, p.Lower...) {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	put(t, p.secret, "SECRET")
	put(t, base+"/bottom/etc/passwd", "root")
	put(t, base+"/bottom/etc/motd", "welcome")
	put(t, base+"/bottom/opt/a/one", "1")
	put(t, base+"/bottom/opt/a/two", "2")
	put(t, base+"/bottom/usr/bin/ls", "ls")
	put(t, base+"/top/usr/bin/top", "top")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(p.Lower, ":"), p.Upper, base+"/work")
	require.NoError(t, unix.Mount("overlay", p.root, "overlay", 0, options))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(p.root, unix.MNT_DETACH)) })
	return p
}

func put(t *testing.T, path, data string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(data), 0o644))
}

func (p *pot) keep(r io.Reader, size int64) (event.Content, error) {
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	sum := sha256.Sum256(data)
	c := event.Content{SHA256: hex.EncodeToString(sum[:]), Size: size, Truncated: int64(len(data)) < size}
	p.kept[c.SHA256] = string(data)
	return c, err
}

func (p *pot) find(t *testing.T, limits archive.Limits) (map[string]event.Difference, archive.Result) {
	t.Helper()
	r, err := archive.Find(t.Context(), p.Layers, p.keep, limits)
	require.NoError(t, err)
	out := make(map[string]event.Difference, len(r.Changes))
	for _, d := range r.Changes {
		require.NotContains(t, out, string(d.Path))
		out[string(d.Path)] = d
	}
	return out, r
}

func words(all map[string]event.Difference) map[string]string {
	out := make(map[string]string)
	for path, d := range all {
		out[path] = strings.TrimSpace(d.What + " " + d.Type)
	}
	return out
}

func TestWhatAnAttackerDid(t *testing.T) {
	t.Parallel()
	p := newPot(t)
	put(t, p.root+"/tmp/.x/bot", "#!/bin/sh\n")
	require.NoError(t, unix.Chmod(p.root+"/tmp/.x/bot", 0o4755))
	put(t, p.root+"/etc/passwd", "root, and me")
	require.NoError(t, os.Remove(p.root+"/etc/motd"))
	require.NoError(t, os.Chmod(p.root+"/usr/bin/ls", 0o644))
	require.NoError(t, os.Chown(p.root+"/usr/bin/top", 7, 8))
	require.NoError(t, os.Symlink("/etc/shadow", p.root+"/tmp/link"))
	require.NoError(t, unix.Mkfifo(p.root+"/tmp/fifo", 0o600))
	require.NoError(t, os.RemoveAll(p.root+"/opt/a")) // and another in its place
	put(t, p.root+"/opt/a/three", "3")
	all, r := p.find(t, archive.Limits{})
	assert.Empty(t, r.Truncated)
	assert.Equal(t, map[string]string{
		"/tmp": "added folder", "/tmp/.x": "added folder", "/tmp/.x/bot": "added file", "/etc/passwd": "changed file", "/etc/motd": "deleted",
		"/usr/bin/ls": "changed file", "/usr/bin/top": "changed file", "/tmp/link": "added link", "/tmp/fifo": "added fifo",
		"/opt/a": "changed folder", "/opt/a/three": "added file",
	}, words(all))
	bot := all["/tmp/.x/bot"]
	assert.Equal(t, uint32(0o4755), bot.Mode)
	assert.Equal(t, int64(10), bot.Size)
	assert.WithinDuration(t, time.Now(), bot.Modified, time.Minute)
	assert.Equal(t, "#!/bin/sh\n", p.kept[bot.File.SHA256])
	assert.Equal(t, "root, and me", p.kept[all["/etc/passwd"].File.SHA256])
	assert.Equal(t, event.Bytes("/etc/shadow"), all["/tmp/link"].Target)
	assert.Equal(t, uint32(7), all["/usr/bin/top"].UID)
	assert.Equal(t, uint32(8), all["/usr/bin/top"].GID)
	assert.Equal(t, 5, r.Files)
}

func TestUntouchedPotHasNoChanges(t *testing.T) {
	t.Parallel()
	all, r := newPot(t).find(t, archive.Limits{})
	assert.Empty(t, all)
	assert.Empty(t, r.Truncated)
}

func TestTraps(t *testing.T) {
	t.Parallel()
	p := newPot(t)
	up := p.root + "/up"
	require.NoError(t, os.Mkdir(up, 0o755))
	for link, target := range map[string]string{"out": p.secret, "rel": "../../secret", "dir": filepath.Dir(p.secret), "loop": "loop", "proc": "/proc/self/environ"} {
		require.NoError(t, os.Symlink(target, up+"/"+link))
	}
	for _, name := range []string{"\x1b]0;x\a", "new\nline", strings.Repeat("n", 255), "\xff\xfe", "-rf"} {
		put(t, up+"/"+name, name)
	}
	require.NoError(t, unix.Mkfifo(up+"/fifo", 0o666))
	_ = unix.Mknod(up+"/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0)))
	_ = unix.Mknod(up+"/full", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7)))
	huge, err := os.Create(up + "/huge")
	require.NoError(t, err)
	require.NoError(t, huge.Truncate(1<<40))
	require.NoError(t, huge.Close())
	deep := up
	for i := range 100 {
		deep += fmt.Sprintf("/d%d", i)
		require.NoError(t, os.Mkdir(deep, 0o755))
	}
	all, r := p.find(t, archive.Limits{})
	assert.NotContains(t, p.kept, "SECRET")
	for _, data := range p.kept {
		assert.NotEqual(t, "SECRET", data)
	}
	assert.Equal(t, "folders deeper than 64", r.Truncated)
	assert.Equal(t, int64(1)<<40, all["/up/huge"].Size)
	assert.True(t, all["/up/huge"].File.Truncated)
	assert.Equal(t, "fifo", all["/up/fifo"].Type)
	assert.Contains(t, all, "/up/\x1b]0;x\a")
	assert.Contains(t, all, "/up/\xff\xfe")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	p := newPot(t)
	for i := range 3000 {
		put(t, fmt.Sprintf("%s/many/%04d", p.root, i), strconv.Itoa(i))
	}
	put(t, p.root+"/zz/bot", strings.Repeat("b", 10_000))
	require.NoError(t, os.Chmod(p.root+"/zz/bot", 0o755))
	_, r := p.find(t, archive.Limits{Entries: 100})
	assert.Equal(t, "more than 100 entries", r.Truncated)
	_, r = p.find(t, archive.Limits{Changes: 50})
	assert.Equal(t, "more than 50 changes", r.Truncated)
	assert.Len(t, r.Changes, 50)
	clear(p.kept)
	all, r := p.find(t, archive.Limits{Files: 10})
	assert.Equal(t, "content of more than 10 files", r.Truncated)
	assert.Equal(t, 10, r.Files)
	assert.NotNil(t, all["/zz/bot"].File, "programs come first")
	assert.Equal(t, event.Bytes("/zz/bot"), r.Changes[9].Path)
	_, r = p.find(t, archive.Limits{Bytes: 1})
	assert.Equal(t, "content of more than 1 bytes", r.Truncated)
	assert.Equal(t, 1, r.Files)
	_, r = p.find(t, archive.Limits{Time: time.Nanosecond})
	assert.Contains(t, r.Truncated, "it took longer than 1ns")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := archive.Find(ctx, p.Layers, p.keep, archive.Limits{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestLayerThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := archive.Find(t.Context(), archive.Layers{Upper: t.TempDir() + "/gone"}, nil, archive.Limits{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A million entries are read within seconds, and no more than what is listed is held.
func BenchmarkMillionFiles(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		sub := fmt.Sprintf("%s/%03d", dir, i)
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 1000 {
			if err := unix.Mknod(fmt.Sprintf("%s/%03d", sub, j), unix.S_IFREG|0o644, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ResetTimer()
	for b.Loop() {
		r, err := archive.Find(b.Context(), archive.Layers{Upper: dir}, func(io.Reader, int64) (event.Content, error) { return event.Content{}, nil }, archive.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(r.Changes)), "changes")
	}
}
