package pool

import (
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Egress returns the policy of a pot: the strictest that its leases ask for, where those that ask for none have
// the default. A pot without a lease has the default's too, but is never recorded for.
func (b *Book) Egress(k event.PotKey, byDefault event.EgressPolicy) event.EgressPolicy {
	b.mu.Lock()
	defer b.mu.Unlock()
	policy := event.EgressRecord
	if b.pots[k] == 0 {
		return byDefault.Stricter(event.EgressSinkhole)
	}
	for c, e := range b.held {
		if c.key != k {
			continue
		}
		asked := e.Egress
		if asked == "" {
			asked = byDefault
		}
		policy = policy.Stricter(asked)
	}
	return policy
}

// Target returns where the attacker of a pot believes to be: the newest lease's target that is known.
func (b *Book) Target(k event.PotKey) event.Target {
	b.mu.Lock()
	defer b.mu.Unlock()
	var at event.Target
	var newest time.Time
	for c, e := range b.held {
		if c.key == k && e.Target.IsValid() && e.Created.After(newest) {
			at, newest = e.Target, e.Created
		}
	}
	return at
}

// At returns the pot that has a place in the network, if an attacker has it.
func (p *Pots) At(index int) (event.Pot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.pots {
		if t.index == index {
			return p.describe(t), true
		}
	}
	return event.Pot{}, false
}

// Places returns the places of the attackers' pots in the network.
func (p *Pots) Places() map[int]event.PotKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[int]event.PotKey, len(p.pots))
	for k, t := range p.pots {
		out[t.index] = k
	}
	return out
}
