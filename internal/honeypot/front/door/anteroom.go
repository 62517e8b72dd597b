package door

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

const maxListeners = 64

// anteroom is a network namespace in which every address is its own: a connection in it can come from the attacker's own
// address, whatever the host that the attacker was redirected by made of it, and lead to the host's. Nothing else is in it.
type anteroom struct {
	ns *netns.NS

	mu        sync.Mutex // one connection is made at a time: nobody else can be the next one
	listeners map[listening]int
}

type listening struct {
	family int
	port   uint16
}

func newAnteroom() (*anteroom, error) {
	ns, err := netns.Anonymous()
	if err != nil {
		return nil, err
	}
	a := &anteroom{ns: ns, listeners: make(map[listening]int)}
	if err := a.furnish(); err != nil {
		a.close()
		return nil, fmt.Errorf("make the anteroom of the doors: %w", err)
	}
	return a, nil
}

func (a *anteroom) furnish() error {
	nl, err := netlink.NewHandleAt(vnetns.NsHandle(a.ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the kernel: %w", err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look for lo: %w", err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("start lo: %w", err)
	}
	for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		err := nl.RouteReplace(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
			Dst: &net.IPNet{IP: all.Addr().AsSlice(), Mask: net.CIDRMask(0, all.Addr().BitLen())},
		})
		if err != nil {
			return fmt.Errorf("make every address its own: %w", err)
		}
	}
	return nil
}

func (a *anteroom) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, fd := range a.listeners {
		_ = unix.Close(fd)
	}
	a.listeners = nil
	_ = a.ns.Close()
}

// pair makes a connection from an attacker to where it believes to be, and returns both ends. Where the attacker's port is
// taken, it has another.
func (a *anteroom) pair(from, to netip.AddrPort) (client *net.TCPConn, server *os.File, err error) {
	if from.Addr().Is4() != to.Addr().Is4() {
		return nil, nil, fmt.Errorf("connect %s to %s: they are of different families", from, to)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l, err := a.listenLocked(to)
	if err != nil {
		return nil, nil, err
	}
	fd, err := a.connectLocked(from, to)
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) {
		fd, err = a.connectLocked(netip.AddrPortFrom(from.Addr(), 0), to)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("connect %s to %s: %w", from, to, err)
	}
	accepted, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		_ = unix.Close(fd)
		return nil, nil, fmt.Errorf("accept %s: %w", from, err)
	}
	f := os.NewFile(uintptr(fd), "anteroom")
	defer f.Close() //nolint:errcheck // FileConn has a descriptor of its own
	c, err := net.FileConn(f)
	conn, ok := c.(*net.TCPConn)
	if err != nil || !ok {
		_ = unix.Close(accepted)
		return nil, nil, fmt.Errorf("connect %s to %s: %w", from, to, errors.Join(err, errors.ErrUnsupported))
	}
	return conn, os.NewFile(uintptr(accepted), "connection"), nil
}

func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) { //nolint:ireturn // the kernel's are of many kinds
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// socketLocked makes a socket in the anteroom that may have any address.
func (a *anteroom) socketLocked(family int) (int, error) {
	fd := -1
	err := a.ns.Do(func() error {
		var err error
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	if family == unix.AF_INET6 {
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	err = unix.SetsockoptInt(fd, level, option, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	return fd, nil
}

func (a *anteroom) listenLocked(to netip.AddrPort) (int, error) {
	family, sa := sockaddr(netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port()))
	if to.Addr().Is4() {
		family, sa = sockaddr(netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port()))
	}
	key := listening{family, to.Port()}
	if fd, ok := a.listeners[key]; ok {
		return fd, nil
	}
	if a.listeners == nil {
		return -1, net.ErrClosed
	}
	for old, fd := range a.listeners { // there are as many as hosts have ports of SSH
		if len(a.listeners) < maxListeners {
			break
		}
		_ = unix.Close(fd)
		delete(a.listeners, old)
	}
	fd, err := a.socketLocked(family)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen on port %d: %w", to.Port(), err)
	}
	a.listeners[key] = fd
	return fd, nil
}

func (a *anteroom) connectLocked(from, to netip.AddrPort) (int, error) {
	family, local := sockaddr(from)
	_, remote := sockaddr(to)
	fd, err := a.socketLocked(family)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, local); err == nil {
		err = unix.Connect(fd, remote)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err //nolint:wrapcheck // the caller says what was done
	}
	return fd, nil
}
