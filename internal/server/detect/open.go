package detect

import (
	"maps"
	"slices"
	"time"
)

// Close ends an open offence: the next events of the group, or of the one who contributed to it, count anew. It reports whether
// it was open.
func (d *Detector) Close(offenceID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.byID[offenceID]; g != nil {
		d.drop(g)
		return true
	}
	g := d.parts[offenceID]
	if g != nil {
		d.untell(g, offenceID)
	}
	return g != nil
}

// CloseGroup ends the offence of a rule's group, if one is open.
func (d *Detector) CloseGroup(rule string, by Group) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rule(rule)
	if r == nil {
		return false
	}
	key, ok := r.shape.keyOfGroup(by)
	if !ok {
		return false
	}
	g := d.subjects.find(d.subjects.hash(&key, d.clocks.all), &key).group(r)
	if g == nil || g.open == nil {
		return false
	}
	d.drop(g)
	return true
}

func (d *Detector) rule(name string) *ruleState {
	for _, r := range d.rules {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// OpenOffence is an offence that is open. Those of contributors come with the group to which they contributed.
type OpenOffence struct {
	ID    string
	Rule  string
	Group Group
	Until time.Time // by the events' time

	Contributor bool // it is of one who contributed to the group's
}

// Open lists the open offences, the longest open first.
func (d *Detector) Open() []OpenOffence {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []OpenOffence
	for g := d.open.oldest(); g != nil; g = g.newer {
		by, until := g.of.key.group(), timeOf(g.open.until)
		out = append(out, OpenOffence{ID: g.open.offence, Rule: g.rule.Name, Group: by, Until: until})
		for _, id := range slices.Sorted(maps.Values(g.open.told)) {
			out = append(out, OpenOffence{ID: id, Rule: g.rule.Name, Group: by, Until: until, Contributor: true})
		}
	}
	return out
}
