package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

// Sockets are where all ends that pots send: each for IPv4 and for IPv6.
type Sockets struct {
	TCP [2]*net.TCPListener // the local address of what they accept is where the pot meant to go
	DNS [2]*net.UDPConn     // datagrams to port 53, with their destination (IP_PKTINFO, RFC 3542)
	UDP [2]*net.UDPConn     // all others, with theirs (IP_RECVORIGDSTADDR)

	Ping [2]*net.IPConn // messages of ICMP and of ICMPv6, with their destination

	ns *netns.NS
}

// OpenSockets opens the sockets in the namespace.
func (n *Net) OpenSockets() (*Sockets, error) {
	ctx := context.Background() // addresses are looked up nowhere
	s := &Sockets{ns: n.ns}
	err := n.ns.Do(func() error {
		for i, host := range []string{"0.0.0.0", "::"} {
			suffix := strconv.Itoa(4 + 2*i)
			lc := net.ListenConfig{Control: transparent(i == 0)}
			l, err := lc.Listen(ctx, "tcp"+suffix, net.JoinHostPort(host, strconv.Itoa(sinkPort)))
			if err != nil {
				return fmt.Errorf("listen for what pots call: %w", err)
			}
			s.TCP[i], _ = l.(*net.TCPListener)
			for port, to := range map[int]*[2]*net.UDPConn{dnsPort: &s.DNS, sinkPort: &s.UDP} {
				c, err := lc.ListenPacket(ctx, "udp"+suffix, net.JoinHostPort(host, strconv.Itoa(port)))
				if err != nil {
					return fmt.Errorf("listen for what pots send: %w", err)
				}
				to[i], _ = c.(*net.UDPConn)
			}
			c, err := lc.ListenPacket(ctx, []string{"ip4:icmp", "ip6:ipv6-icmp"}[i], host)
			if err != nil {
				return fmt.Errorf("listen for what pots ping: %w", err)
			}
			s.Ping[i], _ = c.(*net.IPConn)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Converse opens a socket that an address of the rest of the world has for one client in a pot, on a port of its own. What
// the client answers comes to it, before all rules.
func (s *Sockets) Converse(ctx context.Context, as netip.Addr, client netip.AddrPort) (*net.UDPConn, error) {
	var c net.Conn
	err := s.ns.Do(func() error {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(as, 0)), Control: transparent(as.Is4())}
		var err error
		if c, err = d.DialContext(ctx, "udp", client.String()); err != nil { // it waits for nobody
			return fmt.Errorf("open a socket: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("answer %s as %s: %w", client, as, err)
	}
	conn, _ := c.(*net.UDPConn)
	return conn, nil
}

// Close closes the sockets.
func (s *Sockets) Close() error {
	var errs []error
	for i := range s.TCP {
		if s.TCP[i] != nil {
			errs = append(errs, s.TCP[i].Close())
		}
		for _, c := range []*net.UDPConn{s.DNS[i], s.UDP[i]} {
			if c != nil {
				errs = append(errs, c.Close())
			}
		}
		if s.Ping[i] != nil {
			errs = append(errs, s.Ping[i].Close())
		}
	}
	if err := errors.Join(errs...); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the sinkhole's sockets: %w", err)
	}
	return nil
}

// transparent makes a socket take what is meant for any address, and tell for which.
func transparent(v4 bool) func(network, address string, c syscall.RawConn) error {
	options := [][3]int{{unix.SOL_IP, unix.IP_TRANSPARENT, 1}, {unix.SOL_IP, unix.IP_PKTINFO, 1}, {unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1}}
	if !v4 {
		options = [][3]int{{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}, {unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1}, {unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1}}
	}
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			for _, o := range options {
				if err := unix.SetsockoptInt(int(fd), o[0], o[1], o[2]); err != nil {
					failed = fmt.Errorf("make a socket transparent: %w", err)
				}
			}
		})
		return errors.Join(err, failed)
	}
}

// everywhere makes all addresses the namespace's own, but those of the pots. All routes are in the table that is
// asked first.
func (n *Net) everywhere(br netlink.Link) error {
	lo, err := n.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look for the loopback of the pots' namespace: %w", err)
	}
	if err := n.nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("start the loopback of the pots' namespace: %w", err)
	}
	for _, p := range []netip.Prefix{n.o.Subnet, n.o.Subnet6} {
		own := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		all := &net.IPNet{IP: make(net.IP, p.Addr().BitLen()/8), Mask: net.CIDRMask(0, p.Addr().BitLen())}
		for _, r := range []*netlink.Route{
			{LinkIndex: br.Attrs().Index, Dst: own, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_LINK},
			{LinkIndex: lo.Attrs().Index, Dst: all, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST},
		} {
			if err := n.nl.RouteReplace(r); err != nil {
				return fmt.Errorf("lead %s in the pots' namespace: %w", r.Dst, err)
			}
		}
	}
	return nil
}

// Place returns which pot has an address, if any may.
func (n *Net) Place(a netip.Addr) (index int, ok bool) {
	p := n.o.Subnet6
	if a.Is4() {
		p = n.o.Subnet
	}
	if !p.Contains(a) {
		return 0, false
	}
	raw, base := a.AsSlice(), p.Addr().AsSlice()
	x := 0
	for i := range raw {
		d := int(raw[i]) - int(base[i])
		if x > maxIndex {
			return 0, false
		}
		x = x<<8 + d
	}
	index = x - firstIndex
	return index, index >= 0 && index < n.Capacity()
}

// Addresses returns both addresses of a place.
func (n *Net) Addresses(index int) []netip.Addr {
	return []netip.Addr{n.Address(index), n.address6(index)}
}
