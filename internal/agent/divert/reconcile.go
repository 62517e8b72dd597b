package divert

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

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
