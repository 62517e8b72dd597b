package decide

import (
	"sync"
	"time"
)

// Breaker stops redirecting where a host gets more offenders than can be true: past a number of
// sources within an hour something else is wrong, such as an account server that is down.
// It is safe for concurrent use.
type Breaker struct {
	limit int

	mu    sync.Mutex
	times map[string][]time.Time // per host, oldest first, at most limit
}

// NewBreaker allows limit redirects per host and hour; 0 allows any number.
func NewBreaker(limit int) *Breaker {
	return &Breaker{limit: limit, times: make(map[string][]time.Time)}
}

// Allow counts a redirect and reports whether it may be.
func (b *Breaker) Allow(host string, now time.Time) bool {
	if b.limit <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tripped(host, now) {
		return false
	}
	b.times[host] = append(b.times[host], now)
	return true
}

// Tripped reports whether a host's breaker is open now.
func (b *Breaker) Tripped(host string, now time.Time) bool {
	if b.limit <= 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tripped(host, now)
}

func (b *Breaker) tripped(host string, now time.Time) bool {
	times := b.times[host]
	for len(times) > 0 && now.Sub(times[0]) >= time.Hour {
		times = times[1:]
	}
	b.times[host] = times
	return len(times) >= b.limit
}

// Reset closes every breaker, as an operator's resume does.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.times)
}
