package decide

import (
	"net/netip"
	"sync"
	"time"
)

// Breaker stops redirecting where a host gets more offenders than can be true: past a number of
// sources within an hour something else is wrong, such as an account server that is down.
// It is safe for concurrent use.
type Breaker struct {
	limit int

	mu   sync.Mutex
	last map[string]map[netip.Prefix]time.Time // per host and source, at most limit sources
}

// NewBreaker allows limit sources per host and hour; 0 allows any number.
func NewBreaker(limit int) *Breaker {
	return &Breaker{limit: limit, last: make(map[string]map[netip.Prefix]time.Time)}
}

// Allow counts a source and reports whether it may be redirected.
func (b *Breaker) Allow(host string, source netip.Prefix, now time.Time) bool {
	if b.limit <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sources := b.current(host, now)
	if _, known := sources[source]; !known && len(sources) >= b.limit {
		return false
	}
	sources[source] = now
	return true
}

// Tripped reports whether a host's breaker is open now.
func (b *Breaker) Tripped(host string, now time.Time) bool {
	if b.limit <= 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.current(host, now)) >= b.limit
}

// current are the sources of the last hour.
func (b *Breaker) current(host string, now time.Time) map[netip.Prefix]time.Time {
	sources, ok := b.last[host]
	if !ok {
		sources = make(map[netip.Prefix]time.Time)
		b.last[host] = sources
	}
	for s, at := range sources {
		if now.Sub(at) >= time.Hour {
			delete(sources, s)
		}
	}
	return sources
}

// Reset closes every breaker, as an operator's resume does.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.last)
}
