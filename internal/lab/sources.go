package lab

import (
	"context"
	"fmt"
	"net/netip"
)

// Addresses that NewSource hands out: .100 to .239 of the wan.
const (
	firstSource = 100
	lastSource  = 239
)

// NewSource gives the attacker's machine an IPv4 address that did nothing yet.
func (l *Lab) NewSource(ctx context.Context) (netip.Addr, error) {
	l.mu.Lock()
	n := firstSource + l.taken
	l.taken++
	l.mu.Unlock()
	if n > lastSource {
		return netip.Addr{}, fmt.Errorf("no address left of 203.0.113.%d to .%d", firstSource, lastSource)
	}
	a := netip.AddrFrom4([4]byte{203, 0, 113, byte(n)})
	return a, l.Attacker.AddAddress(ctx, a)
}

// NewSource6 gives the attacker's machine an IPv6 address in a /64 that did nothing yet.
func (l *Lab) NewSource6(ctx context.Context) (netip.Addr, error) {
	l.mu.Lock()
	l.taken6++
	n := l.taken6
	l.mu.Unlock()
	a := wan().v6.Addr().As16()
	a[6], a[7], a[15] = byte(0x10|n>>8), byte(n), 1
	addr := netip.AddrFrom16(a)
	return addr, l.Attacker.AddAddress(ctx, addr)
}

// Neighbour gives the attacker's machine another address in the same /64.
func (l *Lab) Neighbour(ctx context.Context, a netip.Addr) (netip.Addr, error) {
	next := a.Next()
	return next, l.Attacker.AddAddress(ctx, next)
}
