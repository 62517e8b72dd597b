package explain

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// shards is how many detectors share the rules, whatever the number of processors: what they find must not depend on it.
const shards = 2

// shard is a detector with a part of the rules, which see the same events in the same order at the same time.
type shard struct {
	detector *detect.Detector
	bit      wanted
	want     func(*event.Event) bool // whether its detector is to see an event
	fired    []found
}

// wanted says which shards are to see an event, a bit for each.
type wanted uint8

// found are offences, with the index of the item that completed them.
type found struct {
	item     int
	offences []event.Offence
}

// newShards divides the rules: those that group alike stay together, since one search finds all their groups. text is how much is
// shown of a line that proves something, in bytes; negative for none.
func newShards(opts Options, text int) []*shard {
	rules := opts.Rules
	var sets [shards]detect.Rules
	for _, alike := range alikeRules(rules.Rules) {
		least := 0
		for i := range sets {
			if len(sets[i].Rules) < len(sets[least].Rules) {
				least = i
			}
		}
		sets[least].Rules = append(sets[least].Rules, alike...)
	}
	var out []*shard
	for _, set := range sets {
		if len(set.Rules) == 0 {
			continue
		}
		set.Lists = rules.Lists
		out = append(out, &shard{bit: 1 << len(out), want: set.Want(), detector: detect.New(detect.Options{
			Rules: set, MaxGroups: maxGroups / shards, MaxBytes: maxGroupBytes / shards, MaxOpen: maxOpen / shards, MaxLogins: -1, MaxText: text, OnList: opts.OnList,
		})})
	}
	return out
}

// alikeRules are the rules in sets of those that group alike, the greatest first.
func alikeRules(rules []detect.Rule) [][]detect.Rule {
	var sets [][]detect.Rule
	index := map[string]int{}
	for _, r := range rules {
		by := fmt.Sprint(r.GroupBy, r.IPv4Prefix, r.IPv6Prefix)
		i, ok := index[by]
		if !ok {
			i = len(sets)
			index[by] = i
			sets = append(sets, nil)
		}
		sets[i] = append(sets[i], r)
	}
	slices.SortStableFunc(sets, func(a, b []detect.Rule) int { return cmp.Compare(len(b), len(a)) })
	return sets
}

// wanted says which shards are to see an event.
func (r *run) wanted(e *event.Event) (by wanted) {
	for _, s := range r.shards {
		if s.want(e) {
			by |= s.bit
		}
	}
	return by
}

// block finds the offences of a block whose readings are settled.
func (s *shard) block(b *block) {
	s.fired = s.fired[:0]
	for i := range b.items {
		it := &b.items[i]
		if it.wants&s.bit == 0 {
			continue
		}
		if o := s.detector.Observe(event.Position{Sequence: uint64(it.line)}, it.event, it.text); len(o) > 0 {
			s.fired = append(s.fired, found{i, o})
		}
	}
}

// detect has all shards find the offences of a block, at the same time, and returns them in the order of their items.
func (r *run) detect(b *block) []found {
	var all sync.WaitGroup
	for _, s := range r.shards[1:] {
		all.Go(func() { s.block(b) })
	}
	if len(r.shards) > 0 {
		r.shards[0].block(b)
	}
	all.Wait()
	r.found = r.found[:0]
	for _, s := range r.shards {
		r.found = append(r.found, s.fired...)
	}
	slices.SortStableFunc(r.found, func(a, b found) int { return cmp.Compare(a.item, b.item) })
	return r.found
}
