package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Apply brings the book to the leases that the server knew of when it was asked. Leases that were
// granted meanwhile or a moment before stay.
func (b *Book) Apply(desired []event.Lease, asked time.Time) {
	var ended []event.Lease
	b.mu.Lock()
	known := make(map[string]bool, len(desired))
	now := b.o.Now()
	for _, d := range desired {
		known[d.ID] = true
		if e := b.leases[d.ID]; e != nil {
			if e.Touched.Before(asked) && (!e.Expires.Equal(d.Expires) || e.Egress != d.Egress) {
				e.Expires, e.Egress = d.Expires, d.Egress
				b.markDirty()
			}
			continue
		}
		if err := b.adoptLocked(d, now); err != nil {
			b.log.Warn("lease that the server knows of cannot be taken over", "lease", d.ID, "error", err)
		}
	}
	for id, e := range b.leases {
		if !known[id] && e.Touched.Before(asked.Add(-adoptGrace)) {
			b.endLocked(e)
			ended = append(ended, e.copy())
		}
	}
	b.settled = true
	b.mu.Unlock()
	for _, l := range ended {
		b.o.Ended(l)
	}
}

// adoptLocked takes over a lease that was granted by this node and then lost.
func (b *Book) adoptLocked(d event.Lease, now time.Time) error {
	if !d.Expires.After(now) {
		return nil
	}
	if !slices.Contains(b.o.Advertise, d.Endpoint.Addr()) ||
		d.Endpoint.Port() < b.o.Ports.First || d.Endpoint.Port() > b.o.Ports.Last {
		return fmt.Errorf("endpoint %s is not of this node", d.Endpoint)
	}
	if b.find(d.Attacker, d.Host, d.Service) != nil {
		return errors.New("its attacker has another lease for the same service")
	}
	seen, local, err := b.seenOf(event.LeaseRequest{Attacker: d.Attacker, Host: d.Host, Seen: d.Seen})
	if err != nil {
		return err
	}
	d.Seen, d.Node = seen, b.o.Node
	e := &entry{Lease: d, Local: local, Touched: now}
	for _, s := range e.sources() {
		if b.slots[s] != nil {
			return fmt.Errorf("endpoint %s is taken", d.Endpoint)
		}
	}
	for _, s := range e.sources() {
		delete(b.resting, s)
		b.slots[s] = e
	}
	b.keep(e)
	b.markDirty()
	return nil
}

// Run ends leases that expire, and keeps the file, until ctx is done.
func (b *Book) Run(ctx context.Context) error {
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	save := time.NewTimer(saveDelay)
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			return b.Save()
		case <-tick.C:
			b.expire()
		case <-b.dirty:
			save.Reset(saveDelay)
		case <-save.C:
			if err := b.Save(); err != nil {
				b.log.ErrorContext(ctx, "leases are not saved", "error", err)
			}
		}
	}
}

func (b *Book) expire() {
	var ended []event.Lease
	b.mu.Lock()
	now := b.o.Now()
	for _, e := range b.leases {
		if !e.Expires.After(now) {
			b.endLocked(e)
			ended = append(ended, e.copy())
		}
	}
	for k, left := range b.left {
		if !now.Before(left.Add(b.o.KeepPots)) {
			delete(b.left, k)
			b.markDirty()
		}
	}
	for s, until := range b.resting {
		if !until.After(now) {
			delete(b.resting, s)
		}
	}
	b.mu.Unlock()
	for _, l := range ended {
		b.o.Ended(l)
	}
}

func (b *Book) markDirty() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}
