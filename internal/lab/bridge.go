package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/dump"
)

// coreAddrs are the addresses of the server's and the node's process.
func coreAddrs() []netip.Addr { return append(serverAddrs(), nodeAddrs()...) }

// addCoreAddrs puts the addresses of server and node on the core network's bridge. They go with the bridge.
func addCoreAddrs() error {
	link, err := netlink.LinkByName(core().bridge)
	if err != nil {
		return fmt.Errorf("bridge %s of network %s: %w (does the Docker engine run on this machine?)", core().bridge, core().name, err)
	}
	var want []netip.Prefix
	for _, a := range coreAddrs() {
		want = append(want, core().prefixOf(a))
	}
	return addAddresses(link, want...)
}

// linkWith finds the interface that has an address.
func linkWith(a netip.Addr) (netlink.Link, error) { //nolint:ireturn // that's how netlink hands them out
	links, err := dump.Ask(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		addrs, err := dump.Ask(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, have := range addrs {
			if have.IP.Equal(a.AsSlice()) {
				return link, nil
			}
		}
	}
	return nil, fmt.Errorf("no interface has the address %s", a)
}

// addAddresses switches IPv6 on for the interface and adds addresses, usable at once; present ones are fine.
func addAddresses(link netlink.Link, want ...netip.Prefix) error {
	name := link.Attrs().Name
	off := filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
	if err := os.WriteFile(off, []byte("0"), 0o644); err != nil { //nolint:gosec // a file of /proc has its own mode
		return fmt.Errorf("switch IPv6 on for %s: %w", name, err)
	}
	for _, p := range want {
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add %s to %s: %w", p, name, err)
		}
	}
	return nil
}

// removeBridges removes bridges that an engine left behind, as one does that was killed meanwhile.
func removeBridges() error {
	var errs []error
	for _, n := range networks() {
		link, err := netlink.LinkByName(n.bridge)
		var missing netlink.LinkNotFoundError
		switch {
		case errors.As(err, &missing):
		case err != nil:
			errs = append(errs, fmt.Errorf("look for bridge %s: %w", n.bridge, err))
		default:
			if err := netlink.LinkDel(link); err != nil {
				errs = append(errs, fmt.Errorf("remove bridge %s: %w", n.bridge, err))
			}
		}
	}
	return errors.Join(errs...)
}
