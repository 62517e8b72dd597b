package server

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

const (
	ownEvery = 10 * time.Second // how often they are looked at
	ownHolds = time.Minute      // they aren't believed for longer
)

// ownAddresses are the addresses of the machine that the server runs on. They are asked for with each offence, so they are
// looked at beside it. It is safe for concurrent use.
type ownAddresses struct {
	log  *slog.Logger
	last atomic.Pointer[seenAddresses]
}

type seenAddresses struct {
	addrs []netip.Addr
	at    time.Time
}

func (o *ownAddresses) get() []netip.Addr {
	if seen := o.last.Load(); seen != nil && time.Since(seen.at) < ownHolds {
		return seen.addrs
	}
	return o.look()
}

func (o *ownAddresses) look() []netip.Addr {
	at := time.Now()
	list, err := net.InterfaceAddrs()
	if err != nil {
		o.log.Error("own addresses not known", "error", err)
		return nil
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	out = slices.Clip(usable(out))
	o.last.Store(&seenAddresses{out, at})
	return out
}
