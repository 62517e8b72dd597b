package native_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

func find(t testing.TB, name string) native.Format {
	t.Helper()
	f, ok := native.Find(name)
	if !ok {
		t.Fatalf("no format %s", name)
	}
	return f
}

func TestWebAndFTPRecords(t *testing.T) {
	t.Parallel()
	ref := time.Date(2026, 11, 23, 0, 0, 0, 0, time.FixedZone("CET", 3600))
	for _, c := range []struct {
		format, line, time, pid, text string
		params                        map[string]string
	}{
		{
			"nginx-access", `203.0.113.66 - root [22/Nov/2026:19:00:00 +0100] "GET /a?b=c HTTP/1.1" 401 179 "-" "x"`, "2026-11-22T18:00:00Z", "", "",
			map[string]string{"source": "203.0.113.66", "account": "root", "code": "401", "method": "GET", "path": "/a"},
		},
		{
			"apache-access", `www.example.org:80 ::ffff:203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "-" 408 0`, "2026-11-22T18:00:00Z", "", "",
			map[string]string{"source": "203.0.113.66", "code": "408"},
		},
		{
			"apache-access", `198.51.100.9 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.0" 200 0`, "2026-11-22T18:00:00Z", "", "",
			map[string]string{"code": "200", "method": "GET", "path": "/"},
		},
		{
			"apache-error", `[Sun Nov 22 19:00:00.123456 2026] [auth_basic:error] [pid 12:tid 13] [client 203.0.113.66:4022] AH01617: user root: authentication failure for "/a": Password Mismatch`,
			"2026-11-22T18:00:00.123456Z", "12", "",
			map[string]string{"source": "203.0.113.66", "source_port": "4022", "account": "root", "path": "/a"},
		},
		{
			"nginx-error", `2026/11/22 19:00:00 [error] 12#13: *7 user "root": password mismatch, client: 203.0.113.66, server: _, request: "GET / HTTP/1.1", host: "h"`,
			"2026-11-22T18:00:00Z", "12", "",
			map[string]string{},
		},
		{
			"vsftpd", `Sun Nov 22 19:00:00 2026 [pid 2] [root] FAIL LOGIN: Client "::ffff:203.0.113.66"`, "2026-11-22T18:00:00Z", "2", `[root] FAIL LOGIN: Client "::ffff:203.0.113.66"`,
			map[string]string{"source": "203.0.113.66", "account": "root"},
		},
		{
			"proftpd", `2026-11-22 19:00:00,123 web proftpd[7] web (203.0.113.66[203.0.113.66]): USER root (Login failed): Incorrect password`, "2026-11-22T18:00:00.123Z", "7",
			`web (203.0.113.66[203.0.113.66]): USER root (Login failed): Incorrect password`,
			map[string]string{"source": "203.0.113.66", "account": "root"},
		},
		{
			"pure-ftpd", `203.0.113.20 - alice [22/Nov/2026:18:00:00 -0000] "PUT /home/alice/x" 200 12`, "2026-11-22T18:00:00Z", "", "",
			map[string]string{"source": "203.0.113.20", "account": "alice", "code": "200"},
		},
		{"nginx-access", "nothing known", "", "", "", map[string]string{}},
		{"vsftpd", "Sun Nov 32 19:00:00 2026 [pid 2] x", "", "", "", map[string]string{}},
	} {
		r := find(t, c.format).New()
		records := append(r.Line([]byte(c.line), ref), r.Flush()...)
		if len(records) != 1 {
			t.Errorf("%s: %d records of %s", c.format, len(records), c.line)
			continue
		}
		got := records[0]
		if c.text == "" {
			c.text = c.line
		}
		c.params["format"] = c.format
		params := map[string]string{}
		for _, p := range got.Params {
			params[p.Name] = p.Value
		}
		var want time.Time
		if c.time != "" {
			want, _ = time.Parse(time.RFC3339Nano, c.time)
		}
		if !got.Time.Equal(want) || got.PID != c.pid || string(got.Text) != c.text {
			t.Errorf("%s: %s [%s] %q of %s", c.format, got.Time, got.PID, got.Text, c.line)
		}
		if diff := cmp.Diff(c.params, params); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.line, diff)
		}
	}
}

// TestRecordsOfManyLinesAreBounded holds nginx's error log, in which a record may span lines.
func TestRecordsOfManyLinesAreBounded(t *testing.T) {
	t.Parallel()
	r := find(t, "nginx-error").New()
	r.Line([]byte(`2026/11/22 18:00:00 [error] 1#1: *1 open() "/x`), time.Time{})
	for range 10000 {
		r.Line(bytes.Repeat([]byte{'a'}, 100), time.Time{})
	}
	if records := r.Flush(); len(records) != 1 || len(records[0].Text) > 16<<10 {
		t.Errorf("%d records", len(records))
	}
	if records := r.Flush(); len(records) != 0 {
		t.Errorf("flushed twice: %q", records)
	}
}

// FuzzWebAndFTP: whatever a line holds, its record is one line of syslog that names no source that the record does not.
func FuzzWebAndFTP(f *testing.F) {
	names, err := filepath.Glob("../server/parse/testdata/[hf]t*/*.txt")
	if err != nil || len(names) < 10 {
		f.Fatalf("no captured lines: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for i, line := range bytes.Split(data, []byte{'\n'}) {
			if _, text, ok := bytes.Cut(line, []byte{'|'}); ok && i%29 == 0 {
				f.Add(text)
			}
		}
	}
	ref := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line []byte) {
		line = bytes.ReplaceAll(line, []byte{'\n'}, nil)
		for _, format := range native.Formats() {
			if format.Service != event.HTTP && format.Service != event.FTP {
				continue
			}
			r := format.New()
			for _, one := range append(r.Line(line, ref), r.Flush()...) {
				encoded := native.Encode(one, "web", format.App)
				if bytes.IndexByte(encoded, '\n') >= 0 || !one.Time.IsZero() && one.Time.Location() != time.UTC {
					t.Fatalf("%s: %q at %s", format.Name, encoded, one.Time)
				}
				e := parse.Line(encoded, ref)
				source := netip.Addr{}
				for _, p := range one.Params {
					if p.Name == native.ParamSource {
						source = netip.MustParseAddr(p.Value)
					}
				}
				bare := one.Time.IsZero() && format.Service == event.FTP // the line may be one that the software writes to syslog
				if e.Source.IsValid() && e.Source != source && !bare {
					t.Fatalf("%s: %q names %s, its record %s", format.Name, encoded, e.Source, source)
				}
				if h, ok := parse.Header(encoded, ref); !ok || h.Host != "web" || h.Tag != format.App {
					t.Fatalf("%s: header of %q is %+v", format.Name, encoded, h)
				}
			}
		}
	})
}

func BenchmarkWebRecords(b *testing.B) {
	for name, line := range map[string]string{
		"nginx-access": `203.0.113.66 - root [22/Nov/2026:18:00:00 +0000] "GET /private/ HTTP/1.1" 401 179 "-" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"`,
		"vsftpd":       `Sun Nov 22 18:00:00 2026 [pid 2] [root] FAIL LOGIN: Client "203.0.113.66"`,
	} {
		b.Run(name, func(b *testing.B) {
			f := find(b, name)
			r := f.New()
			b.ReportAllocs()
			for b.Loop() {
				for _, one := range r.Line([]byte(line), time.Time{}) {
					native.Encode(one, "web", f.App)
				}
			}
		})
	}
}

// Example of what an agent sends of a line of vsftpd's log.
func ExampleEncode() {
	f, _ := native.Find("vsftpd")
	for _, r := range f.New().Line([]byte(`Sun Nov 22 18:00:00 2026 [pid 2] [root] FAIL LOGIN: Client "203.0.113.66"`), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) {
		fmt.Println(strings.ReplaceAll(string(native.Encode(r, "web", f.App)), "] [", "]\n["))
	}
	// Output:
	// 1 2026-11-22T18:00:00Z web vsftpd 2 - [kokkuri@32473 format="vsftpd" source="203.0.113.66" account="root"]
	// [root] FAIL LOGIN: Client "203.0.113.66"
}
