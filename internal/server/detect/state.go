package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// mode says what a group keeps of its events.
type mode int

const (
	exact    mode = iota // one entry for each event
	bucketed             // one entry for all events of a 64th of the window
	distinct             // one entry for each value
)

const (
	maxExact = 32 // greatest count that is kept exactly
	buckets  = 64 // parts of a window, where it is not
	classes  = 4  // of groups, by how much they hold
)

// ruleState is a rule with its groups that count.
type ruleState struct {
	Rule

	mode   mode
	sig    string
	width  int64 // of a bucket, in nanoseconds
	shape  *shape
	onList func(netip.Addr) bool // nil where the rule has no list
	count  [classes]lru          // groups that count, by class and last event
}

func newRuleState(r Rule) *ruleState {
	s := &ruleState{Rule: r}
	switch {
	case r.Distinct != "":
		s.mode = distinct
	case r.Count > maxExact:
		s.mode = bucketed
	}
	s.width = max(int64(r.Within)/buckets, 1)
	s.sig = s.signature()
	return s
}

// signature says what a rule's groups are; where it changed, they can't be taken over.
func (s *ruleState) signature() string {
	r := s.Rule
	sig := fmt.Sprintf("%v %v %v %d %d %d %s %s %d %s %q", r.Services, r.Kinds, r.GroupBy, r.IPv4Prefix, r.IPv6Prefix, s.mode, r.Distinct, r.Then, r.Contributors, r.SourceIn, r.If)
	if s.mode == bucketed {
		sig += " " + time.Duration(s.width).String()
	}
	return sig
}

// counts says whether an event of this kind counts for the rule; otherwise it is the one that completes it.
func (s *ruleState) counts(k event.Kind) bool { return slices.Contains(s.Kinds, k) }

// numbered is how many kinds there are that rules may name.
const numbered = 4

// kinds are those that rules may name, by their numbers.
func kinds() [numbered]event.Kind {
	return [numbered]event.Kind{event.AuthFailed, event.AuthOK, event.Probe, event.Context}
}

// kindNumber numbers the kinds that rules may name; -1 for the others.
func kindNumber(k event.Kind) int {
	switch k {
	case event.AuthFailed:
		return 0
	case event.AuthOK:
		return 1
	case event.Probe:
		return 2
	case event.Context:
		return 3
	case event.None:
	}
	return -1
}

// shape is by what rules group.
type shape struct {
	bySource, byHost, byAccount bool
	ipv4, ipv6                  int
	id                          uint64 // among a detector's
	room                        int    // groups that a subject mostly has at most
}

func shapeOf(r Rule) shape {
	return shape{r.Groups(BySource), r.Groups(ByHost), r.Groups(ByAccount), r.IPv4Prefix, r.IPv6Prefix, 0, 0}
}

// alike are rules of one shape.
type alike struct {
	shape *shape
	rules []*ruleState
}

// table says which rules an event concerns, by service and kind.
type table struct {
	services map[event.Service]*[numbered][]alike
	others   [numbered][]alike // of a service that no rule names

	service event.Service // that was asked for last
	latest  *[numbered][]alike
}

func newTable(rules []*ruleState) table {
	t := table{services: map[event.Service]*[numbered][]alike{}}
	for _, r := range rules {
		for _, s := range r.Services {
			t.services[s] = &[numbered][]alike{}
		}
	}
	put := func(to []alike, r *ruleState) []alike {
		for i := range to {
			if to[i].shape == r.shape {
				to[i].rules = append(to[i].rules, r)
				return to
			}
		}
		return append(to, alike{r.shape, []*ruleState{r}})
	}
	add := func(to *[numbered][]alike, r *ruleState) {
		for _, k := range r.Kinds {
			to[kindNumber(k)] = put(to[kindNumber(k)], r)
		}
		if r.Then != "" {
			to[kindNumber(r.Then)] = put(to[kindNumber(r.Then)], r)
		}
	}
	for _, r := range rules {
		if r.Services == nil {
			add(&t.others, r)
		}
		for s, to := range t.services {
			if r.Services == nil || slices.Contains(r.Services, s) {
				add(to, r)
			}
		}
	}
	t.rooms()
	return t
}

// rooms finds out how many groups subjects have: as many as rules look at events of one kind, but for those that seldom do.
func (t *table) rooms() {
	of := func(kinds *[numbered][]alike) {
		for _, all := range kinds {
			for _, a := range all {
				n := 0
				for _, r := range a.rules {
					if !r.guarded() {
						n++
					}
				}
				if a.shape != nil {
					a.shape.room = max(a.shape.room, n, 1)
				}
			}
		}
	}
	of(&t.others)
	for _, kinds := range t.services {
		of(kinds)
	}
}

func (t *table) rules(e *event.Event) []alike {
	n := kindNumber(e.Kind)
	if n < 0 {
		return nil
	}
	if t.latest == nil || t.service != e.Service {
		t.service, t.latest = e.Service, &t.others
		if by, ok := t.services[e.Service]; ok {
			t.latest = by
		}
	}
	return t.latest[n]
}
