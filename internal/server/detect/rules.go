// Package detect finds offences in the stream of events: windows over event time as the rules say,
// deterministic, bounded, and restartable without forgetting.
package detect

import (
	_ "embed"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Rules is a rule set.
type Rules struct {
	Rules    []Rule
	Examples []Example
}

// Rule makes a source, or an account, an offence: Count events of Kinds about Service, alike in all of
// GroupBy, Within that time of each other.
type Rule struct {
	Name       string
	Service    event.Service
	Kinds      []event.Kind
	GroupBy    []Field
	IPv6Prefix int // bits by which IPv6 sources are alike: 64 or 128
	Count      int
	Within     time.Duration
	Action     event.Action
	For        time.Duration // how long to redirect, and how long the offence is open
}

// Want reports whether a rule looks at events of a kind about a service.
func (r Rules) Want(s event.Service, k event.Kind) bool {
	for i := range r.Rules {
		if r.Rules[i].Service == s && slices.Contains(r.Rules[i].Kinds, k) {
			return true
		}
	}
	return false
}

// Field is what a rule groups events by.
type Field string

// Fields to group by.
const (
	BySource  Field = "source"
	ByHost    Field = "host"
	ByAccount Field = "account"
)

// Groups reports whether the rule groups by f.
func (r Rule) Groups(f Field) bool { return slices.Contains(r.GroupBy, f) }

// Example is log lines and how often each rule must fire on them.
type Example struct {
	Name     string
	Line     int // in the file
	Lines    []string
	Offences map[string]int // by rule; 0 for a rule that is absent
}

// Bounds of a rule's numbers.
const (
	maxCount = 10_000
	maxTime  = 366 * 24 * time.Hour
)

//go:embed rules/default.yaml
var defaultRules []byte

// DefaultRulesYAML returns the text of the rules as shipped.
func DefaultRulesYAML() []byte { return slices.Clone(defaultRules) }

// DefaultRules returns the rules as shipped.
func DefaultRules() Rules {
	r, err := ParseRules("default.yaml", defaultRules)
	if err != nil {
		panic(fmt.Sprintf("the rules as shipped are broken: %v", err))
	}
	return r
}

// LoadRules reads a rules file. Its error names every fault (see [ParseRules]).
func LoadRules(path string) (Rules, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Rules{}, fmt.Errorf("read rules: %w", err)
	}
	return ParseRules(path, data)
}
