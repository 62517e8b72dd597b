package front

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h and IP6T_SO_ORIGINAL_DST of
// linux/netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// originalDestination returns where a redirected connection was made to.
func originalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("ask for the original destination: %w", err)
	}
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("ask for the original destination: %T is no TCP address", c.LocalAddr())
	}
	var to netip.AddrPort
	var optErr error
	err = raw.Control(func(fd uintptr) {
		if local.IP.To4() != nil {
			to, optErr = originalDestination4(int(fd))
		} else {
			to, optErr = originalDestination6(int(fd))
		}
	})
	if err == nil {
		err = optErr
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("ask for the original destination: %w", err)
	}
	return to, nil
}

func originalDestination4(fd int) (netip.AddrPort, error) {
	// The option gives a sockaddr_in, whose 16 bytes this call's structure starts with.
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err //nolint:wrapcheck // the caller says what was done
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

func originalDestination6(fd int) (netip.AddrPort, error) {
	// The option gives a sockaddr_in6, which this call's structure starts with.
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err //nolint:wrapcheck // the caller says what was done
	}
	port := binary.NativeEndian.AppendUint16(nil, m.Addr.Port) // as the kernel wrote it: big-endian
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port)), nil
}

// localDestination returns where a connection that was not redirected was made to.
func localDestination(c *net.TCPConn) (netip.AddrPort, error) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%T is no TCP address", c.LocalAddr())
	}
	return local.AddrPort(), nil
}
