// Package detect finds offences in the stream of events: windows over event time as the rules say,
// deterministic, bounded, and restartable without forgetting.
package detect

import (
	"errors"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// Rules is a rule set.
type Rules struct {
	Rules    []Rule
	Lists    []List
	Examples []Example
	Patterns *parse.Patterns // of software that has no parser of its own; nil: none
}

// Rule makes a source, or an account, an offence: Count events of Kinds about one of Services, alike in all
// of GroupBy, Within that time of each other.
type Rule struct {
	Name  string
	About string // what it is for, in a sentence
	File  string // that it was read from
	Line  int    // in the file

	sourceIn place // of the key

	Services []event.Service // nil: any
	Kinds    []event.Kind
	If       *Condition // nil: none
	SourceIn string     // list that the source must be on; empty: none

	GroupBy    []Field
	IPv4Prefix int // bits by which IPv4 sources are alike: 8 to 32
	IPv6Prefix int // bits by which IPv6 sources are alike: 32 to 128

	Count    int        // guesses, or events that are no guesses; with Distinct: different values
	Distinct Field      // what Count counts the different values of; empty: it counts guesses
	Then     event.Kind // the rule fires with an event of this kind after Count others; empty: with the last of them
	// Contributors, where not 0, makes every source that failed so often, and is not known to have logged in
	// anywhere, an offender of its own when a rule fires that groups otherwise, unless it only alerts.
	Contributors int
	Within       time.Duration

	Action   event.Action
	Severity event.Severity
	Scope    event.Scope
	Egress   event.EgressPolicy // empty: as the node does by default
	// For says how long to redirect: the first time, the second, and so on; the last holds for all later ones.
	// The first is also how long the offence is open.
	For []time.Duration
}

// Field is what a rule groups events by, or counts the different values of.
type Field string

// Fields of events. To group by: the first three; to count: all but the account's host.
const (
	BySource  Field = "source"
	ByHost    Field = "host"
	ByAccount Field = "account"
	Method    Field = "method"
	Resource  Field = "resource"
)

// Groups reports whether the rule groups by f.
func (r Rule) Groups(f Field) bool { return slices.Contains(r.GroupBy, f) }

// Reasons why a rule can't redirect.
var (
	errNoSource = errors.New("without source in group_by, and without contributors, there is nobody to redirect")
	errNoHost   = errors.New("without host in group_by the redirect needs scope: fleet")
	errWide     = errors.New("a network wider than one attacker is not redirected: ipv4_prefix must be 32 and ipv6_prefix 64 or 128")
)

// CanRedirect says why the rule could not redirect, whatever its action is; nil where it can.
func (r Rule) CanRedirect() error {
	switch {
	case r.Contributors > 0:
	case !r.Groups(BySource):
		return errNoSource
	case r.IPv4Prefix != 32 || r.IPv6Prefix != 64 && r.IPv6Prefix != 128:
		return errWide
	}
	if !r.Groups(ByHost) && r.Scope != event.ScopeFleet {
		return errNoHost
	}
	return nil
}

// List is a list of addresses and networks that somebody else keeps.
type List struct {
	Name       string
	File       string // path; empty where it comes from a URL
	URL        string
	Refresh    time.Duration // how often it is read again
	MaxEntries int           // a longer one is refused
	Optional   bool          // a file that isn't there is an empty list
}

// Example is log lines and how often each rule must fire on them.
type Example struct {
	Name     string
	File     string
	Line     int // in the file
	Lines    []string
	Lists    map[string][]string // what is on which list
	Offences map[string]int      // by rule; 0 for a rule that is absent

	key string // in the file
}

// place is where a key is in its file.
type place struct {
	line int
	key  string
}

// Bounds of a rule set.
const (
	maxCount        = 10_000
	maxDistinct     = 256
	maxTime         = 366 * 24 * time.Hour
	maxSteps        = 8
	maxRules        = 1000
	maxListEntries  = 2_000_000
	usualEntries    = 200_000
	usualRefresh    = time.Hour
	shortestRefresh = time.Minute
)

// Find returns a rule by its name.
func (r Rules) Find(name string) (Rule, bool) {
	i := slices.IndexFunc(r.Rules, func(x Rule) bool { return x.Name == name })
	if i < 0 {
		return Rule{}, false
	}
	return r.Rules[i], true
}

// Override is what an operator says of a rule; it goes before what the file says.
type Override struct {
	Rule     string
	Disabled bool
	Redirect bool
}

// Apply returns the rules as overrides leave them: without those that are disabled, and redirecting where that
// is turned on. An override of a rule that is no more, or can't redirect, changes nothing.
func (r Rules) Apply(overrides []Override) Rules {
	by := map[string]Override{}
	for _, o := range overrides {
		by[o.Rule] = o
	}
	out := r
	out.Rules = nil
	for _, rule := range r.Rules {
		o := by[rule.Name]
		if o.Disabled {
			continue
		}
		if o.Redirect && rule.CanRedirect() == nil {
			rule.Action = event.ActionRedirect
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// merge adds the rules of another set; those of this one go before others of the same name.
func (r *Rules) merge(other Rules) {
	for _, rule := range other.Rules {
		if _, ok := r.Find(rule.Name); !ok {
			r.Rules = append(r.Rules, rule)
		}
	}
	for _, l := range other.Lists {
		if !slices.ContainsFunc(r.Lists, func(x List) bool { return x.Name == l.Name }) {
			r.Lists = append(r.Lists, l)
		}
	}
}

func (r Rule) String() string { return "rule " + r.Name }
