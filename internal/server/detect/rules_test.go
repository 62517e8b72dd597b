package detect_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// TestShippedRules runs the examples of the rules as shipped: each rule has one on which it fires.
func TestShippedRules(t *testing.T) {
	t.Parallel()
	rules := detect.DefaultRules()
	report := rules.RunExamples()
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	fires := map[string]bool{}
	for _, e := range report.Examples {
		for rule := range e.Want {
			fires[rule] = true
		}
	}
	for _, r := range rules.Rules {
		if !fires[r.Name] {
			t.Errorf("rule %s fires on no example", r.Name)
		}
		if r.About == "" {
			t.Errorf("rule %s does not say what it is for", r.Name)
		}
		// Decision 11: ssh alone is redirected until an operator says otherwise, and every rule that could be can be.
		if redirects := r.Action == event.ActionRedirect; redirects && !slices.Equal(r.Services, []event.Service{event.SSH}) || r.Action == event.ActionDryRun {
			t.Errorf("rule %s redirects %v as shipped", r.Name, r.Services)
		}
	}
	for name, text := range detect.ShippedFiles() {
		if _, err := detect.ParseRules(name, text); err != nil {
			t.Errorf("%s can't be used by itself: %v", name, err)
		}
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
	for _, text := range detect.ShippedFiles() {
		f.Add(text)
	}
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
			if r.Name == "" || r.Count < 1 || r.Within < time.Second || len(r.For) == 0 || r.For[0] < time.Second || len(r.GroupBy) == 0 || len(r.Kinds) == 0 {
				t.Errorf("accepted %+v", r)
			}
		}
	})
}
