package honeypot

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/tarpit"
)

// What an attacker meets for whom a full node has no pot. Who has one gets into it all the same.
const (
	OverflowBuiltin = "builtin" // the builtin front of SSH, where no guess is right; a tarpit at other services
	OverflowTarpit  = "tarpit"
	OverflowDrop    = "drop" // a closed connection
)

// overflowTold is how long after its last attacker the overflow is told of.
const overflowTold = time.Hour

// OverflowCounts are the connections for which there was no pot.
type OverflowCounts struct {
	Builtin, Tarpit, Drop uint64 // what they met
	Held                  int    // in the tarpit now
}

// overflow serves those for whom there is no pot.
type overflow struct {
	kind   string
	full   func(event.PotKey) bool
	tarpit *tarpit.Tarpit

	mu     sync.Mutex
	counts OverflowCounts
	last   time.Time
}

// newOverflow leaves half of a node's sessions to those who have pots.
func newOverflow(kind string, sessions int, full func(event.PotKey) bool) *overflow {
	return &overflow{kind: kind, full: full, tarpit: tarpit.New(tarpit.Options{Most: sessions / 2})}
}

// builtin reports whether an attacker meets the builtin front because there is no pot for it.
func (o *overflow) builtin(k event.PotKey) bool { return o.kind == OverflowBuiltin && o.full(k) }

// Serve implements front.Handler for the services that nothing but a pot speaks.
func (o *overflow) Serve(ctx context.Context, v *front.Visit) string {
	if o.kind == OverflowDrop {
		o.note(v, OverflowDrop)
		return front.NodeFull
	}
	o.note(v, OverflowTarpit)
	return o.tarpit.Serve(ctx, v)
}

// ssh has a handler serve those for whom there is, or may be, a pot.
func (o *overflow) ssh(speaker front.Handler) front.Handler { //nolint:ireturn // it is one more
	return handlerFunc(func(ctx context.Context, v *front.Visit) string {
		switch {
		case !o.full(v.Lease.PotKey()):
			return speaker.Serve(ctx, v)
		case o.kind == OverflowBuiltin:
			o.note(v, OverflowBuiltin)
			return speaker.Serve(ctx, v)
		}
		return o.Serve(ctx, v)
	})
}

func (o *overflow) note(v *front.Visit, kind string) {
	v.Rec.Note(event.Evidence{Kind: event.EvidenceOverflow, At: time.Now(), Reason: kind})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = time.Now()
	switch kind {
	case OverflowBuiltin:
		o.counts.Builtin++
	case OverflowTarpit:
		o.counts.Tarpit++
	default:
		o.counts.Drop++
	}
}

// Counts returns what happened so far.
func (o *overflow) Counts() OverflowCounts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.counts
	c.Held = o.tarpit.Held()
	return c
}

// findings tells of attackers for whom there was no pot.
func (o *overflow) findings() []event.Finding {
	c := o.Counts()
	o.mu.Lock()
	last := o.last
	o.mu.Unlock()
	if last.IsZero() || time.Since(last) > overflowTold {
		return nil
	}
	return []event.Finding{{
		Level: "warning", Subject: "overflow",
		Text: fmt.Sprintf("there was no pot for %d connections: %d met the builtin front, %d a tarpit, %d were closed", c.Builtin+c.Tarpit+c.Drop, c.Builtin, c.Tarpit, c.Drop),
		Mend: "raise honeypot.limits.pots if the machine has the memory, or add a node",
	}}
}

// handlerFunc is a function that is a front.Handler.
type handlerFunc func(context.Context, *front.Visit) string

// Serve implements front.Handler.
func (f handlerFunc) Serve(ctx context.Context, v *front.Visit) string { return f(ctx, v) }
