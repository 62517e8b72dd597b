package divert

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kokkuri/kokkuri/internal/event"
)

// policy is what this host lets be redirected, whatever the server wants.
type policy struct {
	services  []event.HostPort
	allow     []netip.Prefix
	endpoints []netip.Prefix
}

// canonical returns the source with an IPv4-mapped address unmapped. Nothing is cut down: bits and address stay.
func canonical(p netip.Prefix) netip.Prefix {
	if p.IsValid() && p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// refuse says why a redirect may not be; empty where it may. others are the nodes and servers by name.
func (p policy) refuse(r event.Redirect, own map[netip.Addr]struct{}, others map[netip.Addr]string) string {
	src := canonical(r.Source)
	if why := unfitSource(src); why != "" {
		return why
	}
	if !slices.Contains(p.services, event.HostPort{Service: r.Service, Port: r.Port}) {
		return fmt.Sprintf("%s on port %d is not in this agent's list of services", r.Service, r.Port)
	}
	for _, a := range p.allow {
		if a.Overlaps(src) {
			return fmt.Sprintf("source %s is on this agent's allow list (%s)", src, a)
		}
	}
	for a := range own {
		if src.Contains(a) {
			return fmt.Sprintf("source %s holds this host's own address %s", src, a)
		}
	}
	for a, what := range others {
		if src.Contains(a) {
			return fmt.Sprintf("source %s holds the address %s of a %s", src, a, what)
		}
	}
	return p.unfitEndpoint(src, r.Endpoint)
}

func unfitSource(src netip.Prefix) string {
	switch {
	case !src.IsValid():
		return "source is no prefix"
	case src != src.Masked():
		return fmt.Sprintf("source %s has host bits: did you mean %s?", src, src.Masked())
	case src.Addr().Is4() && src.Bits() != 32:
		return fmt.Sprintf("source %s is no single address: only /32 can be redirected for IPv4", src)
	case src.Addr().Is6() && src.Bits() != 64 && src.Bits() != 128:
		return fmt.Sprintf("source %s is neither /64 nor /128, which alone can be redirected for IPv6", src)
	case src.Contains(netip.IPv6Loopback()) || src.Addr().IsLoopback():
		return fmt.Sprintf("source %s is loopback", src)
	case src.Addr().IsUnspecified():
		return fmt.Sprintf("source %s is the unspecified address", src)
	case src.Addr().IsMulticast():
		return fmt.Sprintf("source %s is multicast", src)
	case src.Addr().IsLinkLocalUnicast():
		return fmt.Sprintf("source %s is link-local: routers and neighbours of this host", src)
	}
	return ""
}

func (p policy) unfitEndpoint(src netip.Prefix, e netip.AddrPort) string {
	a := e.Addr()
	switch {
	case !a.IsValid() || e.Port() == 0:
		return fmt.Sprintf("endpoint %q is no address and port", e)
	case a.Is4In6() || a.Zone() != "":
		return fmt.Sprintf("endpoint %s is IPv4-mapped or has a zone", e)
	case !a.IsGlobalUnicast():
		return fmt.Sprintf("endpoint %s is no global unicast address", e)
	case a.Is4() != src.Addr().Is4():
		return fmt.Sprintf("endpoint %s and source %s are of different IP versions", e, src)
	}
	if len(p.endpoints) > 0 && !slices.ContainsFunc(p.endpoints, func(l netip.Prefix) bool { return l.Contains(a) }) {
		return fmt.Sprintf("endpoint %s is not in this agent's list of endpoints", e)
	}
	return ""
}
