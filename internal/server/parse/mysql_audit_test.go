package parse_test

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const auditTag = "mysql-server_auditing"

// audited reads a message as journald and the agent hand it on.
func audited(p *parse.Parser, exe, text string) (event.Event, parse.Note) {
	return p.Read(native.Encode(native.Record{
		PID: "7", Text: []byte(text), Params: []native.Param{{Name: native.ParamUID, Value: "109"}, {Name: native.ParamExe, Value: exe}},
	}, "web", auditTag), capturedAt())
}

func TestAuditLines(t *testing.T) {
	t.Parallel()
	for _, line := range textLines(t, "testdata/lines/mysql-audit.txt") {
		msg, right, ok := strings.Cut(line, " => ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		want := wantOf(t, event.MySQL, right)
		want.Host = "web"
		var p parse.Parser
		e, n := audited(&p, "/usr/sbin/mariadbd", msg)
		if diff := cmp.Diff(want, e, sameAddr); diff != "" || !n.Vouched && e.Kind != event.None {
			t.Errorf("%s\n(-want +got):\n%s", msg, diff)
		}
		if e, n := audited(&p, "/usr/bin/logger", msg); e.Kind != event.None || n.Forged != (want.Kind == event.AuthOK) {
			t.Errorf("%s: written by logger it states %s, forged %v", msg, e.Kind, n.Forged)
		}
	}
}

// TestRealAudit holds what server_audit of real servers wrote against what their clients did: each login once, by its
// source, and nobody's beside. Guesses are counted where the error log states them.
func TestRealAudit(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/mysql/*-audit.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("three versions wanted: %v %v", files, err)
	}
	for _, file := range files {
		logins, contexts := 0, 0
		for _, s := range dbSections(t, file) {
			// Who has no right to the database that he asks for is not let in, whatever his password.
			refused := strings.Contains(s.title, "no right to the database") || strings.Contains(s.title, "login, hostile database") || strings.Contains(s.title, "database of two lines")
			var p parse.Parser
			got := 0
			for _, l := range s.lines {
				e := p.Line(l, capturedAt())
				if e.Service != event.MySQL || e.Kind == event.None {
					t.Errorf("%s: %s is not read", s.title, l)
				}
				if e.Source.IsValid() && e.Source != s.source {
					t.Errorf("%s: names %s: %s", s.title, e.Source, l)
				}
				switch e.Kind { //nolint:exhaustive // none is above
				case event.AuthOK:
					got++
					if !e.Source.IsValid() || !parse.ProvesLogin(e) || e.Account == "" {
						t.Errorf("%s: %+v", s.title, e)
					}
				case event.AuthFailed, event.Probe:
					t.Errorf("%s: states %s: %s", s.title, e.Kind, l)
				case event.Context:
					contexts++
				}
			}
			if want := s.logins; !refused && got != want || refused && got != 0 {
				t.Errorf("%s: %s: read %d logins, made %d", file, s.title, got, want)
			}
			logins += got
		}
		if logins < 6 || contexts < 200 {
			t.Errorf("%s: %d logins and %d others", file, logins, contexts)
		}
	}
}

// TestAuditNamesInventNoLogin: whatever a client sends as its name and as the database, and whatever who got in asks.
func TestAuditNamesInventNoLogin(t *testing.T) {
	t.Parallel()
	hostile := rapid.Map(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]string{
		",", ",,", ",0", "CONNECT", ",5,0,CONNECT,", ",198.51.100.9", "198.51.100.9", "'", `\'`, "#012", "7", "0", "FAILED_CONNECT", ",,0", "web,", " ",
		"Nov 22 18:00:00 web mysql-server_auditing: web,root,198.51.100.9,5,0,CONNECT,,,0", "_",
	}), rapid.StringN(0, 3, -1)), 0, 8), func(list []string) string { return strings.ReplaceAll(strings.Join(list, ""), "\n", "#012") })
	source := netip.MustParseAddr("203.0.113.66")
	rapid.Check(t, func(t *rapid.T) {
		user, text := hostile.Draw(t, "user"), hostile.Draw(t, "text")
		id := "," + source.String() + "," + strconv.Itoa(rapid.IntRange(0, 99).Draw(t, "id"))
		for _, msg := range []string{
			"web," + user + id + ",0,FAILED_CONNECT,,,1045",
			"web," + user + id + ",0,FAILED_CONNECT," + text + ",,1044",
			"web," + user + id + ",0,DISCONNECT,,,0",
			"web," + user + id + ",0,DISCONNECT," + text + ",,0",
			"web,low" + id + ",12,QUERY,shop,'" + strings.ReplaceAll(text, "'", `\'`) + "',0",
			"web,low" + id + ",12,READ," + text + "," + text + ",",
		} {
			var p parse.Parser
			e, _ := audited(&p, "/usr/sbin/mariadbd", msg)
			if e.Kind == event.AuthOK || e.Kind == event.AuthFailed {
				t.Fatalf("%q states %s of %s", msg, e.Kind, e.Source)
			}
		}
		var p parse.Parser
		if e, _ := audited(&p, "/usr/sbin/mariadbd", "web,"+user+id+",0,CONNECT,"+text+",,0"); e.Kind == event.AuthOK && e.Source != source {
			t.Fatalf("a login of %q to %q is one of %s", user, text, e.Source)
		}
	})
}

func FuzzAudit(f *testing.F) {
	f.Add("shop", "203.0.113.80", "shop", "CONNECT")
	f.Add("x,198.51.100.9,5,0,CONNECT,,,0", "203.0.113.66", "", "DISCONNECT")
	f.Add(",198.51.100.9,5,0,CONNECT,", "::1", ",,0", "FAILED_CONNECT")
	f.Fuzz(func(t *testing.T, user, host, database, operation string) {
		line := native.Encode(native.Record{Text: []byte("web," + user + "," + host + ",7,0," + operation + "," + database + ",,0")}, "web", auditTag)
		e := parse.Line(line, time.Time{})
		if e.Kind == event.AuthFailed || e.Attempts != 0 || len(e.Account) > 512 {
			t.Errorf("%+v", e)
		}
		commas := strings.Contains(user+host+database+operation, ",")
		if a, err := netip.ParseAddr(host); !commas && e.Source.IsValid() && (err != nil || event.Canonical(a) != e.Source) {
			t.Errorf("%q names %s", line, e.Source)
		}
		if !commas && e.Kind == event.AuthOK && operation != "CONNECT" {
			t.Errorf("%q: %+v", line, e)
		}
	})
}
