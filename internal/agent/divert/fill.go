package divert

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

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
