package divert

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/dump"
)

// host is what is known of the machine's addresses and routes. What it caches is dropped by forget.
type host struct {
	space space

	mu     sync.Mutex
	handle *netlink.Handle
	facts  *facts
	routes map[netip.Addr]route
}

// facts are the addresses of the machine.
type facts struct {
	own    map[netip.Addr]struct{} // every one, loopback and link-local too
	global []netip.Addr            // global unicast, sorted
	ifs4   []string                // interfaces that have a global IPv4 address; sorted
	ifs6   []string
}

// route is where packets to an address leave.
type route struct {
	iface string
	local bool // the address is the machine's own
	err   error
}

const maxRoutes = 1 << 17 // bound of the cache

func (h *host) open() (*netlink.Handle, error) {
	if h.handle != nil {
		return h.handle, nil
	}
	handle, err := h.space.routes()
	if err != nil {
		return nil, err
	}
	h.handle = handle
	return handle, nil
}

func (h *host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle != nil {
		h.handle.Close()
		h.handle = nil
	}
}

// forget drops what was cached, for something changed.
func (h *host) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts, h.routes = nil, nil
}

func (h *host) get() (*facts, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.facts != nil {
		return h.facts, nil
	}
	handle, err := h.open()
	if err != nil {
		return nil, err
	}
	links, err := dump.Ask(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]netlink.Link{}
	for _, l := range links {
		names[l.Attrs().Index] = l
	}
	addrs, err := dump.Ask(func() ([]netlink.Addr, error) { return handle.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	f := &facts{own: map[netip.Addr]struct{}{}}
	for _, raw := range addrs {
		a, ok := netip.AddrFromSlice(raw.IP)
		if !ok {
			continue
		}
		a = a.Unmap()
		f.own[a] = struct{}{}
		l := names[raw.LinkIndex]
		if !a.IsGlobalUnicast() || l == nil {
			continue
		}
		f.global = append(f.global, a)
		if l.Attrs().Flags&unix.IFF_LOOPBACK != 0 {
			continue
		}
		if a.Is4() {
			f.ifs4 = append(f.ifs4, l.Attrs().Name)
		} else {
			f.ifs6 = append(f.ifs6, l.Attrs().Name)
		}
	}
	slices.SortFunc(f.global, netip.Addr.Compare)
	f.ifs4, f.ifs6 = sorted(f.ifs4), sorted(f.ifs6)
	h.facts = f
	return f, nil
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// routeTo asks the kernel where packets to an address go.
func (h *host) routeTo(a netip.Addr) route {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r, ok := h.routes[a]; ok {
		return r
	}
	r := h.lookup(a)
	if h.routes == nil || len(h.routes) >= maxRoutes {
		h.routes = map[netip.Addr]route{}
	}
	h.routes[a] = r
	return r
}

func (h *host) lookup(a netip.Addr) route {
	handle, err := h.open()
	if err != nil {
		return route{err: err}
	}
	rs, err := handle.RouteGet(a.AsSlice())
	if err != nil {
		return route{err: fmt.Errorf("look up route to %s: %w", a, err)}
	}
	if len(rs) == 0 {
		return route{err: fmt.Errorf("look up route to %s: %w", a, unix.ENETUNREACH)}
	}
	r := rs[0]
	switch r.Type {
	case unix.RTN_LOCAL:
		return route{local: true}
	case unix.RTN_UNICAST:
	default:
		return route{err: fmt.Errorf("look up route to %s: %w", a, unix.EHOSTUNREACH)}
	}
	link, err := handle.LinkByIndex(r.LinkIndex)
	if err != nil {
		return route{err: fmt.Errorf("look up interface %d of the route to %s: %w", r.LinkIndex, a, err)}
	}
	return route{iface: link.Attrs().Name}
}

// arrival lists the interfaces by which strangers' packets may come in: those with global addresses and the
// one that leads to the wide world.
func (h *host) arrival(v6 bool) ([]string, error) {
	f, err := h.get()
	if err != nil {
		return nil, err
	}
	// Only looked up, nothing is sent there: some address that no host has a route of its own to.
	names, world := f.ifs4, netip.AddrFrom4([4]byte{1, 0, 0, 1})
	if v6 {
		names, world = f.ifs6, netip.AddrFrom16([16]byte{0x26, 0x06, 0x47, 0, 0x47})
	}
	names = slices.Clone(names)
	if r := h.routeTo(world); r.err == nil && !r.local {
		names = append(names, r.iface)
	}
	return sorted(names), nil
}
