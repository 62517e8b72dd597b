package divert

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	settle = 50 * time.Millisecond // after a notification: others often make several changes
	again  = time.Second           // after something failed
)

// Run keeps the kernel as it is wanted until ctx ends: it renews elements, mends what others changed, and cuts.
// The redirects stay when it ends.
func (d *Divert) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() {
		d.listen(ctx, "nftables notifications", unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}, d.heardNFT)
	})
	wg.Go(func() {
		d.listen(ctx, "route notifications", unix.NETLINK_ROUTE, []uint32{
			unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		}, d.heardRoute)
	})
	wg.Go(func() { d.cutting(ctx) })

	tick := time.NewTicker(d.o.Tick)
	defer tick.Stop()
	soon := time.NewTimer(0)
	soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
			soon.Reset(settle)
			continue
		case <-tick.C:
			d.host.forget()
			d.foreign.Store(true) // iptables-legacy tells no one of its changes
		case <-soon.C:
		}
		if d.mend(ctx) != nil {
			soon.Reset(again)
		}
	}
}

// mend compares and mends once, where it is known what is wanted.
func (d *Divert) mend(ctx context.Context) error {
	noted, err := d.compare(ctx)
	if noted && d.o.Changed != nil {
		d.o.Changed()
	}
	return err
}

func (d *Divert) compare(ctx context.Context) (noted bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return false, nil
	}
	d.noted = false
	err = d.reconcile(ctx)
	if ctx.Err() == nil {
		d.fail("redirects", err)
	}
	return d.noted, err
}

func (d *Divert) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// listen watches one kind of notification, and starts again after errors.
func (d *Divert) listen(ctx context.Context, what string, protocol int, groups []uint32, heard func(netlink.Message)) {
	for ctx.Err() == nil {
		err := watch(ctx, d.space, protocol, groups, heard, func() {
			d.mu.Lock()
			d.fail(what, nil)
			d.mu.Unlock()
			d.lost()
		})
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		d.fail(what, err)
		d.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// lost has everything compared again.
func (d *Divert) lost() {
	d.touched.Store(true)
	d.foreign.Store(true)
	d.host.forget()
	d.poke()
}

func (d *Divert) heardNFT(m netlink.Message) {
	ours, foreign := d.table.concerns(m)
	if !ours && !foreign {
		return
	}
	if ours {
		d.touched.Store(true)
	}
	if foreign {
		d.foreign.Store(true)
	}
	d.poke()
}

func (d *Divert) heardRoute(m netlink.Message) {
	d.host.forget()
	switch m.Header.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE: // many on a router; looked at with the next tick or redirect
	default:
		d.poke()
	}
}

// cutting cuts what waits, all sources at once.
func (d *Divert) cutting(ctx context.Context) {
	c := &cutter{d.space}
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.cutNow:
		case <-retry:
		}
		retry = nil
		taken, own, endpoints := d.takeCuts()
		if len(taken) == 0 {
			continue
		}
		jobs := cuts{}
		for k, w := range taken {
			jobs[k] = w.spare
		}
		sockets, flows, err := c.cut(jobs, own, endpoints)
		d.cutDone(taken, err)
		if err != nil {
			retry = time.After(d.o.Tick)
		}
		d.o.Log.DebugContext(ctx, "connections cut", "sources", len(jobs), "sockets", sockets, "flows", flows)
	}
}

// takeCuts copies what waits; it goes on waiting until cutDone.
func (d *Divert) takeCuts() (taken map[key]*waiting, own, endpoints map[netip.Addr]struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.host.get()
	if err != nil {
		d.fail("cutting connections", err)
		return nil, nil, nil
	}
	endpoints = map[netip.Addr]struct{}{}
	for a := range d.endpoints {
		endpoints[a] = struct{}{}
	}
	return maps.Clone(d.waiting), f.own, endpoints
}

func (d *Divert) cutDone(taken map[key]*waiting, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail("cutting connections", err)
	if err != nil {
		return
	}
	for k, w := range taken {
		if d.waiting[k] == w { // else it came anew while we cut
			delete(d.waiting, k)
		}
	}
}
