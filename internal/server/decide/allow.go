package decide

import (
	"net/netip"
	"sync"

	"github.com/gaissmai/bart"
)

// Allow is the list of prefixes that are never redirected. It is safe for concurrent use.
type Allow struct {
	mu    sync.RWMutex
	table bart.Lite
}

// NewAllow makes a list.
func NewAllow(prefixes ...netip.Prefix) *Allow {
	a := &Allow{}
	for _, p := range prefixes {
		a.table.Insert(p.Masked())
	}
	return a
}

// Add puts a prefix on the list.
func (a *Allow) Add(p netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.Insert(p.Masked())
}

// Remove takes a prefix off the list.
func (a *Allow) Remove(p netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.Delete(p.Masked())
}

// Covers reports whether any address of the source is on the list: a /64 of which one address is
// allowed is not redirected at all.
func (a *Allow) Covers(source netip.Prefix) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.table.OverlapsPrefix(source)
}
