package detect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// workedExample is the rules file in docs/rules.md that has a parser in it.
func workedExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	for line := range strings.Lines(string(text)) {
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case ok:
			block.WriteString(code)
		case strings.TrimSpace(line) == "":
			block.WriteString(line)
		case strings.Contains(block.String(), "\nparsers:"):
			return block.String()
		default:
			block.Reset()
		}
	}
	t.Fatal("docs/rules.md has no example with parsers")
	return ""
}

// TestWorkedExample runs what docs/rules.md shows to newcomers, as `kokkuri rules test` does, and breaks it.
func TestWorkedExample(t *testing.T) {
	t.Parallel()
	text := workedExample(t)
	path := filepath.Join(t.TempDir(), "sip.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := detect.TestRules(path)
	if err != nil || len(report.Examples) == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	for name, change := range map[string][3]string{
		"a type that can be forged": {"- (Wrong password|No matching peer found|Username/auth name mismatch)", "- <_:text>", ":10: parsers[0].patterns[0].pattern: found word, host or text on both sides of the source"},
		"an unknown field":          {"<account:text>", "<user:text>", `:10: parsers[0].patterns[0].pattern: found the field "user"; allowed: source, source_port,`},
		"a known program":           {"programs: [asterisk]", "programs: [sshd]", `:5: parsers[0].programs: found "sshd", which Kokkuri reads itself; allowed: programs that it doesn't know`},
		"an unknown key":            {"method: digest", "methods: digest", ":12: parsers[0].patterns[0].methods: found an unknown key; allowed: pattern, kind, method"},
		"a kind":                    {"kind: context", "kind: noise", `parsers[0].patterns[1].kind: found "noise"; allowed: auth_failed, auth_ok, probe, context`},
		"no list":                   {"programs: [asterisk]", "programs: asterisk", `parsers[0].programs: found "asterisk"; allowed: a list`},
		"no service of that name":   {"service: sip  ", "service: pbx  ", `rules[0].service: found "sip"; allowed: any, ssh,`},
		"an example that fails":     {"offences: {sip-bruteforce: 1}", "offences: {sip-bruteforce: 2}", "found 1 of sip-bruteforce; expected 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := strings.Replace(text, change[0], change[1], 1)
			if broken == text {
				t.Fatalf("%q is not in the example", change[0])
			}
			path := filepath.Join(t.TempDir(), "broken.yaml")
			if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := detect.TestRules(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), change[2]) {
				t.Errorf("%v\nwanted %s", err, change[2])
			}
		})
	}
}

// TestParsersOfAnotherFile: rules of one file of a folder use the parsers of another.
func TestParsersOfAnotherFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parsers, rules, found := strings.Cut(workedExample(t), "\nrules:\n")
	if !found {
		t.Fatal("no rules in the example")
	}
	for name, text := range map[string]string{"b.yaml": parsers + "\nrules: []\n", "a.yaml": "version: 1\nrules:\n" + rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := detect.LoadRules(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.RunExamples().Err(); err != nil {
		t.Error(err)
	}
	if got := r.Patterns.Services(); len(got) != 1 || got[0] != event.Service("sip") {
		t.Errorf("services %v", got)
	}
}
