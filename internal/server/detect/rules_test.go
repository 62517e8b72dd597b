package detect_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

func TestDefaultRules(t *testing.T) {
	t.Parallel()
	rules := detect.DefaultRules()
	want := []detect.Rule{
		{
			Name: "ssh-bruteforce", Service: event.SSH, Kinds: []event.Kind{event.AuthFailed}, GroupBy: []detect.Field{detect.BySource, detect.ByHost},
			IPv6Prefix: 64, Count: 5, Within: 2 * time.Minute, Action: event.ActionRedirect, For: 24 * time.Hour,
		},
		{
			Name: "ssh-account-guessing", Service: event.SSH, Kinds: []event.Kind{event.AuthFailed}, GroupBy: []detect.Field{detect.ByAccount, detect.ByHost},
			IPv6Prefix: 64, Count: 5, Within: 2 * time.Minute, Action: event.ActionAlert, For: time.Hour,
		},
	}
	if diff := cmp.Diff(want, rules.Rules); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(rules.Examples) < 7 {
		t.Errorf("only %d examples", len(rules.Examples))
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, detect.DefaultRulesYAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := detect.TestRules(path)
	if err != nil || len(report.Rules) != 2 || len(report.Examples) != len(rules.Examples) {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestRulesFiles holds each file of testdata/rules/bad against the error written in its last comment lines
// ("# want: …"), and those of good against none.
func TestRulesFiles(t *testing.T) {
	t.Parallel()
	bad, _ := filepath.Glob("testdata/rules/bad/*.yaml")
	good, _ := filepath.Glob("testdata/rules/good/*.yaml")
	if len(bad) < 20 || len(good) < 3 {
		t.Fatalf("%d bad and %d good files", len(bad), len(good))
	}
	for _, path := range append(bad, good...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if w, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, filepath.Base(path)+":"+strings.TrimSpace(w))
				}
			}
			_, err = detect.TestRules(path)
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "")
			}
			if diff := cmp.Diff(strings.Join(want, "\n"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if fault, ok := errors.AsType[*detect.RuleError](err); err != nil && !errors.Is(err, detect.ErrExample) && (!ok || fault.Line == 0) {
				t.Errorf("no RuleError with a line: %#v", err)
			}
		})
	}
}

func TestRulesFileMissing(t *testing.T) {
	t.Parallel()
	if _, err := detect.LoadRules(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(detect.DefaultRulesYAML())
	bad, _ := filepath.Glob("testdata/rules/*/*.yaml")
	for _, path := range bad {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := detect.ParseRules("fuzz.yaml", text)
		if err != nil {
			return
		}
		for _, r := range rules.Rules {
			if r.Name == "" || r.Count < 1 || r.Within < time.Second || r.For < time.Second || len(r.GroupBy) == 0 || len(r.Kinds) == 0 {
				t.Errorf("accepted %+v", r)
			}
		}
	})
}
