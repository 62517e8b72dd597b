package tail

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clock is a time that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(day, hour, minute int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC)
}

func datedOptions(t *testing.T, c *clock) Options {
	t.Helper()
	return Options{
		Path: filepath.Join(t.TempDir(), "%Y", "auth-%Y-%m-%d.log"), Cursor: filepath.Join(t.TempDir(), "cursor"),
		FromHead: true, Clock: c.Now, Poll: 5 * time.Millisecond,
	}
}

func dayFile(t *testing.T, o Options, day int) string {
	t.Helper()
	p, err := parsePattern(o.Path)
	require.NoError(t, err)
	path := p.at(time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	return path
}

func TestMidnight(t *testing.T) {
	t.Parallel()
	c := &clock{}
	c.set(21, 23, 30)
	o := datedOptions(t, c)
	k := newTaker()
	launch(t, o, k)
	add(t, dayFile(t, o, 21), "1\n")
	k.untilN(t, 1)
	c.set(21, 23, 55)
	add(t, dayFile(t, o, 22), "2 of a host whose clock goes before\n")
	k.untilN(t, 2)
	add(t, dayFile(t, o, 21), "3 of one that goes right\n")
	k.untilN(t, 3)
	c.set(22, 0, 1)
	add(t, dayFile(t, o, 22), "4\n")
	k.untilN(t, 4)
	add(t, dayFile(t, o, 21), "5 of one that goes after\n")
	k.untilN(t, 5)
	for i, line := range k.got() {
		assert.Equal(t, byte('1'+i), line[0])
	}
}

func TestAwayForDays(t *testing.T) {
	t.Parallel()
	c := &clock{}
	c.set(20, 12, 0)
	o := datedOptions(t, c)
	k := newTaker()
	r := start(t, o, k)
	add(t, dayFile(t, o, 20), "1\n")
	k.untilN(t, 1)
	r.stop()
	add(t, dayFile(t, o, 18), "0 from before the first start\n")
	add(t, dayFile(t, o, 20), "2\n")
	add(t, dayFile(t, o, 21), "3\n")
	add(t, dayFile(t, o, 23), "4\n")
	c.set(23, 9, 0)
	launch(t, o, k)
	k.untilN(t, 4)
	assert.Equal(t, []string{"1", "2", "3", "4"}, k.got())
}

func TestDatedFileIsLetGoOnce(t *testing.T) {
	t.Parallel()
	c := &clock{}
	c.set(20, 12, 0)
	o := datedOptions(t, c)
	o.Linger = 20 * time.Millisecond
	k := newTaker()
	r := start(t, o, k)
	add(t, dayFile(t, o, 20), "1\n")
	k.untilN(t, 1)
	c.set(21, 12, 0)
	add(t, dayFile(t, o, 21), "2\n")
	k.untilN(t, 2)
	eventually(t, "yesterday's file closed", func() bool {
		c, err := loadCursor(o.Cursor)
		return err == nil && c != nil && len(c.Files) == 1
	})
	r.stop()
	r = start(t, o, k)
	defer r.stop()
	add(t, dayFile(t, o, 21), "3\n")
	k.untilN(t, 3)
	assert.Equal(t, []string{"1", "2", "3"}, k.got(), "yesterday's file is not read again")
}

// hosts is a taker for a Set.
type hosts struct {
	mu sync.Mutex
	k  map[string]*taker
}

func (h *hosts) of(host string) *taker {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.k == nil {
		h.k = make(map[string]*taker)
	}
	if h.k[host] == nil {
		h.k[host] = newTaker()
	}
	return h.k[host]
}

func (h *hosts) take(ctx context.Context, host string, b Batch) error { return h.of(host).take(ctx, b) }

func startSet(t *testing.T, o SetOptions, h *hosts) (*Set, func()) {
	t.Helper()
	s, err := NewSet(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, h.take) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			assert.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return s, stop
}

func TestSet(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"directories": "hosts/%HOST%/auth-%Y.log",
		"names":       "remote/auth-%HOST%-%Y%m%d.log",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &clock{}
			c.set(21, 12, 0)
			base := t.TempDir()
			o := SetOptions{Options: Options{Path: filepath.Join(base, path), Clock: c.Now, Poll: time.Hour}, Dir: t.TempDir()}
			file := func(host string) string {
				p := pattern{text: filepath.Join(base, path)}
				p.text = replaceHost(p.text, host)
				full := p.at(c.Now())
				require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o700))
				return full
			}
			h := &hosts{}
			add(t, file("web"), "old\n")
			s, stop := startSet(t, o, h)
			eventually(t, "first look", func() bool { return s.Stats().Skipped == 4 })
			add(t, file("web"), "1\n")
			h.of("web").untilN(t, 1)
			add(t, file("db.example.net"), "2\n") // a new host
			h.of("db.example.net").untilN(t, 1)
			add(t, file("203.0.113.10"), "3\n")
			h.of("203.0.113.10").untilN(t, 1)
			add(t, file("..bad"), "4\n")
			stop()
			add(t, file("web"), "5\n")
			add(t, file("new"), "6\n") // came while away
			startSet(t, o, h)
			h.of("web").untilN(t, 2)
			h.of("new").untilN(t, 1)
			assert.Equal(t, []string{"1", "5"}, h.of("web").got())
			assert.Equal(t, []string{"6"}, h.of("new").got())
			assert.Empty(t, h.of("..bad").got())
		})
	}
}

func replaceHost(text, host string) string {
	before, after, _ := strings.Cut(text, HostPart)
	return before + host + after
}

func TestSetIsBounded(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for _, host := range []string{"a", "b", "c", "d", "e"} {
		add(t, filepath.Join(base, host+".log"), "1\n")
	}
	s, _ := startSet(t, SetOptions{Options: Options{Path: filepath.Join(base, "%HOST%.log"), FromHead: true}, Hosts: 3}, &hosts{})
	eventually(t, "limit", func() bool { return s.Stats().DroppedHost == 2 })
	assert.Contains(t, s.Findings()[0].Text, "more than 3 hosts or files")
}

func TestSetErrors(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/a/b.log", "/%HOST%/%HOST%.log", "%HOST%.log", "/a/%HOST%/%Q"} {
		_, err := NewSet(SetOptions{Options: Options{Path: path}})
		require.ErrorIs(t, err, ErrPattern, path)
	}
}
