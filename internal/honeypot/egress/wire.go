package egress

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/dump"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

// Port is one pot's place in the network.
type Port struct {
	Pot   string // the pot's name, without spaces
	Run   string // names one run of it: a restarted container is another
	Index int
	PID   int // a process of the container
}

// alias marks a port's link in the kernel, so that a later process of ours finds it.
func (p Port) alias() string { return p.Pot + " " + p.Run }

// Wired reports whether the port is in the network, in the same run of the container.
func (n *Net) Wired(p Port) (bool, error) {
	links, err := n.ports()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		// Without its peer a link has no carrier. The operational state says so too, but up to a second later.
		if a := l.Attrs(); a.Alias == p.alias() && a.RawFlags&unix.IFF_LOWER_UP != 0 {
			n.mu.Lock()
			defer n.mu.Unlock()
			return true, n.bindLocked(p.Index, p.Pot)
		}
	}
	return false, nil
}

// Wire puts a container into the network, under a fresh link name; what an earlier run of it left is
// removed.
func (n *Net) Wire(p Port) error {
	if p.Index < 0 || p.Index >= n.Capacity() {
		return fmt.Errorf("wire %s: index %d is out of the network %s", p.Pot, p.Index, n.o.Subnet)
	}
	inside, err := netns.OpenPID(p.PID)
	if err != nil {
		return fmt.Errorf("wire %s: %w", p.Pot, err)
	}
	defer inside.Close() //nolint:errcheck // a handle
	for _, other := range []*netns.NS{nil, n.ns} {
		same, err := inside.Same(other)
		if err != nil {
			return fmt.Errorf("wire %s: %w", p.Pot, err)
		}
		if same {
			return fmt.Errorf("wire %s: process %d is not in a network namespace of its own", p.Pot, p.PID)
		}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.sweepLocked(func(pot string) bool { return pot != p.Pot }); err != nil {
		return err
	}
	if err := n.ensureLocked(); err != nil {
		return err
	}
	name, err := n.attach(p, inside)
	if err == nil {
		err = n.configureInside(p, inside)
	}
	if err == nil {
		err = n.bindLocked(p.Index, p.Pot)
	}
	if err == nil {
		err = n.bringUp(name)
	}
	if err != nil {
		_ = n.sweepLocked(func(pot string) bool { return pot != p.Pot })
		return fmt.Errorf("wire %s: %w", p.Pot, err)
	}
	return nil
}

// attach makes the pair of links: one end a port of the bridge, the other the pot's eth0.
func (n *Net) attach(p Port, inside *netns.NS) (string, error) {
	br, err := n.bridge()
	if err != nil {
		return "", err
	}
	var id [5]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("name a link: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "p" + hex.EncodeToString(id[:])
	attrs.MasterIndex = br.Attrs().Index
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0",
		PeerNamespace: netlink.NsFd(inside.Fd()), PeerHardwareAddr: macOf(p.Index),
	}
	if err := dropLink(inside, "eth0"); err != nil {
		return "", err
	}
	if err := n.nl.LinkAdd(veth); err != nil {
		return "", fmt.Errorf("make its links: %w", err)
	}
	link, err := n.nl.LinkByName(attrs.Name)
	if err != nil {
		return "", fmt.Errorf("look for link %s: %w", attrs.Name, err)
	}
	steps := []struct {
		doing string
		err   error
	}{
		{"mark its link", n.nl.LinkSetAlias(link, p.alias())},
		// Cut off from all other ports, before it comes up.
		{"isolate its port", n.nl.LinkSetIsolated(link, true)},
		// Only the addresses that we gave out lead to a port, whatever a pot claims.
		{"stop its port from learning", n.nl.LinkSetLearning(link, false)},
		{"stop flooding to its port", n.nl.LinkSetFlood(link, false)},
		{"tell the bridge its address", n.nl.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: macOf(p.Index),
			State: netlink.NUD_NOARP | netlink.NUD_PERMANENT, Flags: netlink.NTF_MASTER,
		})},
		{"tell the node its address", n.neighbour(br, p, n.Address(p.Index))},
		{"tell the node its IPv6 address", n.neighbour(br, p, n.address6(p.Index))},
	}
	for _, s := range steps {
		if s.err != nil {
			return "", fmt.Errorf("%s: %w", s.doing, s.err)
		}
	}
	return attrs.Name, nil
}

func (n *Net) neighbour(br netlink.Link, p Port, addr netip.Addr) error {
	return n.nl.NeighSet(&netlink.Neigh{ //nolint:wrapcheck // the caller says what was done
		LinkIndex: br.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: addr.AsSlice(), HardwareAddr: macOf(p.Index),
	})
}

// configureInside gives the pot's end its addresses and default routes.
func (n *Net) configureInside(p Port, inside *netns.NS) error {
	// A container without a network has IPv6 switched off.
	err := inside.Do(func() error {
		return setAll([]setting{
			{"ipv6/conf/all/disable_ipv6", "0"},
			{"ipv6/conf/default/disable_ipv6", "0"},
			{"ipv6/conf/eth0/disable_ipv6", "0"},
		})
	})
	if err != nil {
		return err
	}
	nl, err := netlink.NewHandleAt(vnetns.NsHandle(inside.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the kernel in its namespace: %w", err)
	}
	defer nl.Close()
	eth, err := nl.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("look for its eth0: %w", err)
	}
	for _, a := range []netip.Prefix{
		netip.PrefixFrom(n.Address(p.Index), n.o.Subnet.Bits()),
		netip.PrefixFrom(n.address6(p.Index), n.o.Subnet6.Bits()),
	} {
		if err := nl.AddrReplace(eth, addrOf(a)); err != nil {
			return fmt.Errorf("give it %s: %w", a, err)
		}
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return fmt.Errorf("start its eth0: %w", err)
	}
	for _, gw := range []netip.Addr{n.Gateway(), n.gateway6()} {
		any4 := &net.IPNet{IP: make(net.IP, gw.BitLen()/8), Mask: net.CIDRMask(0, gw.BitLen())}
		err := nl.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: any4, Gw: gw.AsSlice()})
		if err != nil {
			return fmt.Errorf("give it the default route by %s: %w", gw, err)
		}
	}
	return nil
}

func (n *Net) bringUp(name string) error {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look for link %s: %w", name, err)
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("start its port: %w", err)
	}
	return nil
}

// Sweep removes the links of all pots that keep does not name.
func (n *Net) Sweep(keep func(pot string) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sweepLocked(keep)
}

func (n *Net) sweepLocked(keep func(pot string) bool) error {
	links, err := n.ports()
	if err != nil {
		return err
	}
	for _, pot := range n.bound {
		if !keep(pot) {
			n.unbindLocked(pot) // its link may have gone by itself
		}
	}
	for _, l := range links {
		pot, _, _ := strings.Cut(l.Attrs().Alias, " ")
		if pot != "" && keep(pot) {
			continue
		}
		// It may go by itself at any moment, with the namespace at its other end.
		n.unbindLocked(pot)
		if err := n.nl.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("remove link %s of %s: %w", l.Attrs().Name, pot, err)
		}
	}
	return nil
}

// ports lists the bridge's ports.
func (n *Net) ports() ([]netlink.Link, error) {
	links, err := dump.Ask(n.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links in the pots' namespace: %w", err)
	}
	var out []netlink.Link
	for _, l := range links {
		if l.Type() == "veth" {
			out = append(out, l)
		}
	}
	return out, nil
}

func dropLink(ns *netns.NS, name string) error {
	nl, err := netlink.NewHandleAt(vnetns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the kernel in its namespace: %w", err)
	}
	defer nl.Close()
	l, err := nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for its %s: %w", name, err)
	}
	if err := nl.LinkDel(l); err != nil {
		return fmt.Errorf("remove its old %s: %w", name, err)
	}
	return nil
}
