package divert

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// admitted is a redirect that may be, with what it needs.
type admitted struct {
	event.Redirect

	key   key
	route route
}

// margin keeps the kernel's clock ticks from letting an element outlive its redirect.
const margin = 20 * time.Millisecond

// admit judges one redirect and notes a refusal.
func (d *Divert) admit(ctx context.Context, r event.Redirect, own map[netip.Addr]struct{}) (admitted, *trouble, bool) {
	if !r.State.Live() && r.State != "" {
		d.note(r.ID, event.Released, string(r.State))
		return admitted{}, nil, false
	}
	if !r.ExpiresAt.After(d.o.Now().Add(margin)) {
		d.note(r.ID, event.Released, "expired")
		return admitted{}, nil, false
	}
	if why := d.policy.refuse(r, own, d.others); why != "" {
		d.note(r.ID, event.Refused, why)
		return admitted{}, nil, false
	}
	k := key{canonical(r.Source), r.Port}
	to, t := d.paths.check(ctx, k, r)
	return admitted{r, k, to}, t, true
}

// reconcile makes the kernel what is wanted. It is called with mu held.
func (d *Divert) reconcile(ctx context.Context) error {
	d.touched.Store(false)
	if d.foreign.Swap(false) {
		d.paths.forget()
	}
	f, err := d.host.get()
	if err != nil {
		d.ready = false
		return err
	}
	d.findings, d.contested = nil, false
	owners := d.owners(ctx, f)
	if len(owners) == 0 {
		return d.rest(ctx)
	}
	d.idle = time.Time{}
	if err := d.open(owners); err != nil {
		d.ready = false
		for _, a := range owners {
			d.note(a.ID, event.Refused, err.Error())
		}
		return err
	}
	return d.fill(owners)
}

// owners returns, for each key, the redirect that it belongs to.
func (d *Divert) owners(ctx context.Context, f *facts) map[key]admitted {
	owners := map[key]admitted{}
	troubles, opened := map[trouble]bool{}, map[netip.Addr]error{}
	for _, id := range slices.Sorted(maps.Keys(d.want)) {
		r := d.want[id]
		a, t, ok := d.admit(ctx, r, f.own)
		if !ok {
			continue
		}
		if t != nil && t.reason == needsDockerUser {
			err, tried := opened[r.Endpoint.Addr()]
			if !tried {
				err = d.paths.openDocker(ctx, d.forward.state, d.o.StateDir, a.key, r)
				opened[r.Endpoint.Addr()] = err
				d.fail(dockerUserChain, err)
			}
			if a.route, t = d.paths.check(ctx, a.key, r); t != nil && err != nil {
				t.reason = err.Error()
			}
		}
		if t != nil {
			d.note(id, event.Refused, t.String())
			troubles[*t] = true
			continue
		}
		was, taken := owners[a.key]
		if taken && !newer(a.Redirect, was.Redirect) {
			a, was = was, a
		}
		if taken {
			d.contested = true
			d.note(was.ID, event.Refused, fmt.Sprintf("redirect %s of the same source and port is newer", a.ID))
		}
		owners[a.key] = a
	}
	for t := range troubles {
		d.findings = append(d.findings, event.Finding{Level: "error", Subject: "redirect path", Text: t.reason, Mend: t.mend})
	}
	slices.SortFunc(d.findings, func(a, b event.Finding) int {
		return slices.Compare([]string{a.Text, a.Mend}, []string{b.Text, b.Mend})
	})
	if d.paths.rules != nil && d.paths.rules.partial != "" {
		d.findings = append(d.findings, event.Finding{
			Level: "warning", Subject: "redirect path", Text: d.paths.rules.partial, Mend: "install iptables",
		})
	}
	return owners
}

func newer(a, b event.Redirect) bool {
	if !a.CreatedAt.Equal(b.CreatedAt) {
		return a.CreatedAt.After(b.CreatedAt)
	}
	return a.ID > b.ID
}

// needs lists the interfaces that redirected packets and their answers come in by.
func (d *Divert) needs(to route, v6 bool, n *need) error {
	if to.local {
		return nil
	}
	arrival, err := d.host.arrival(v6)
	if err != nil {
		return err
	}
	ifs := &n.ifs4
	if v6 {
		ifs = &n.ifs6
	}
	*ifs = sorted(slices.Concat(*ifs, arrival, []string{to.iface}))
	return nil
}

// open makes the table, then turns forwarding on where it must be. Redirects of a family that can't be forwarded
// are refused and leave owners.
func (d *Divert) open(owners map[key]admitted) error {
	var n need
	type way struct {
		iface string
		v6    bool
	}
	ways := map[way]bool{}
	for _, a := range owners {
		w := way{a.route.iface, a.Endpoint.Addr().Is6()}
		if ways[w] {
			continue
		}
		ways[w] = true
		if err := d.needs(a.route, w.v6, &n); err != nil {
			return err
		}
	}
	var p plan
	err := d.space.do(func() (err error) { p, err = d.forward.prepare(n); return err })
	if err != nil {
		return err
	}
	rebuilt, err := d.table.ensure(p.shape)
	if err != nil {
		return err
	}
	if rebuilt {
		clear(d.placed)
		clear(d.endpoints)
	}
	var failed []*sysctlError
	err = d.space.do(func() error { failed = d.forward.apply(p); return nil })
	if err != nil {
		return err
	}
	clear(d.forwarded)
	for _, name := range n.ifs4 {
		d.forwarded["4 "+name] = true
	}
	for _, name := range n.ifs6 {
		d.forwarded["6 "+name] = true
	}
	for _, e := range failed {
		d.closed(e, owners)
	}
	return nil
}

// closed refuses the redirects that need what could not be turned on.
func (d *Divert) closed(e *sysctlError, owners map[key]admitted) {
	t := trouble{e.Error(), e.mend()}
	d.findings = append(d.findings, event.Finding{Level: "error", Subject: "forwarding", Text: t.reason, Mend: t.mend})
	maps.DeleteFunc(d.forwarded, func(name string, _ bool) bool { return (name[0] == '6') == e.v6() })
	maps.DeleteFunc(owners, func(_ key, a admitted) bool {
		hit := a.Endpoint.Addr().Is6() == e.v6() && !a.route.local
		if hit {
			d.note(a.ID, event.Refused, t.String())
		}
		return hit
	})
}

// rest is reconcile where nothing is redirected: elements go at once, the rest of ours a while later.
func (d *Divert) rest(ctx context.Context) error {
	conn, err := d.table.open()
	if err != nil {
		return err
	}
	chains, err := d.table.actual(conn)
	if err != nil {
		d.table.close()
		return err
	}
	if chains == nil && d.forward.state.empty() {
		d.ready = false
		clear(d.placed)
		return nil
	}
	now := d.o.Now()
	if d.idle.IsZero() {
		d.idle = now
	}
	if chains == nil || now.Sub(d.idle) >= d.o.Idle {
		return d.teardown(ctx)
	}
	if d.fill(map[key]admitted{}) != nil { // it isn't ours any more
		return d.teardown(ctx)
	}
	return nil
}

// fill compares the elements with what is wanted, and mends.
func (d *Divert) fill(owners map[key]admitted) error {
	have, err := d.table.read()
	if err != nil {
		d.ready = false
		return err
	}
	now := d.o.Now()
	endpoints := map[netip.Addr]bool{}
	var changes []change
	for k, e := range have.redirects {
		if _, ok := owners[k]; !ok {
			changes = append(changes, change{element: e, del: true})
			delete(d.placed, k)
			delete(d.waiting, k)
		}
	}
	for k, p := range d.placed {
		if _, listed := have.redirects[k]; listed {
			continue
		}
		if _, ok := owners[k]; !ok && p.until.After(now) { // passed over, perhaps
			changes = append(changes, change{element: element{key: k}, del: true})
			delete(d.waiting, k)
		}
		delete(d.placed, k)
	}
	for k, a := range owners {
		endpoints[a.Endpoint.Addr()] = true
		e, ok := have.redirects[k]
		if c, due := d.step(k, a, e, ok, now); due {
			changes = append(changes, c)
			continue
		}
		if _, known := d.placed[k]; !known && e.fresh { // of an earlier run that perhaps did not get to cut
			d.cut(k, a.Spare)
		}
		d.placed[k] = placed{id: a.ID, endpoint: e.endpoint, until: now.Add(e.left), fresh: e.fresh}
		d.note(a.ID, event.Active, "")
	}
	if err := d.fillEndpoints(endpoints, have.endpoints, now); err != nil {
		d.ready = false
		for _, a := range owners {
			d.note(a.ID, event.Refused, err.Error())
		}
		return err
	}
	var errs []error
	for part := range slices.Chunk(changes, chunk) {
		errs = append(errs, d.writeAll(part, owners, now))
	}
	err = errors.Join(errs...)
	d.ready = err == nil && len(owners) > 0
	return err
}

// step says how an element must change, if it must.
func (d *Divert) step(k key, a admitted, have element, ok bool, now time.Time) (change, bool) {
	c := change{element: element{key: k, endpoint: a.Endpoint, left: d.lifetime(a.Redirect, now)}, add: true}
	if !ok {
		c.fresh = true
		return c, true
	}
	_, waits := d.waiting[k]
	_, known := d.placed[k]
	c.del, c.fresh = true, have.fresh && (waits || !known)
	late := have.left+d.o.Renew <= c.left
	long := have.left > c.left+margin
	return c, have.endpoint != a.Endpoint || late || long
}

func (d *Divert) lifetime(r event.Redirect, now time.Time) time.Duration {
	return max(min(d.o.Lifetime, r.ExpiresAt.Sub(now)-margin), time.Millisecond).Truncate(time.Millisecond)
}

// fillEndpoints keeps the addresses that are masqueraded to and let through. Those that are not wanted any more
// run out by themselves, so that connections which outlive their redirect end in peace.
func (d *Divert) fillEndpoints(want map[netip.Addr]bool, have map[netip.Addr]time.Duration, now time.Time) error {
	var changes []change
	for a := range want {
		left, ok := have[a]
		if ok && left+d.o.Renew > d.o.Lifetime {
			d.endpoints[a] = now.Add(left - d.o.Lifetime)
			continue
		}
		changes = append(changes, d.endpointChange(a, ok))
	}
	for part := range slices.Chunk(changes, chunk) {
		if err := d.table.write(nil, part); err != nil {
			return err
		}
		for _, c := range part {
			d.endpoints[c.endpoint.Addr()] = now
		}
	}
	return nil
}

func (d *Divert) endpointChange(a netip.Addr, del bool) change {
	return change{element: element{endpoint: netip.AddrPortFrom(a, 0), left: d.o.Lifetime}, del: del, add: true}
}

// writeAll makes changes in one batch, and where that fails, one by one: one redirect's failure is not another's.
func (d *Divert) writeAll(part []change, owners map[key]admitted, now time.Time) error {
	if err := d.table.write(part, nil); err == nil {
		for _, c := range part {
			d.written(c, owners[c.key], now)
		}
		return nil
	}
	var errs []error
	for _, c := range part {
		err := d.table.write([]change{c}, nil)
		if errors.Is(err, unix.ENOENT) && c.del { // it ran out just now
			c.del = false
			err = nil
			if c.add {
				err = d.table.write([]change{c}, nil)
			}
		} else if errors.Is(err, unix.EEXIST) && !c.del { // there with another endpoint, though the list lacked it
			c.del = true
			err = d.table.write([]change{c}, nil)
		}
		if err != nil {
			errs = append(errs, err)
			if c.add {
				d.note(owners[c.key].ID, event.Refused, fmt.Sprintf("the kernel refuses it: %v", err))
			}
			continue
		}
		d.written(c, owners[c.key], now)
	}
	return errors.Join(errs...)
}

// written notes a change that the kernel took.
func (d *Divert) written(c change, a admitted, now time.Time) {
	if !c.add {
		delete(d.placed, c.key)
		return
	}
	if !c.del || c.fresh {
		d.cut(c.key, a.Spare)
	}
	d.placed[c.key] = placed{id: a.ID, endpoint: c.endpoint, until: now.Add(c.left), fresh: c.fresh}
	d.note(a.ID, event.Active, "")
}

// cut hands a source's earlier connections to the cutter, which works in Run.
func (d *Divert) cut(k key, spare []netip.AddrPort) {
	list := make([]netip.AddrPort, 0, len(spare))
	for _, s := range spare {
		list = append(list, netip.AddrPortFrom(event.Canonical(s.Addr()), s.Port()))
	}
	d.waiting[k] = &waiting{list}
	select {
	case d.cutNow <- struct{}{}:
	default:
	}
}

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
