package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	// nearTime is how far times may lie apart that say the same: lines wait to be sent.
	nearTime = 2 * time.Minute
	// zoneStep is what zones' offsets are multiples of.
	zoneStep = 15 * time.Minute
	// maxOffset bounds what is mended: zones lie within 14 hours, and a clock that is wronger than days needs a person.
	maxOffset = 48 * time.Hour

	// How long a clock must be off by the same before that is believed. A line can't come before it was written, so
	// that one ahead soon tells; one behind may only have waited.
	aheadTimes, aheadFor   = 3, 30 * time.Second
	behindTimes, behindFor = 10, 10 * time.Minute

	maxClocks = 65_536
)

// clockKey names times that are off together: of a host's lines by one road those with a zone and those without, which
// are read as UTC.
type clockKey struct {
	Host  string
	Road  event.Road
	Local bool
}

// hostClock is by how much a host's times are ahead of when its lines are collected, and what they may be ahead by.
type hostClock struct {
	Offset    time.Duration `json:"offset"`
	Candidate time.Duration `json:"candidate"`
	Since     time.Time     `json:"since"`
	Seen      int           `json:"seen"`
}

// clocks mends times of hosts whose clock or zone is off. RFC 3164's times have no zone, so that a host elsewhere is off
// by its zone's offset, which changes twice a year. Of each batch the latest time is held against when it was collected:
// what is off by the same again and again is believed, as a zone's offset where it is one, and taken away. What it decides
// depends on the stream alone, so that a replay decides the same. It isn't safe for concurrent use.
type clocks struct {
	by   map[clockKey]*hostClock
	full bool // more hosts came than are kept
}

// offset is what a clock is known to be off by.
func (c *clocks) offset(k clockKey) time.Duration {
	if h := c.by[k]; h != nil {
		return h.Offset
	}
	return 0
}

// corrected is a stated time without what its clock is off by, if that is plausible.
func corrected(stated time.Time, off time.Duration, received time.Time) time.Time {
	if off != 0 && !stated.IsZero() {
		stated = stated.Add(-off)
	}
	return plausible(stated, received)
}

// learn takes the latest time that a batch's lines state.
func (c *clocks) learn(k clockKey, stated, received time.Time) {
	if stated.IsZero() || received.IsZero() {
		return
	}
	ahead := stated.Sub(received)
	h := c.by[k]
	if h == nil {
		if len(c.by) >= maxClocks {
			c.full = true
			return
		}
		if c.by == nil {
			c.by = map[clockKey]*hostClock{}
		}
		h = &hostClock{}
		c.by[k] = h
	}
	switch {
	case near(ahead, h.Offset):
		h.Seen = 0
		return
	case ahead.Abs() > maxOffset:
		h.Seen = 0
		return
	case h.Seen == 0 || !near(ahead, h.Candidate):
		h.Candidate, h.Since, h.Seen = ahead, received, 0
	case ahead > h.Candidate:
		h.Candidate = ahead // it waited less
	}
	h.Seen++
	times, long := behindTimes, behindFor
	if ahead > h.Offset {
		times, long = aheadTimes, aheadFor
	}
	if h.Seen >= times && received.Sub(h.Since) >= long {
		h.Offset, h.Seen = rounded(h.Candidate), 0
	}
}

func near(a, b time.Duration) bool { return (a - b).Abs() <= nearTime }

// rounded is the offset of a zone where one is near, and otherwise what a clock is off by.
func rounded(d time.Duration) time.Duration {
	if zone := d.Round(zoneStep); near(d, zone) {
		return zone
	}
	return d.Round(time.Second)
}

// off lists the clocks that are off, by host.
func (c *clocks) off() []clockState {
	out := c.snapshot()
	return slices.DeleteFunc(out, func(s clockState) bool { return s.Offset == 0 })
}

// clockState is a clock in a checkpoint.
type clockState struct {
	Host  string     `json:"host"`
	Road  event.Road `json:"road"`
	Local bool       `json:"local"`
	hostClock
}

func (c *clocks) snapshot() []clockState {
	out := make([]clockState, 0, len(c.by))
	for k, h := range c.by {
		if h.Offset != 0 || h.Seen > 0 {
			out = append(out, clockState{k.Host, k.Road, k.Local, *h})
		}
	}
	slices.SortFunc(out, func(a, b clockState) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Road, b.Road), cmp.Compare(b2i(a.Local), b2i(b.Local)))
	})
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *clocks) restore(states []clockState) {
	c.by = make(map[clockKey]*hostClock, len(states))
	for _, s := range states {
		h := s.hostClock
		c.by[clockKey{s.Host, s.Road, s.Local}] = &h
	}
}

// latest is the latest of a batch's times, with and without a zone.
type latest [2]time.Time

func (l *latest) add(local bool, t time.Time) {
	if at := &l[b2i(local)]; t.After(*at) {
		*at = t
	}
}
