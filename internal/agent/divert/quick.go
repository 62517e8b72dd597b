package divert

import (
	"context"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// quick puts redirects into the kernel where all that they need is there already; false says that reconcile must.
func (d *Divert) quick(ctx context.Context, rs []event.Redirect) bool {
	if !d.ready || d.touched.Load() || d.foreign.Load() || len(rs) > chunk {
		return false
	}
	f, err := d.host.get()
	if err != nil {
		return false
	}
	now := d.o.Now()
	batch, owners := make([]change, 0, len(rs)), make(map[key]admitted, len(rs))
	var endpoints []change
	for _, r := range rs {
		a, t, ok := d.admit(ctx, r, f.own)
		if !ok || t != nil || !d.fits(a, now) {
			return false
		}
		if _, twice := owners[a.key]; twice {
			return false
		}
		owners[a.key] = a
		was, here := d.placed[a.key]
		batch = append(batch, change{
			element: element{key: a.key, endpoint: r.Endpoint, left: d.lifetime(r, now), fresh: !here || was.fresh},
			del:     here, add: true,
		})
		if _, ok := d.endpoints[r.Endpoint.Addr()]; !ok {
			endpoints = append(endpoints, d.endpointChange(r.Endpoint.Addr(), false))
			d.endpoints[r.Endpoint.Addr()] = now
		}
	}
	if err := d.table.write(batch, endpoints); err != nil {
		d.ready = false
		return false
	}
	for _, c := range batch {
		d.written(c, owners[c.key], now)
	}
	return true
}

// fits says whether an admitted redirect can go in beside what is there: its packets pass already, its element is
// its own or no one's, and its endpoint is not about to run out.
func (d *Divert) fits(a admitted, now time.Time) bool {
	var n need
	if err := d.needs(a.route, a.Endpoint.Addr().Is6(), &n); err != nil || !d.passes(n) {
		return false
	}
	if was, here := d.placed[a.key]; here && (was.id != a.ID || !was.until.After(now.Add(margin))) {
		return false
	}
	if at, ok := d.endpoints[a.Endpoint.Addr()]; ok && now.Sub(at) > d.o.Renew {
		return false
	}
	return !d.moved(a.ID, a.key)
}

// moved says whether a redirect holds another element than its own.
func (d *Divert) moved(id string, k key) bool {
	was, ok := d.applied[id]
	return ok && was.State == event.Active && d.placed[k].id != id
}

func (d *Divert) passes(n need) bool {
	for _, name := range n.ifs4 {
		if !d.forwarded["4 "+name] {
			return false
		}
	}
	for _, name := range n.ifs6 {
		if !d.forwarded["6 "+name] {
			return false
		}
	}
	return true
}
