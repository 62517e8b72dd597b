package sink

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	// Evidence of one pot: so many pieces at once, and so many a second.
	tellBurst = 400
	tellRate  = 4

	again        = 10 * time.Second // the same question or datagram is told once in this time
	maxRemember  = 512              // of what was told
	maxNames     = 1024             // that a pot was given addresses for
	forgetAfter  = time.Hour
	maxAccounts  = 4096
	mostAnswers  = 4
	maxNameBytes = 255
)

// account is what is remembered of a pot. The sink's lock guards it.
type account struct {
	pot    event.Pot
	last   time.Time
	open   int
	tokens float64
	filled time.Time
	lost   uint64 // pieces of evidence that are not told yet to be missing

	told  map[string]time.Time
	names map[netip.Addr]string // that were asked for, by what they were told
	order []netip.Addr
}

// accountLocked finds a pot's account.
func (s *Sink) accountLocked(p Pot) *account {
	now := time.Now()
	a := s.accounts[p.ID]
	if a == nil {
		if len(s.accounts) >= maxAccounts {
			s.forgetLocked(now, time.Minute)
		}
		a = &account{tokens: tellBurst, filled: now, told: make(map[string]time.Time), names: make(map[netip.Addr]string)}
		s.accounts[p.ID] = a
	}
	a.pot, a.last = p.Pot, now
	return a
}

// forgetLocked drops the accounts of pots that have been silent.
func (s *Sink) forgetLocked(now time.Time, silent time.Duration) {
	for id, a := range s.accounts {
		if a.open == 0 && a.lost == 0 && now.Sub(a.last) > silent {
			delete(s.accounts, id)
		}
	}
}

// tell keeps a piece of evidence, if its pot has not left too many. once is what it repeats; empty: nothing.
func (s *Sink) tell(p Pot, e event.Egress, once string) {
	s.mu.Lock()
	a := s.accountLocked(p)
	now := a.last
	if once != "" {
		if at, ok := a.told[once]; ok && now.Sub(at) < again {
			s.mu.Unlock()
			return
		}
		if len(a.told) >= maxRemember {
			clear(a.told)
		}
		a.told[once] = now
	}
	ok := a.spend(now)
	if !ok {
		s.counts.Untold++
	}
	s.mu.Unlock()
	if ok {
		s.o.Note(p.Pot, event.Evidence{Kind: event.EvidenceEgress, Egress: &e})
	}
}

func (a *account) spend(now time.Time) bool {
	a.tokens = min(tellBurst, a.tokens+tellRate*now.Sub(a.filled).Seconds())
	a.filled = now
	if a.tokens < 1 {
		a.lost++
		return false
	}
	a.tokens--
	return true
}

// tellUntold says of each pot how much is missing of what it did.
func (s *Sink) tellUntold() {
	now := time.Now()
	type loss struct {
		pot   event.Pot
		count uint64
	}
	var losses []loss
	s.mu.Lock()
	for _, a := range s.accounts {
		if a.lost > 0 {
			losses = append(losses, loss{a.pot, a.lost})
			a.lost = 0
		}
	}
	s.forgetLocked(now, forgetAfter)
	s.mu.Unlock()
	for _, l := range losses {
		s.o.Note(l.pot, event.Evidence{Kind: event.EvidenceEgress, Egress: &event.Egress{What: "dropped", Count: l.count}})
	}
}

// remember notes which name a pot was given addresses for.
func (s *Sink) remember(p Pot, name string, addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accountLocked(p)
	for _, addr := range addrs {
		if _, ok := a.names[addr]; !ok {
			if len(a.order) >= maxNames {
				delete(a.names, a.order[0])
				a.order = a.order[1:]
			}
			a.order = append(a.order, addr)
		}
		a.names[addr] = name
	}
}

// nameOf returns the name that a pot was given an address for.
func (s *Sink) nameOf(p Pot, addr netip.Addr) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, ok := s.accountLocked(p).names[addr]
	return name, ok
}
