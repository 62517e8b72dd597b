package detect

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// ErrExample says that a rule set's examples did not come out as they say.
var ErrExample = errors.New("an example fails")

// ExampleResult is how one example came out.
type ExampleResult struct {
	Name string         `json:"name"`
	File string         `json:"file"`
	Line int            `json:"line"`
	OK   bool           `json:"ok"`
	Want map[string]int `json:"want"` // offences by rule
	Got  map[string]int `json:"got"`
}

// TestReport is the outcome of [TestRules].
type TestReport struct {
	Rules    []string        `json:"rules"`
	Examples []ExampleResult `json:"examples"`
}

// TestRules validates a rules file and runs its examples (`kokkuri rules test`). The error names every
// fault of the file, or every example that fails ([ErrExample]); then the report is whole.
func TestRules(path string, services ...event.Service) (TestReport, error) {
	rules, err := LoadRules(path, services...)
	if err != nil {
		return TestReport{}, err
	}
	report := rules.RunExamples()
	return report, report.Err()
}

// Err names every example that failed; nil where none did.
func (t TestReport) Err() error {
	var faults []error
	for _, e := range t.Examples {
		if !e.OK {
			faults = append(faults, fmt.Errorf("%s:%d: example %q: %w: found %s; expected %s", e.File, e.Line, e.Name, ErrExample, counts(e.Got), counts(e.Want)))
		}
	}
	return errors.Join(faults...)
}

// RunExamples runs each example through the rules of its own file, which have seen nothing else.
func (r Rules) RunExamples() TestReport {
	var report TestReport
	for _, rule := range r.Rules {
		report.Rules = append(report.Rules, rule.Name)
	}
	// Examples have times of any year, or none: a fixed leap year makes them mean the same on any day.
	ref := time.Date(2028, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, e := range r.Examples {
		got := map[string]int{}
		d := New(Options{Rules: r.of(e.File), OnList: e.onList})
		p := parse.New(parse.Options{Patterns: r.Patterns})
		for i, line := range e.Lines {
			for _, o := range d.Observe(event.Position{Sequence: uint64(i) + 1}, p.Line([]byte(line), ref), []byte(line)) {
				got[o.Rule]++
			}
		}
		want := maps.Clone(e.Offences)
		maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
		report.Examples = append(report.Examples, ExampleResult{Name: e.Name, File: e.File, Line: e.Line, OK: maps.Equal(got, want), Want: want, Got: got})
	}
	return report
}

// counts writes numbers of offences by rule.
func counts(m map[string]int) string {
	if len(m) == 0 {
		return "no offence"
	}
	var parts []string
	for _, rule := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d of %s", m[rule], rule))
	}
	return strings.Join(parts, ", ")
}

// of are the rules of a file.
func (r Rules) of(file string) Rules {
	out := Rules{Lists: r.Lists}
	for _, rule := range r.Rules {
		if rule.File == file {
			out.Rules = append(out.Rules, rule)
		}
	}
	return out
}

// onList answers from the lists of the example.
func (e Example) onList(list string, a netip.Addr) bool {
	for _, text := range e.Lists[list] {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(a) {
			return true
		}
	}
	return false
}
