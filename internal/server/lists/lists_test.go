package lists

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text     string
		most     int
		on, off  []string
		skipped  int
		mistaken string
	}{
		"addresses and networks": {
			text: "# a list\n203.0.113.66\n\n 203.0.113.128/25 ; a network\r\n2001:db8::1\t# one\n2001:db8:1::/48,x\n::ffff:198.51.100.7\n", most: 9,
			on:  []string{"203.0.113.66", "203.0.113.200", "2001:db8::1", "2001:db8:1:2::3", "198.51.100.7", "::ffff:203.0.113.66"},
			off: []string{"203.0.113.67", "2001:db8::2", "192.0.2.1"},
		},
		"a network with bits beyond it":       {text: "203.0.113.77/24\n", most: 9, on: []string{"203.0.113.1"}},
		"half the world":                      {text: "0.0.0.0/0\n::/0\n203.0.113.66\n10.0.0.0/7\n203.0.113.67\n203.0.113.68\n", most: 9, on: []string{"203.0.113.66"}, off: []string{"192.0.2.1", "2001:db8::1", "11.0.0.1"}, skipped: 3},
		"names are no addresses":              {text: "203.0.113.66\nattacker.example.org\n", most: 9, on: []string{"203.0.113.66"}, skipped: 1},
		"a web page":                          {text: "<html>\n<body>\n<p>Not found</p>\n203.0.113.66\n", most: 9, mistaken: "is it a list?"},
		"too many":                            {text: "203.0.113.1\n203.0.113.2\n203.0.113.3\n", most: 2, mistaken: "it has more entries than max_entries (2)"},
		"a line without end":                  {text: strings.Repeat("1", 5000), most: 9, mistaken: "token too long"},
		"nothing":                             {text: "", most: 9, off: []string{"203.0.113.66"}},
		"a zone":                              {text: "fe80::1%eth0\n203.0.113.66\n", most: 9, on: []string{"203.0.113.66"}},
		"as many as there may be, no more":    {text: "203.0.113.1\n203.0.113.2\n", most: 2, on: []string{"203.0.113.2"}},
		"more text than so many entries need": {text: "203.0.113.1\n" + strings.Repeat("# x\n", 100_000), most: 1, on: []string{"203.0.113.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := parse(strings.NewReader(tt.text), tt.most)
			if tt.mistaken != "" {
				require.ErrorContains(t, err, tt.mistaken)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.skipped, c.skipped)
			for _, a := range tt.on {
				require.True(t, c.table.Contains(addr(a).Unmap()), a)
			}
			for _, a := range tt.off {
				require.False(t, c.table.Contains(addr(a)), a)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("203.0.113.66 # x\n2001:db8::/32\n\x00\xff\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(strings.NewReader(string(text)), 5)
		if err == nil && c.entries > 5 {
			t.Errorf("%d entries", c.entries)
		}
	})
}

// publisher is an HTTP server with a list that changes.
type publisher struct {
	*httptest.Server

	text   atomic.Value
	status atomic.Int64
	asked  atomic.Int64
	same   atomic.Int64
}

func publish(t *testing.T, text string) *publisher {
	t.Helper()
	p := &publisher{}
	p.text.Store(text)
	p.status.Store(http.StatusOK)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		text, _ := p.text.Load().(string)
		tag := fmt.Sprintf("%q", fmt.Sprint(len(text)))
		switch {
		case p.status.Load() != http.StatusOK:
			w.WriteHeader(int(p.status.Load()))
		case r.Header.Get("If-None-Match") == tag:
			p.same.Add(1)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", tag)
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// TestURL: a list is fetched, refreshed, asked for only where it changed, and when its publisher is gone, broken or sends something else
// the last good one holds, also after a restart.
func TestURL(t *testing.T) {
	t.Parallel()
	p := publish(t, "203.0.113.66\n")
	now := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "lists")
	open := func() *Set {
		return New(Options{Dir: dir, Now: func() time.Time { return now }, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	}
	source := Source{Name: "bad", URL: p.URL + "/list", Refresh: time.Hour, MaxEntries: 100}
	s := open()
	s.Configure([]Source{source})
	require.False(t, s.Contains("bad", addr("203.0.113.66")), "it was not fetched yet")
	require.Equal(t, time.Hour, s.refresh(t.Context()))
	require.True(t, s.Contains("bad", addr("203.0.113.66")))
	require.False(t, s.Contains("other", addr("203.0.113.66")))
	require.Empty(t, s.Findings())
	require.Equal(t, map[string]int{"bad": 1}, s.Entries())

	s.refresh(t.Context())
	require.Equal(t, int64(1), p.asked.Load(), "it is not due yet")
	now = now.Add(time.Hour)
	s.refresh(t.Context())
	require.Equal(t, int64(1), p.same.Load(), "it did not change")
	now = now.Add(time.Hour)
	p.text.Store("203.0.113.67\n203.0.113.68\n")
	s.refresh(t.Context())
	require.True(t, s.Contains("bad", addr("203.0.113.67")))
	require.False(t, s.Contains("bad", addr("203.0.113.66")))

	for _, broken := range []func(){
		func() { p.status.Store(http.StatusInternalServerError) },
		func() { p.status.Store(http.StatusOK); p.text.Store("<html>\n<p>\nlogin please\n") },
		func() { p.text.Store(strings.Repeat("203.0.113.1\n", 101)) },
		func() { p.Close() },
	} {
		now = now.Add(time.Hour)
		broken()
		s.refresh(t.Context())
		require.True(t, s.Contains("bad", addr("203.0.113.67")), "the last good one holds")
		require.Len(t, s.Findings(), 1)
		require.Equal(t, "warning", s.Findings()[0].Level)
		require.Contains(t, s.Findings()[0].Text, "not refreshed since 2026-11-22T20:00:00Z")
	}

	s = open() // a restart, the publisher still gone
	s.Configure([]Source{source})
	require.True(t, s.Contains("bad", addr("203.0.113.67")), "it was kept")
	s.refresh(t.Context())
	require.True(t, s.Contains("bad", addr("203.0.113.67")))
	other := source
	other.URL += "2"
	s.Configure([]Source{other})
	require.False(t, s.Contains("bad", addr("203.0.113.67")), "what was kept of another URL is another list")
	s.refresh(t.Context())
	require.Equal(t, "error", s.Findings()[0].Level)
	s.Configure(nil)
	require.Empty(t, s.Findings())
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bad.txt")
	now := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	s := New(Options{Now: func() time.Time { return now }})
	must := Source{Name: "must", File: path, Refresh: time.Minute, MaxEntries: 10}
	may := Source{Name: "may", File: path, Refresh: time.Minute, MaxEntries: 10, Optional: true}
	s.Configure([]Source{must, may})
	require.Len(t, s.Findings(), 1, "one of them must be there")
	require.Contains(t, s.Findings()[0].Text, "no such file")
	require.NoError(t, os.WriteFile(path, []byte("203.0.113.66\nnobody\n"), 0o600))
	now = now.Add(time.Minute)
	s.refresh(t.Context())
	require.True(t, s.Contains("must", addr("203.0.113.66")))
	require.True(t, s.Contains("may", addr("::ffff:203.0.113.66")))
	require.Contains(t, s.Findings()[0].Text, "1 of its lines are no address")
	s.Configure([]Source{must})
	require.False(t, s.Contains("may", addr("203.0.113.66")))
	require.True(t, s.Contains("must", addr("203.0.113.66")), "what stays is not read again")
}

func TestRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bad.txt")
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		s.Configure([]Source{{Name: "bad", File: path, Refresh: time.Minute, MaxEntries: 10, Optional: true}})
		synctest.Wait()
		require.NoError(t, os.WriteFile(path, []byte("203.0.113.66\n"), 0o600))
		require.False(t, s.Contains("bad", addr("203.0.113.66")))
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		require.True(t, s.Contains("bad", addr("203.0.113.66")))
		stop()
		require.NoError(t, <-done)
	})
}

func BenchmarkContains(b *testing.B) {
	var text strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&text, "%d.%d.%d.%d\n", 1+i>>16&0x7f, i>>8&0xff, i&0xff, 7)
	}
	c, err := parse(strings.NewReader(text.String()), 200_000)
	if err != nil {
		b.Fatal(err)
	}
	s := New(Options{})
	s.lists["bad"] = &list{table: c.table}
	s.publish()
	a := addr("2.7.9.7")
	for b.Loop() {
		s.Contains("bad", a)
	}
}
