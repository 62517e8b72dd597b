package decide

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Board keeps the desired state of every host: its live redirects and a revision that grows with each
// change. Revisions begin anew, under another epoch, with each start of the server. It is safe for concurrent use.
type Board struct {
	epoch string

	mu    sync.RWMutex
	hosts map[string]*desired
	byID  map[string]event.Redirect
	// live redirects of each offence
	offences map[string]int
}

type desired struct {
	revision  uint64
	redirects map[target]string // id of the redirect
}

// target is what there can be one redirect for on a host.
type target struct {
	source  netip.Prefix
	service event.Service
}

// NewBoard makes a board with these live redirects.
func NewBoard(live []event.Redirect) *Board {
	b := &Board{epoch: rand.Text(), hosts: make(map[string]*desired), byID: make(map[string]event.Redirect), offences: make(map[string]int)}
	for _, r := range live {
		b.Add(r)
	}
	return b
}

// Add sets a new redirect and returns the change that its host has to make; false where the source's
// service is redirected already.
func (b *Board) Add(r event.Redirect) (event.Change, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.host(r.Host)
	if _, taken := h.redirects[target{r.Source, r.Service}]; taken {
		return event.Change{}, false
	}
	h.redirects[target{r.Source, r.Service}] = r.ID
	if r.OffenceID != "" {
		b.offences[r.OffenceID]++
	}
	return b.put(h, r), true
}

// Replace changes a redirect and returns the change that its host has to make; false where it ended meanwhile.
func (b *Board) Replace(r event.Redirect) (event.Change, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.byID[r.ID]; !ok {
		return event.Change{}, false
	}
	return b.put(b.host(r.Host), r), true
}

func (b *Board) put(h *desired, r event.Redirect) event.Change {
	h.revision++
	b.byID[r.ID] = r
	c := event.Change{Revision: h.revision, Epoch: b.epoch}
	if r.Endpoint.IsValid() {
		c.Put = []event.Redirect{r}
	}
	return c
}

// Note changes what is known of a redirect without changing what the host has to do.
func (b *Board) Note(r event.Redirect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.byID[r.ID]; ok {
		b.byID[r.ID] = r
	}
}

// Delete takes a redirect away and returns the change that its host has to make.
func (b *Board) Delete(id string) (event.Change, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.byID[id]
	if !ok {
		return event.Change{}, false
	}
	delete(b.byID, id)
	if n := b.offences[r.OffenceID] - 1; n > 0 {
		b.offences[r.OffenceID] = n
	} else {
		delete(b.offences, r.OffenceID)
	}
	h := b.host(r.Host)
	h.revision++
	delete(h.redirects, target{r.Source, r.Service})
	return event.Change{Revision: h.revision, Epoch: b.epoch, Delete: []string{id}}, true
}

// Get returns a live redirect by its id.
func (b *Board) Get(id string) (event.Redirect, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.byID[id]
	return r, ok
}

// Find returns the live redirect of a source's service on a host.
func (b *Board) Find(host string, source netip.Prefix, service event.Service) (event.Redirect, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	h, ok := b.hosts[host]
	if !ok {
		return event.Redirect{}, false
	}
	r, ok := b.byID[h.redirects[target{source, service}]]
	return r, ok
}

// OfOffence reports whether any redirect of an offence is live.
func (b *Board) OfOffence(id string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.offences[id] > 0
}

// Live returns the live redirects that a filter wants, oldest first; a nil filter wants all.
func (b *Board) Live(want func(event.Redirect) bool) []event.Redirect {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []event.Redirect
	for _, r := range b.byID {
		if want == nil || want(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(x, y event.Redirect) int { return x.CreatedAt.Compare(y.CreatedAt) })
	return out
}

// Desired returns the whole desired state of a host.
func (b *Board) Desired(host string) event.Desired {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d := event.Desired{Epoch: b.epoch, Redirects: []event.Redirect{}}
	h, ok := b.hosts[host]
	if !ok {
		return d
	}
	d.Revision = h.revision
	for _, id := range h.redirects {
		if r := b.byID[id]; r.Endpoint.IsValid() {
			d.Redirects = append(d.Redirects, r)
		}
	}
	slices.SortFunc(d.Redirects, func(x, y event.Redirect) int { return x.CreatedAt.Compare(y.CreatedAt) })
	return d
}

// NextExpiry returns when the next redirect ends; zero where there is none.
func (b *Board) NextExpiry() time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var next time.Time
	for _, r := range b.byID {
		if next.IsZero() || r.ExpiresAt.Before(next) {
			next = r.ExpiresAt
		}
	}
	return next
}

func (b *Board) host(name string) *desired {
	h, ok := b.hosts[name]
	if !ok {
		h = &desired{redirects: make(map[target]string)}
		b.hosts[name] = h
	}
	return h
}
