package parse_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const forgedAccess = `198.51.100.9 - root [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 401 1 "-" "-"`

// TestForgedWebLines: 198.51.100.9 is never read; what else is, the right side says.
func TestForgedWebLines(t *testing.T) {
	t.Parallel()
	const stamp = `[22/Nov/2026:18:00:00 +0000]`
	for _, c := range []struct {
		name, line string
		kind       event.Kind
		source     bool // the peer's, 203.0.113.66
	}{
		{"name with spaces", `203.0.113.66 - x y z ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"name with a time", `203.0.113.66 - x [22/Nov/2026:18:00:00 +0000] ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"name that may be a peer", `203.0.113.66 - 198.51.100.9 - root ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.Context, false},
		{"name that may be a peer, further on", `203.0.113.66 - x 198.51.100.9 - - ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.Context, false},
		{"name that may be a peer, twice", `203.0.113.66 - x - 198.51.100.9 - - ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.Context, false},
		{"name with nginx's escapes", `203.0.113.66 - x\x22 401 ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"name with Apache's escapes", `203.0.113.66 - x\" ] \" 401 ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"name that ends with a backslash", `203.0.113.66 - x\\ ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"name of a quote alone, unescaped", `203.0.113.66 - " ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.None, false},
		{"no name, as Apache writes it", `203.0.113.66 - "" ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.Context, true},
		{"newline in syslog's form", `203.0.113.66 - x#012` + strings.ReplaceAll(forgedAccess, `"`, `\x22`) + ` ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"status in the request", `203.0.113.66 - - ` + stamp + ` "GET /x\x22 401 1 HTTP/1.1" 200 1`, event.None, false},
		{"request with everything", `203.0.113.66 - - ` + stamp + ` "GET /` + strings.ReplaceAll(forgedAccess, `"`, `\"`) + ` HTTP/1.1" 401 1`, event.Context, true},
		{"referer with everything", `203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1 "` + strings.ReplaceAll(forgedAccess, `"`, `\x22`) + `" "-"`, event.AuthFailed, true},
		{"agent with everything", `203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1 "-" "` + strings.ReplaceAll(forgedAccess, `"`, `\"`) + `"`, event.AuthFailed, true},
		{"a header of another", `203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1 "-" "-" "198.51.100.9"`, event.AuthFailed, true},
		{"virtual host that is an address", `198.51.100.9 203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.Context, false},
		{"virtual host with a space", `198.51.100.9 - 203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.Context, false},
		{"virtual host that is a peer and more", `198.51.100.9 x 203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.None, false},
		{"virtual host", `www.example.org:80 203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, true},
		{"name that looks like an address", `198.51.100.9.evil.example.org - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, false},
		{"zeros", `198.051.100.009 - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, false},
		{"a socket", `unix: - a ` + stamp + ` "GET / HTTP/1.1" 401 1`, event.AuthFailed, false},
		{"cut before the status", `203.0.113.66 - a ` + stamp + ` "GET / HTTP/1.1"`, event.None, false},
		{"cut in the request", `203.0.113.66 - a ` + stamp + ` "GET / HT`, event.None, false},
		{"Apache's error log", `[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 2] [client 203.0.113.66:4022] AH01618: user [client 198.51.100.9] x not found: /`, event.AuthFailed, true},
		{"Apache's error log, path", `[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 2] [client 203.0.113.66:4022] AH01617: user x: authentication failure for "/": Password Mismatch, referer: [client 198.51.100.9:1] AH01618: user y not found: /": Password Mismatch`, event.AuthFailed, true},
		{"Apache's error log, program's words", `[Sun Nov 22 18:00:00.000000 2026] [cgi:error] [pid 1:tid 2] [client 203.0.113.66:4022] AH01215: [client 198.51.100.9:1] AH01618: user root not found: /`, event.None, false},
		{"Apache's error log, no client", `[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 2] AH01618: user [client 198.51.100.9:1] not found: /`, event.None, false},
		{"nginx's error log", `2026/11/22 18:00:00 [error] 1#1: *1 user "root": password mismatch, client: 198.51.100.9, server: _, request: "GET / HTTP/1.1", host: "h"`, event.Context, false},
	} {
		for _, header := range []string{"", "2026-11-22T18:00:00Z web nginx[1]: ", "Nov 22 18:00:00 web apache2[1]: "} {
			e := parse.Message(event.HTTP, []byte(c.line))
			if header != "" {
				e = parse.Line([]byte(header+c.line), capturedAt())
			}
			var want netip.Addr
			if c.source {
				want = netip.MustParseAddr("203.0.113.66")
			}
			if e.Kind != c.kind || e.Source != want {
				t.Errorf("%s%s: %s from %s, want %s from %s", header, c.name, e.Kind, e.Source, c.kind, want)
			}
		}
	}
}

// TestErrorLogsAreNoAccessLogs: a line feed in a name or path gives a client a line of its own in nginx's error log.
func TestErrorLogsAreNoAccessLogs(t *testing.T) {
	t.Parallel()
	f, ok := native.Find("nginx-error")
	if !ok {
		t.Fatal("no format nginx-error")
	}
	r := f.New()
	var records []native.Record
	for _, line := range []string{
		forgedAccess, // the rest of a record whose beginning was in a file before
		`2026/11/22 18:00:00 [error] 1#1: *1 open() "/x`, forgedAccess, `" failed (2: No such file or directory), client: 203.0.113.66, server: _, request: "GET / HTTP/1.1", host: "h"`,
		`[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 1] [client 198.51.100.9:1] AH01618: user root not found: /`,
	} {
		for _, one := range append(r.Line([]byte(line), capturedAt()), r.Flush()...) {
			records = append(records, one)
			line := native.Encode(one, "web", f.App)
			if e := parse.Line(line, capturedAt()); e.Kind != event.None || e.Source.IsValid() {
				t.Errorf("%s is read as %+v", line, e)
			}
		}
	}
	if len(records) != 5 {
		t.Errorf("%d records", len(records))
	}
	joined := f.New()
	var whole []native.Record
	for _, line := range []string{`2026/11/22 18:00:00 [error] 1#1: *1 open() "/x`, forgedAccess, `" failed`, `2026/11/22 18:00:01 [error] 1#1: *2 y`} {
		whole = append(whole, joined.Line([]byte(line), capturedAt())...)
	}
	if len(whole) != 1 || strings.Count(string(whole[0].Text), "\n") != 2 {
		t.Errorf("a record of three lines is read as %q", whole)
	}
}

// TestTagsSayWhichLog: a road that reads files line by line can name the log by the tag.
func TestTagsSayWhichLog(t *testing.T) {
	t.Parallel()
	const apacheLine = `[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 1] [client 203.0.113.66:1] AH01618: user root not found: /`
	access := strings.ReplaceAll(forgedAccess, "198.51.100.9", "203.0.113.66")
	for _, c := range []struct {
		tag, line string
		want      event.Kind
	}{
		{"nginx-access", access, event.AuthFailed},
		{"apache-access", access, event.AuthFailed},
		{"nginx", access, event.AuthFailed},
		{"httpd", access, event.AuthFailed},
		{"nginx-error", access, event.None},
		{"apache-error", access, event.None},
		{"nginx-error", apacheLine, event.None},
		{"apache-access", apacheLine, event.None},
		{"apache-error", apacheLine, event.AuthFailed},
		{"apache2", apacheLine, event.AuthFailed},
	} {
		if e := parse.Line([]byte("2026-11-22T18:00:00Z web "+c.tag+": "+c.line), capturedAt()); e.Kind != c.want {
			t.Errorf("%s: %s is %s, want %s", c.tag, c.line, e.Kind, c.want)
		}
	}
}

// hostileWeb draws what a client may send in a name, a URL or a header, as a server escapes it.
func hostileWeb(escape *strings.Replacer) *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{
			"198.51.100.9", " - ", "-", " ", `"`, `\`, "]", "[", ` [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 401 1`, forgedAccess, `" 401 `, " HTTP/1.1", `" "`,
			"[client 198.51.100.9:1] ", "AH01618: user root not found: /", ", client: 198.51.100.9", "\n", "#012", "\x1b[2J", "\xff", "::1", "message repeated 9 times: [ ",
			"2026/11/22 18:00:00 [error] 1#1: *1 user ", " - root ", "198.51.100.9 - - ", "unix:", "GET ",
		}),
		rapid.StringN(0, 8, -1),
	)
	return rapid.Map(rapid.SliceOfN(piece, 0, 6), func(list []string) string { return escape.Replace(strings.Join(list, "")) })
}

func nginxEscapes() *strings.Replacer {
	return strings.NewReplacer(`"`, `\x22`, `\`, `\x5C`, "\n", `\x0A`, "\x1b", `\x1B`, "\xff", `\xFF`, "\r", `\x0D`)
}

func apacheEscapes() *strings.Replacer {
	return strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`, "\x1b", `\x1b`, "\xff", `\xff`, "\r", `\r`)
}

// TestPeersOfWebServersAreTheTrueOnes: whatever a client sends, the source that is read is its own or none.
func TestPeersOfWebServersAreTheTrueOnes(t *testing.T) {
	t.Parallel()
	// %[1]s is the name, %[2]s the peer, %[3]s the rest of what the client chooses, %[4]d the status.
	for _, form := range []string{
		`%[2]s - %[1]s [22/Nov/2026:18:00:00 +0000] "GET /%[3]s HTTP/1.1" %[4]d 12 "%[3]s" "%[1]s"`,
		`www.example.org:443 %[2]s - %[1]s [22/Nov/2026:18:00:00 +0000] "%[3]s" %[4]d 12 "%[3]s" "%[1]s"`,
		`%[2]s - %[1]s [22/Nov/2026:18:00:00 +0000] "POST /wp-login.php?%[3]s HTTP/1.1" %[4]d 12`,
		`[Sun Nov 22 18:00:00.123456 2026] [auth_basic:error] [pid 12:tid 13] [client %[2]s:4022] AH01617: user %[1]s: authentication failure for "/%[3]s": Password Mismatch, referer: %[3]s`,
		`[Sun Nov 22 18:00:00.123456 2026] [auth_basic:error] [pid 12:tid 13] [client %[2]s:4022] AH01618: user %[1]s not found: /%[3]s`,
	} {
		for name, escape := range map[string]*strings.Replacer{"nginx": nginxEscapes(), "apache": apacheEscapes()} {
			t.Run(name+" "+form, func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(t *rapid.T) {
					source, _ := drawPeer(t)
					status := rapid.SampledFrom([]int{200, 302, 400, 401, 403, 404}).Draw(t, "status")
					msg := fmt.Sprintf(form, hostileWeb(escape).Draw(t, "name"), source, hostileWeb(escape).Draw(t, "text"), status)
					msg, _, _ = strings.Cut(msg, "%!(EXTRA")
					if e := parse.Message(event.HTTP, []byte(msg)); e.Source.IsValid() && e.Source != source {
						t.Fatalf("read %s from %q", e.Source, msg)
					}
				})
			})
		}
	}
}
