package detect

import "github.com/kokkuri/kokkuri/internal/event"

// fields are what an event has, a bit for each.
type fields uint8

const (
	hasSource fields = 1 << iota
	hasHost
	hasAccount
	hasMethod
	hasResource
)

func fieldsOf(e *event.Event) (has fields) {
	if e.Source.IsValid() {
		has |= hasSource
	}
	if e.Host != "" {
		has |= hasHost
	}
	if e.Account != "" {
		has |= hasAccount
	}
	if e.Method != "" {
		has |= hasMethod
	}
	if e.Resource != "" {
		has |= hasResource
	}
	return has
}

// needs are the fields without which an event of the kind does not count for the rule.
func (s *ruleState) needs(k event.Kind) (need fields) {
	bits := map[Field]fields{BySource: hasSource, ByHost: hasHost, ByAccount: hasAccount, Method: hasMethod, Resource: hasResource}
	for _, f := range s.GroupBy {
		need |= bits[f]
	}
	if s.counts(k) {
		need |= bits[s.Distinct]
	}
	return need
}

// Want says whether an event could change what a detector with these rules finds: whether a rule looks at such, and it has what the rule
// groups by and counts. A login could, for all are remembered. What it returns is made once for many events, and safe for concurrent use.
func (r Rules) Want() func(*event.Event) bool {
	var states []*ruleState
	for _, rule := range r.Rules {
		states = append(states, newRuleState(rule))
	}
	t := newTable(states)
	type of struct {
		service event.Service
		needs   [numbered][]fields
	}
	needs := func(by *[numbered][]alike) (out [numbered][]fields) {
		for n, all := range by {
			for _, a := range all {
				for _, rule := range a.rules {
					out[n] = append(out[n], rule.needs(kinds()[n]))
				}
			}
		}
		return out
	}
	others := needs(&t.others)
	var named []of
	for s, by := range t.services {
		named = append(named, of{s, needs(by)})
	}
	return func(e *event.Event) bool {
		n := kindNumber(e.Kind)
		if n < 0 || e.Kind == event.AuthOK {
			return n >= 0
		}
		list := others[n]
		for i := range named {
			if named[i].service == e.Service {
				list = named[i].needs[n]
				break
			}
		}
		if len(list) == 0 {
			return false
		}
		has := fieldsOf(e)
		for _, need := range list {
			if need&^has == 0 {
				return true
			}
		}
		return false
	}
}
