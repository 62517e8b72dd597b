package honeypot

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/dump"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

// ErrPorts is the cause of errors about the range of the endpoints' ports.
var ErrPorts = errors.New("port range of the endpoints")

// checkPorts refuses a range that the machine uses otherwise.
func (n *Node) checkPorts() error {
	var first, last int
	var used []uint16
	err := n.o.NetNS.Do(func() error {
		data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
		if err != nil {
			return fmt.Errorf("read the range of outgoing ports: %w", err)
		}
		if _, err := fmt.Sscan(string(data), &first, &last); err != nil {
			return fmt.Errorf("read the range of outgoing ports: %w", err)
		}
		used, err = listening(canonical(n.o.Advertise))
		return err
	})
	if err != nil {
		return err
	}
	p := n.o.Ports
	if int(p.First) <= last && first <= int(p.Last) {
		return fmt.Errorf("%w: %d-%d overlaps %d-%d, which the kernel uses for outgoing connections (net.ipv4.ip_local_port_range); choose another port_range",
			ErrPorts, p.First, p.Last, first, last)
	}
	for _, port := range used {
		if port >= p.First && port <= p.Last {
			return fmt.Errorf("%w: something listens on port %d, in %d-%d; choose another port_range, or move that service (`ss -ltnp sport = %[2]d` names it)",
				ErrPorts, port, p.First, p.Last)
		}
	}
	return nil
}

// listening returns the TCP ports that something listens on at any of the addresses.
func listening(addrs []netip.Addr) ([]uint16, error) {
	var out []uint16
	for _, path := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list listening ports: %w", err)
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			local, ok := listenerOf(scan.Text())
			if !ok {
				continue
			}
			a := event.Canonical(local.Addr())
			if a.IsUnspecified() || slices.Contains(addrs, a) {
				out = append(out, local.Port())
			}
		}
		err = errors.Join(scan.Err(), f.Close())
		if err != nil {
			return nil, fmt.Errorf("list listening ports: %w", err)
		}
	}
	return out, nil
}

// listenerOf reads a line of /proc/net/tcp or tcp6 (proc_net_tcp of the kernel's documentation); ok is
// false where it is not of a listening socket.
func listenerOf(line string) (local netip.AddrPort, ok bool) {
	const stateListen = "0A"
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[3] != stateListen {
		return netip.AddrPort{}, false
	}
	host, portHex, ok := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 { // words in the machine's order: little-endian where we run
		slices.Reverse(raw[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(raw)
	port, err := strconv.ParseUint(portHex, 16, 16)
	return netip.AddrPortFrom(addr, uint16(port)), ok && err == nil
}

// isLocal reports whether an address is one of a namespace's own.
func isLocal(ns *netns.NS, a netip.Addr) bool {
	found := false
	_ = ns.Do(func() error {
		family := netlink.FAMILY_V6
		if a.Is4() {
			family = netlink.FAMILY_V4
		}
		addrs, err := dump.Ask(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		for _, have := range addrs {
			if ip, ok := netip.AddrFromSlice(have.IP); ok && event.Canonical(ip) == a {
				found = true
			}
		}
		return nil
	})
	return found
}

// lock keeps a second node from using the same state.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the node's state folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another node runs with the state folder of %s: stop it, or give this one another state_dir: %w", path, err)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}
