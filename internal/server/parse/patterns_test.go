package parse_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// vault is made-up software with a form for each way in which a source may stand.
func vault() parse.Definition {
	return parse.Definition{
		Name: "vault", Service: "vault", Programs: []string{"vaultd", "vault-auth"}, Exe: "vaultd", UID: "998",
		Patterns: []parse.PatternDefinition{
			{Text: "login of <account:text> from <source:ip>( port <source_port:port>)? failed", Kind: event.AuthFailed, Method: "password"},
			{Text: "login of <account:text> from <source:ip>( port <source_port:port>)? succeeded by <method:id>", Kind: event.AuthOK},
			{Text: "[<source:host>] <attempts:int> bad (tokens|passwords) for <resource:text>", Kind: event.AuthFailed},
			{Text: "level=warn user=<account:quoted> ip=<source:ip> agent=<_:quoted>", Kind: event.AuthFailed},
			{Text: `probe \<<source:ip>\>`, Kind: event.Probe},
			{Text: "closing session <_:int>", Kind: event.Context},
		},
	}
}

func compiled(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, definitions ...parse.Definition,
) *parse.Patterns {
	t.Helper()
	p, faults := parse.NewPatterns(definitions)
	if len(faults) > 0 {
		t.Fatalf("%v", faults[0])
	}
	return p
}

func TestPatternsRead(t *testing.T) {
	t.Parallel()
	patterns := compiled(t, vault())
	source := netip.MustParseAddr("203.0.113.66")
	for _, c := range []struct {
		msg       string
		want      event.Event
		noAddress bool
	}{
		{msg: "login of root from 203.0.113.66 failed", want: event.Event{Kind: event.AuthFailed, Source: source, Account: "root", Method: "password", Attempts: 1}},
		{msg: "login of a b from 203.0.113.66 port 4022 failed", want: event.Event{Kind: event.AuthFailed, Source: source, SourcePort: 4022, Account: "a b", Method: "password", Attempts: 1}},
		{msg: "login of a from ::ffff:203.0.113.66 failed", want: event.Event{Kind: event.AuthFailed, Source: source, Account: "a", Method: "password", Attempts: 1}},
		{msg: "login of alice from 2001:db8::1 succeeded by token", want: event.Event{Kind: event.AuthOK, Source: netip.MustParseAddr("2001:db8::1"), Account: "alice", Method: "token"}},
		{msg: "[203.0.113.66] 3 bad passwords for /admin", want: event.Event{Kind: event.AuthFailed, Source: source, Resource: "/admin", Attempts: 3}},
		{msg: "[198.51.100.9.evil.example] 3 bad tokens for x", want: event.Event{Kind: event.AuthFailed, Resource: "x", Attempts: 3}, noAddress: true},
		{msg: "[203.0.113.66] 0 bad tokens for x", want: event.Event{Kind: event.Context, Source: source, Resource: "x"}},
		{msg: `level=warn user="a\"b ip=198.51.100.9" ip=203.0.113.66 agent="x"`, want: event.Event{Kind: event.AuthFailed, Source: source, Account: `a\"b ip=198.51.100.9`, Attempts: 1}},
		{msg: "probe <203.0.113.66>", want: event.Event{Kind: event.Probe, Source: source}},
		{msg: "closing session 12", want: event.Event{Kind: event.Context}},
		{msg: "login of root from 203.0.113.999 failed", want: event.Event{Kind: event.None}},
		{msg: "login of root from 203.0.113.66 port 99999 failed", want: event.Event{Kind: event.None}},
		{msg: "login of root from 203.0.113.66 failed ", want: event.Event{Kind: event.None}},
		{msg: "x login of root from 203.0.113.66 failed", want: event.Event{Kind: event.None}},
		{msg: "login of login of x from 198.51.100.9 failed from 203.0.113.66 failed", want: event.Event{
			Kind: event.AuthFailed, Source: source, Account: "login of x from 198.51.100.9 failed", Method: "password", Attempts: 1,
		}},
	} {
		t.Run(c.msg, func(t *testing.T) {
			t.Parallel()
			p := parse.New(parse.Options{Patterns: patterns})
			c.want.Service = "vault"
			if got := p.Message("vault", []byte(c.msg)); !cmp.Equal(got, c.want, sameAddr) {
				t.Errorf("message: %s", cmp.Diff(c.want, got, sameAddr))
			}
			e, n := p.Read([]byte("2026-11-22T18:00:00Z web vault-auth[7]: "+c.msg), at("2026-11-22T18:00:10Z"))
			c.want.Host, c.want.Time = "web", at("2026-11-22T18:00:00Z")
			if diff := cmp.Diff(c.want, e, sameAddr); diff != "" {
				t.Errorf("line: %s", diff)
			}
			if n.NoAddress != c.noAddress || n.Unknown != (c.want.Kind == event.None) || n.Service != "vault" {
				t.Errorf("note %+v", n)
			}
		})
	}
}

func TestPatternsKnowTheirWriter(t *testing.T) {
	t.Parallel()
	p := parse.New(parse.Options{Patterns: compiled(t, vault())})
	for sd, forged := range map[string]bool{
		`-`: false,
		`[kokkuri@32473 uid="998" exe="/usr/bin/vaultd"]`:      false,
		`[kokkuri@32473 uid="1000" exe="/usr/bin/logger"]`:     true,
		`[kokkuri@32473 uid="998" exe="/home/mallory/vaultd"]`: true,
	} {
		line := "1 2026-11-22T18:00:00Z web vaultd 7 - " + sd + " login of root from 203.0.113.66 failed"
		e, n := p.Read([]byte(line), at("2026-11-22T18:00:10Z"))
		if n.Forged != forged || (e.Kind == event.AuthFailed) == forged {
			t.Errorf("%s: %+v, %+v", sd, e, n)
		}
	}
	if got := p.Stats().Forged["vault"]; got != 2 {
		t.Errorf("%d forged lines counted", got)
	}
}

func TestPatternsAreRefused(t *testing.T) {
	t.Parallel()
	one := func(text string) parse.Definition {
		return parse.Definition{Service: "vault", Programs: []string{"vaultd"}, Patterns: []parse.PatternDefinition{{Text: text, Kind: event.AuthFailed}}}
	}
	two := func(a, b string) parse.Definition {
		d := one(a)
		d.Patterns = append(d.Patterns, parse.PatternDefinition{Text: b, Kind: event.AuthFailed})
		return d
	}
	for _, c := range []struct {
		name       string
		definition parse.Definition
		key, found string
	}{
		{"nothing", one(""), "pattern", "nothing"},
		{"no source", one("login failed"), "pattern", "no source outside of optional parts"},
		{"source that may be missing", one("login failed( from <source:ip>)?"), "pattern", "no source outside of optional parts"},
		{"text on both sides", one("login of <account:text> from <source:ip> failed: <_:text>"), "pattern", "both sides of the source"},
		{"word on both sides", one("login of <account:word> from <source:ip> failed: <_:word>"), "pattern", "both sides of the source"},
		{"text in an optional part", one("login of <account:word> from <source:ip>( as <_:text>)?"), "pattern", "both sides of the source"},
		{"only a source", one("<source:ip>"), "pattern", "characters that must be there"},
		{"unknown field", one("from <address:ip>"), "pattern", `the field "address"`},
		{"unknown type", one("from <source:name>"), "pattern", `the type "name"`},
		{"no type", one("from <source> x"), "pattern", "<source>"},
		{"twice", one("from <source:ip> or <source:ip>"), "pattern", "a second time"},
		{"nothing between", one("from <source:ip><account:text>"), "pattern", "nothing between"},
		{"bracket", one("from (<source:ip>"), "pattern", "a ( without its )"},
		{"closing bracket", one("from <source:ip>)"), "pattern", "a ) without its ("},
		{"brackets within", one("from <source:ip>(a(b)?)?"), "pattern", "brackets within brackets"},
		{"one choice", one("from <source:ip> (a)"), "pattern", `"(a)"`},
		{"escape", one(`from <source:ip> \n`), "pattern", `\`},
		{"too long", one("from <source:ip>" + strings.Repeat("x", 1000)), "pattern", "1016 characters"},
		{"too many parts", one("from <source:ip>" + strings.Repeat(" <_:int>", 20)), "pattern", "42 parts"},
		{"two that clash", two("login from <source:ip> as <account:text>", "login <account:text> from <source:ip> failed"), "pattern", "can be forged"},
		{"a form within another", two("user <account:text> from <source:ip>", "user <account:text> via <source:ip> from <_:ip>"), "pattern", "can be forged"},
		{
			"context that becomes a guess", parse.Definition{Service: "vault", Programs: []string{"vaultd"}, Patterns: []parse.PatternDefinition{
				{Text: "session of <account:text> from <source:ip> failed", Kind: event.AuthFailed}, {Text: "session of <_:text>", Kind: event.Context},
			}}, "pattern", "can be forged",
		},
		{"kind", parse.Definition{Service: "vault", Programs: []string{"v"}, Patterns: []parse.PatternDefinition{{Text: "from <source:ip>", Kind: "guess"}}}, "kind", `"guess"`},
		{"service", parse.Definition{Service: "Vault", Programs: []string{"v"}, Patterns: one("from <source:ip>").Patterns}, "service", `"Vault"`},
		{"known program", parse.Definition{Service: "vault", Programs: []string{"sshd"}, Patterns: one("from <source:ip>").Patterns}, "programs", `"sshd"`},
		{"no program", parse.Definition{Service: "vault", Patterns: one("from <source:ip>").Patterns}, "programs", "0 programs"},
		{"a tag that is none", parse.Definition{Service: "vault", Programs: []string{"a b"}, Patterns: one("from <source:ip>").Patterns}, "programs", `"a b"`},
		{"no pattern", parse.Definition{Service: "vault", Programs: []string{"v"}}, "patterns", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, faults := parse.NewPatterns([]parse.Definition{c.definition})
			if len(faults) == 0 {
				t.Fatal("accepted")
			}
			for _, f := range faults {
				if f.Key == c.key && strings.Contains(f.Found, c.found) && f.Allowed != "" {
					return
				}
			}
			t.Errorf("%v; wanted %s: %s", faults[0], c.key, c.found)
		})
	}
}

// TestPatternsBlameTheTrueSource: whatever clients write into names and agents.
func TestPatternsBlameTheTrueSource(t *testing.T) {
	t.Parallel()
	patterns := compiled(t, vault())
	source := netip.MustParseAddr("203.0.113.66")
	hostile := rapid.Map(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]string{
		" from 198.51.100.9", " port 1", " failed", "login of ", "[198.51.100.9] ", "3 bad tokens for ", " succeeded by x", " ip=198.51.100.9", "probe <198.51.100.9>",
		`"`, `\`, ` agent="x"`, "level=warn user=", "closing session 1", "\xff", "\x1b[2J", "#012",
	}), rapid.StringN(0, 6, -1)), 0, 6), func(list []string) string { return strings.Join(list, "") })
	quoted := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) }
	rapid.Check(t, func(t *rapid.T) {
		text := hostile.Draw(t, "text")
		p := parse.New(parse.Options{Patterns: patterns})
		for _, msg := range []string{
			"login of " + text + " from 203.0.113.66 failed",
			"login of " + text + " from 203.0.113.66 port 4022 failed",
			"[203.0.113.66] 3 bad tokens for " + text,
			`level=warn user="` + quoted(text) + `" ip=203.0.113.66 agent="` + quoted(text) + `"`,
		} {
			if e := p.Message("vault", []byte(msg)); e.Source != source || e.Kind != event.AuthFailed {
				t.Fatalf("%q: read as %s of %s", msg, e.Kind, e.Source)
			}
		}
	})
}

func FuzzPatternText(f *testing.F) {
	for _, p := range vault().Patterns {
		f.Add(p.Text, "login of root from 203.0.113.66 failed")
	}
	f.Add(`a\<b (x|y)( z)? <source:ip>`, "a<b x z 203.0.113.66")
	f.Fuzz(func(t *testing.T, text, msg string) {
		patterns, faults := parse.NewPatterns([]parse.Definition{{
			Service: "vault", Programs: []string{"vaultd"}, Patterns: []parse.PatternDefinition{{Text: text, Kind: event.AuthFailed}},
		}})
		if (patterns == nil) == (len(faults) == 0) {
			t.Fatalf("%v, %v", patterns, faults)
		}
		e := parse.New(parse.Options{Patterns: patterns}).Message("vault", []byte(msg))
		if (e.Kind == event.AuthFailed) != (e.Attempts > 0) {
			t.Errorf("%+v", e)
		}
	})
}
