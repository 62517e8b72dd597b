package server

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// weight says whether an event is one that is evaluated.
type weight int

const (
	counts weight = iota
	untrusted
	bySecondRoad
)

// weigher weighs the events of one batch: what is the same for all of them is found out once.
type weigher struct {
	p        *pipeline
	batch    *event.Batch
	trusted  bool
	offsets  [2]time.Duration // of the times with a zone and without
	services []weighed
}

type weighed struct {
	service  event.Service
	admitted bool
}

func (p *pipeline) weigher(b *event.Batch) weigher {
	w := weigher{p: p, batch: b, trusted: b.Road != event.RoadSyslogUDP || p.trusted(b.Origin), services: p.weighed[:0]}
	for i := range w.offsets {
		w.offsets[i] = p.clocks.offset(w.clock(i))
	}
	return w
}

// clock names a clock of the batch as a latest counts them.
func (w *weigher) clock(i int) clockKey { return clockKey{w.batch.Host, w.batch.Road, i == 1} }

// weigh gives an event its host and a plausible time, and says whether it counts.
func (w *weigher) weigh(e *event.Event, n parse.Note) weight {
	e.Host, e.Time = w.batch.Host, corrected(e.Time, w.offsets[b2i(n.Local)], w.batch.Received)
	switch {
	case !w.trusted:
		return untrusted
	case !n.Beside && !w.admits(e.Service): // what is beside the log claims no road
		return bySecondRoad
	}
	return counts
}

// admits says whether the batch's road is the one that the host's service has.
func (w *weigher) admits(s event.Service) bool {
	for _, of := range w.services { // there are few
		if of.service == s {
			return of.admitted
		}
	}
	ok := w.p.roads.admit(roadKey{w.batch.Host, s}, w.batch.Road, w.batch.Received)
	w.services = append(w.services, weighed{s, ok})
	w.p.weighed = w.services
	return ok
}

// learn holds the latest times that the batch's lines state against when they came; what can't be trusted teaches nothing.
func (w *weigher) learn(last *latest) {
	if !w.trusted {
		return
	}
	for i, stated := range last {
		w.p.clocks.learn(w.clock(i), stated, w.batch.Received)
	}
}

// trusted reports whether an operator vouched for the network that a UDP line came from.
func (p *pipeline) trusted(origin string) bool {
	a, err := netip.ParseAddr(origin)
	if err != nil {
		if ap, err := netip.ParseAddrPort(origin); err == nil {
			a = ap.Addr()
		}
	}
	for _, n := range p.trustUDP {
		if n.Contains(event.Canonical(a)) {
			return true
		}
	}
	return false
}

// plausible is the time that a line states, unless it is in the future or so far back that the
// sender's clock must be wrong.
func plausible(stated, received time.Time) time.Time {
	const ahead, behind = 5 * time.Minute, 7 * 24 * time.Hour
	if stated.IsZero() || stated.After(received.Add(ahead)) || stated.Before(received.Add(-behind)) {
		return received
	}
	return stated
}
