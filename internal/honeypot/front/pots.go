package front

import (
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

const maxPots = 4096 // that are remembered

// Pots is what a handler remembers of its attackers' pots for as long as the process lives: at most 4,096 of them. Its zero value is
// ready; its methods may be called concurrently.
type Pots[T any] struct {
	mu sync.Mutex
	of map[event.PotKey]remembered[T]
}

type remembered[T any] struct {
	pot string
	is  T
}

// Get returns what is remembered of a pot; of another pot of the same attacker that is nothing.
func (p *Pots[T]) Get(k event.PotKey, pot string) (t T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.of[k]; ok && r.pot == pot {
		return r.is
	}
	return t
}

// Put remembers it, and forgets the attacker's earlier pot.
func (p *Pots[T]) Put(k event.PotKey, pot string, t T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.of[k]; p.of == nil || !known && len(p.of) >= maxPots {
		p.of = make(map[event.PotKey]remembered[T])
	}
	p.of[k] = remembered[T]{pot, t}
}
