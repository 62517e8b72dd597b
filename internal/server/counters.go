package server

import (
	"maps"
	"sync"
)

// counters count what came in and what was left out, by name and label. It is safe for concurrent use.
type counters struct {
	mu     sync.Mutex
	values map[string]map[string]int64
}

// labelsPerName bounds the labels of one counter; what is beyond is counted under "other".
const labelsPerName = 256

func newCounters() *counters { return &counters{values: map[string]map[string]int64{}} }

func (c *counters) add(name, label string) { c.addN(name, label, 1) }

func (c *counters) addN(name, label string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, ok := c.values[name]
	if !ok {
		by = map[string]int64{}
		c.values[name] = by
	}
	if _, ok := by[label]; !ok && len(by) >= labelsPerName {
		label = "other"
	}
	by[label] += n
}

// load takes over what was counted before a restart.
func (c *counters) load(values map[string]map[string]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values = values
}

// snapshot copies all counters.
func (c *counters) snapshot() map[string]map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]map[string]int64, len(c.values))
	for name, by := range c.values {
		out[name] = maps.Clone(by)
	}
	return out
}

// tally collects the counts of a batch of lines, so that counters are locked once for it. It is for one goroutine.
type tally []counted

type counted struct {
	name, label string
	n           int64
}

func (t *tally) add(name, label string, n int64) {
	for i := range *t { // there are few
		if c := &(*t)[i]; c.label == label && c.name == name {
			c.n += n
			return
		}
	}
	*t = append(*t, counted{name, label, n})
}

// flush adds what was collected to the counters.
func (t *tally) flush(to *counters) {
	for _, c := range *t {
		to.addN(c.name, c.label, c.n)
	}
	*t = (*t)[:0]
}
