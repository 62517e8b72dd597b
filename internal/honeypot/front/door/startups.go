package door

import (
	"math/rand/v2"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Startups bound the connections that have not logged in: from Begin on a part of the new ones is refused, Rate of a
// hundred at first, all of them at Full (sshd_config's MaxStartups). An attacker has its host for itself, and counts alone.
type Startups struct{ Begin, Rate, Full int }

// exceeded is what OpenSSH tells who is refused.
const exceeded = "Exceeded MaxStartups\r\n"

func (s Startups) orDefault() Startups {
	if s.Full == 0 {
		return Startups{Begin: 10, Rate: 30, Full: 100}
	}
	return s
}

// refuses decides on a new connection beside so many, as OpenSSH's should_drop_connection does; random is below 100.
func (s Startups) refuses(others int, random func() int) bool {
	switch {
	case others < s.Begin:
		return false
	case others >= s.Full || s.Rate >= 100:
		return true
	}
	p := (100-s.Rate)*(others-s.Begin)/(s.Full-s.Begin) + s.Rate
	return random() < p
}

// lobby counts who has not logged in yet.
type lobby struct {
	mu sync.Mutex
	in map[event.PotKey]int
}

func newLobby() *lobby { return &lobby{in: make(map[event.PotKey]int)} }

// enter counts one in, unless it is refused; leave may be called any number of times.
func (l *lobby) enter(k event.PotKey, bounds Startups) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bounds.orDefault().refuses(l.in[k], func() int { return rand.IntN(100) }) { //nolint:gosec // no secret
		return func() {}, false
	}
	l.in[k]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.in[k]--; l.in[k] == 0 {
			delete(l.in, k)
		}
	}), true
}
