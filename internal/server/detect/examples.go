package detect

import (
	"errors"
	"fmt"
	"maps"
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
func TestRules(path string) (TestReport, error) {
	rules, err := LoadRules(path)
	if err != nil {
		return TestReport{}, err
	}
	report := rules.RunExamples()
	var faults []error
	for _, e := range report.Examples {
		if !e.OK {
			faults = append(faults, fmt.Errorf("%s:%d: example %q: %w: found %s; expected %s", path, e.Line, e.Name, ErrExample, counts(e.Got), counts(e.Want)))
		}
	}
	return report, errors.Join(faults...)
}

// RunExamples runs each example through rules of its own set that have seen nothing else.
func (r Rules) RunExamples() TestReport {
	var report TestReport
	for _, rule := range r.Rules {
		report.Rules = append(report.Rules, rule.Name)
	}
	// Examples have times of any year, or none: a fixed leap year makes them mean the same on any day.
	ref := time.Date(2028, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, e := range r.Examples {
		got := map[string]int{}
		d := New(Options{Rules: r})
		var p parse.Parser
		for i, line := range e.Lines {
			for _, o := range d.Observe(event.Position{Sequence: uint64(i) + 1}, p.Line([]byte(line), ref), []byte(line)) {
				got[o.Rule]++
			}
		}
		want := maps.Clone(e.Offences)
		maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
		report.Examples = append(report.Examples, ExampleResult{Name: e.Name, Line: e.Line, OK: maps.Equal(got, want), Want: want, Got: got})
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
