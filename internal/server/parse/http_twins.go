package parse

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxWebTwins = 4096            // sources whose guesses are remembered
	webTwinLife = 5 * time.Minute // how far apart, by their own times, the lines of one request may be
)

// webLine says which line of a guess with Basic's credentials a message is.
type webLine uint8

const (
	notWeb       webLine = iota
	webAccess            // the access log's: 401 for a request with credentials
	webError             // Apache's error log's: the credentials were wrong
	webErrorOnly         // the same log's: they were right, but not enough, so that the access log's is no guess
)

// webTwins settles which line of a guess counts where both of a server's logs come in: the one that comes first, whichever
// that is for each guess, while the other restates it. So a guess counts once whether one of the logs is read or both,
// and whatever their order. What is remembered is, for each host and source, how many guesses of each log wait for their
// other line; it is bounded, and where there are too many sources all is forgotten: then a guess whose lines
// come before and after may count twice.
type webTwins struct {
	bySource map[webSource]*webOwed
}

// webTwin is what of a line tells its guess's other line.
type webTwin struct {
	line     webLine
	repeated int
}

type webSource struct {
	host   string
	source netip.Addr
}

type webOwed struct {
	access, error int // lines of that log whose twin has not come
	last          time.Time
}

func (t *webTwins) settle(e *event.Event, tw webTwin) {
	line, repeated := tw.line, tw.repeated
	if !e.Source.IsValid() {
		return
	}
	k := webSource{e.Host, e.Source}
	o := t.bySource[k]
	switch {
	case o == nil:
		if t.bySource == nil || len(t.bySource) >= maxWebTwins {
			t.bySource = make(map[webSource]*webOwed)
		}
		o = &webOwed{}
		t.bySource[k] = o
	case e.Time.Sub(o.last) > webTwinLife:
		*o = webOwed{}
	}
	mine, other := &o.access, &o.error
	if line != webAccess {
		mine, other = other, mine
	}
	restated := min(*other, repeated)
	*other -= restated
	*mine += repeated - restated
	o.last = e.Time
	if e.Kind != event.AuthFailed {
		return
	}
	e.Attempts = repeated - restated
	if e.Attempts == 0 {
		e.Kind = event.Context
	}
}
