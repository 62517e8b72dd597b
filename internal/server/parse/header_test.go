package parse_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func TestHeader(t *testing.T) {
	t.Parallel()
	ref := at("2026-11-22T18:00:10Z")
	for _, c := range []struct {
		name, line string
		want       parse.Head
		bad        bool
	}{
		{
			name: "RFC 3164", line: "Nov 22 18:00:00 web sshd[77]: a b",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a b")},
		},
		{
			name: "RFC 3164 with priority", line: "<38>Nov 22 18:00:00 web sshd[77]: a b",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a b")},
		},
		{
			name: "day of one digit", line: "Nov  2 18:00:00 web sshd: a",
			want: parse.Head{Host: "web", Tag: "sshd", Time: at("2026-11-02T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "decimals", line: "Nov 22 18:00:00.25 web sshd: a",
			want: parse.Head{Host: "web", Tag: "sshd", Time: at("2026-11-22T18:00:00.25Z"), Msg: []byte("a")},
		},
		{
			name: "leap day of another year", line: "Feb 29 18:00:00 web sshd: a",
			want: parse.Head{Host: "web", Tag: "sshd", Time: at("2024-02-29T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "ISO 8601 UTC", line: "2026-11-22T18:00:00Z web sshd[77]: a",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "ISO 8601 as rsyslog", line: "2026-11-22T18:00:00.123456+02:00 web sshd[77]: a",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T16:00:00.123456Z"), Msg: []byte("a")},
		},
		{
			name: "ISO 8601 as journalctl", line: "2026-11-22T18:00:00-0330 web sshd[77]: a",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T21:30:00Z"), Msg: []byte("a")},
		},
		{
			name: "RFC 5424", line: "1 2026-11-22T18:00:00Z web sshd 77 - - a",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "RFC 5424 with priority", line: "<38>1 2026-11-22T18:00:00Z web.example.org sshd 77 ID7 - a",
			want: parse.Head{Host: "web.example.org", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a")},
		},
		{name: "RFC 5424, all nil", line: "1 - - - - - -", want: parse.Head{Msg: []byte{}}},
		{
			name: "RFC 5424, structured data", line: `1 2026-11-22T18:00:00Z web sshd 77 - [a@1 x="] sshd \" \] \\"][b y="z"] a`,
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "RFC 5424, byte order mark", line: "1 2026-11-22T18:00:00Z web sshd 77 - - \xef\xbb\xbfa",
			want: parse.Head{Host: "web", Tag: "sshd", PID: "77", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "no tag", line: "Nov 22 18:00:00 web last message repeated 2 times",
			want: parse.Head{Host: "web", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("last message repeated 2 times")},
		},
		{
			name: "tag with a path", line: "Nov 22 18:00:00 web postfix/smtpd[7]: a",
			want: parse.Head{Host: "web", Tag: "postfix/smtpd", PID: "7", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("a")},
		},
		{
			name: "another's tag", line: "Nov 22 18:00:00 web app: x sshd[1]: a",
			want: parse.Head{Host: "web", Tag: "app", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("x sshd[1]: a")},
		},
		{
			name: "tag not ended", line: "Nov 22 18:00:00 web sshd[1 x]: a",
			want: parse.Head{Host: "web", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("sshd[1 x]: a")},
		},
		{
			name: "colon without space", line: "Nov 22 18:00:00 web sshd:a",
			want: parse.Head{Host: "web", Time: at("2026-11-22T18:00:00Z"), Msg: []byte("sshd:a")},
		},
		{name: "empty", line: "", bad: true},
		{name: "no header", line: "Failed password for root from 203.0.113.66 port 1 ssh2", bad: true},
		{name: "no host", line: "Nov 22 18:00:00", bad: true},
		{name: "no such day", line: "Nov 31 18:00:00 web sshd: a", bad: true},
		{name: "no such month", line: "Nvo 22 18:00:00 web sshd: a", bad: true},
		{name: "no such hour", line: "2026-11-22T24:00:00Z web sshd: a", bad: true},
		{name: "no zone", line: "2026-11-22T18:00:00 web sshd: a", bad: true},
		{name: "structured data not ended", line: `1 2026-11-22T18:00:00Z web sshd 77 - [a x="]`, bad: true},
		{name: "RFC 5424 cut", line: "1 2026-11-22T18:00:00Z web sshd", bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parse.Header([]byte(c.line), ref)
			if ok == c.bad {
				t.Fatalf("ok is %v: %+v", ok, got)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestYearIsInferred(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("CET", 3600)
	for _, c := range []struct {
		name, stamp string
		ref         time.Time
		want        string
	}{
		{"the same moment", "Nov 22 18:00:00", at("2026-11-22T18:00:00Z"), "2026-11-22T18:00:00Z"},
		{"over new year", "Dec 31 23:59:59", at("2027-01-01T00:00:05Z"), "2026-12-31T23:59:59Z"},
		{"clock ahead over new year", "Jan  1 00:00:02", at("2026-12-31T23:59:58Z"), "2027-01-01T00:00:02Z"},
		{"a clock that is a day ahead", "Nov 23 17:00:00", at("2026-11-22T18:00:00Z"), "2026-11-23T17:00:00Z"},
		{"old log", "Nov 25 18:00:00", at("2026-11-22T18:00:00Z"), "2025-11-25T18:00:00Z"},
		{"half a year ago", "May 22 18:00:00", at("2026-11-22T18:00:00Z"), "2026-05-22T18:00:00Z"},
		{"zone of the reference", "Nov 22 19:00:00", at("2026-11-22T18:00:00Z").In(berlin), "2026-11-22T18:00:00Z"},
		{"leap day in a leap year", "Feb 29 12:00:00", at("2028-03-01T00:00:00Z"), "2028-02-29T12:00:00Z"},
		{"leap day over 1900", "Feb 29 12:00:00", at("1903-03-01T00:00:00Z"), "1896-02-29T12:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, ok := parse.Header([]byte(c.stamp+" web sshd[1]: a"), c.ref)
			if !ok || !h.Time.Equal(at(c.want)) {
				t.Errorf("got %s, %v, want %s", h.Time, ok, c.want)
			}
		})
	}
}

func TestOnlyTheHeaderNamesTheProgram(t *testing.T) {
	t.Parallel()
	const msg = "Failed password for root from 198.51.100.9 port 1 ssh2"
	for _, line := range []string{
		"Nov 22 18:00:00 web app: sshd[1]: " + msg,
		"Nov 22 18:00:00 web app[2]: Nov 22 18:00:00 web sshd[1]: " + msg,
		"Nov 22 18:00:00 web sshd-evil[1]: " + msg,
		"Nov 22 18:00:00 web SSHD[1]: " + msg,
		"Nov 22 18:00:00 web sshd [1]: " + msg,
		"2026-11-22T18:00:00Z web app sshd[1]: " + msg,
		`1 2026-11-22T18:00:00Z web app 1 - [x y="z"] sshd[1]: ` + msg,
		`1 2026-11-22T18:00:00Z web app sshd - - ` + msg,
		msg,
	} {
		if e := parse.Line([]byte(line), at("2026-11-22T18:00:10Z")); e.Kind != event.None || e.Source.IsValid() || e.Service != "" {
			t.Errorf("%s: read as %+v", line, e)
		}
	}
}
