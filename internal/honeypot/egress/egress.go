// Package egress holds pots in a network namespace of its own that has no uplink, and opens the
// node's connections to them.
//
// The namespace has one bridge and nothing else that leads anywhere: no link to the machine, no
// second network. Each pot is a port of the bridge that is isolated from all other ports. Whatever is
// flushed or forgotten, there is no way out; the packet filter inside only keeps the bridge's own
// address silent.
//
// Every address is the namespace's own (AnyIP), so that what a pot calls ends in the sockets of
// OpenSockets, wherever it is meant to go, and the packet filter leads it to them.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

const (
	// DefaultName is the namespace of a machine's only node.
	DefaultName = "kokkuri-pots"

	bridgeName = "br0"
	mendEvery  = 500 * time.Millisecond

	// firstIndex leaves room below the pots, as an ordinary network does.
	firstIndex = 10
	maxIndex   = 1 << 16
)

// DefaultSubnet is what pots see as their network unless configured otherwise.
func DefaultSubnet() netip.Prefix { return netip.MustParsePrefix("172.31.0.0/16") }

// Options describe the network of the pots.
type Options struct {
	Name    string       // of the namespace; DefaultName where empty
	Subnet  netip.Prefix // IPv4, /8 to /28; DefaultSubnet where invalid
	Subnet6 netip.Prefix // IPv6, a /64
	Log     *slog.Logger
}

// Net is the network of the pots. Its methods may be called concurrently.
type Net struct {
	o   Options
	ns  *netns.NS
	nl  *netlink.Handle
	log *slog.Logger

	mu         sync.Mutex // one change of the network at a time
	generation uint32     // of the rule set that was last found right
	checked    bool       // generation is valid

	bound map[int]string // which pots have which places
	sunk  map[int]bool   // places whose pots reach the sinkhole
}

// Open makes the namespace, its bridge and its rules, or adopts those that are there.
func Open(o Options) (*Net, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if !o.Subnet.IsValid() {
		o.Subnet = DefaultSubnet()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Subnet, o.Subnet6 = o.Subnet.Masked(), o.Subnet6.Masked()
	if !o.Subnet.Addr().Is4() || o.Subnet.Bits() < 8 || o.Subnet.Bits() > 28 {
		return nil, fmt.Errorf("network of the pots: %s is not an IPv4 network from /8 to /28", o.Subnet)
	}
	if !o.Subnet6.Addr().Is6() || o.Subnet6.Bits() != 64 {
		return nil, fmt.Errorf("network of the pots: %s is not an IPv6 /64", o.Subnet6)
	}
	ns, err := netns.Ensure(o.Name)
	if err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandleAt(vnetns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		_ = ns.Close()
		return nil, fmt.Errorf("reach the kernel in network namespace %s: %w", o.Name, err)
	}
	n := &Net{o: o, ns: ns, nl: nl, log: o.Log, bound: make(map[int]string), sunk: make(map[int]bool)}
	if same, err := ns.Same(nil); err != nil || same {
		_ = n.Close()
		if same {
			err = fmt.Errorf("network namespace %s is the machine's own", o.Name)
		}
		return nil, err
	}
	if err := n.Ensure(); err != nil {
		_ = n.Close()
		return nil, err
	}
	return n, nil
}

// Close forgets the network; it stays as it is, with the pots in it.
func (n *Net) Close() error {
	n.nl.Close()
	return n.ns.Close()
}

// Remove deletes a namespace with all that is in it. Pots that still run lose their network.
func Remove(name string) error {
	if name == "" {
		name = DefaultName
	}
	return netns.Delete(name)
}

// Capacity returns how many pots fit.
func (n *Net) Capacity() int {
	return min(1<<(32-n.o.Subnet.Bits())-1, maxIndex) - firstIndex
}

// Address returns the address of the pot with index i, from 0 to Capacity()-1.
func (n *Net) Address(i int) netip.Addr { return hostOf(n.o.Subnet, firstIndex+i) }

func (n *Net) address6(i int) netip.Addr { return hostOf(n.o.Subnet6, firstIndex+i) }

// Gateway returns the bridge's address, the pots' default route.
func (n *Net) Gateway() netip.Addr { return hostOf(n.o.Subnet, 1) }

func (n *Net) gateway6() netip.Addr { return hostOf(n.o.Subnet6, 1) }

// hostOf returns the i-th address of a network.
func hostOf(p netip.Prefix, i int) netip.Addr {
	a := p.Masked().Addr().AsSlice()
	for k := len(a) - 1; i > 0; k-- {
		i += int(a[k])
		a[k] = byte(i)
		i >>= 8
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// macOf returns the hardware address of a pot: of the block that virtual machines have (KVM's), and
// different for different indexes. 02:42, which containers have, would tell.
func macOf(i int) net.HardwareAddr {
	x := uint32(i+1) * 0x9E3779 & 0xFFFFFF // odd, hence one to one
	return net.HardwareAddr{0x52, 0x54, 0x00, byte(x >> 16), byte(x >> 8), byte(x)}
}

// Ensure brings the bridge, its addresses, the settings and the rules to what they should be.
func (n *Net) Ensure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ensureLocked()
}

func (n *Net) ensureLocked() error {
	br, err := n.bridge()
	if err != nil {
		return err
	}
	for _, p := range []netip.Prefix{
		netip.PrefixFrom(n.Gateway(), n.o.Subnet.Bits()),
		netip.PrefixFrom(n.gateway6(), n.o.Subnet6.Bits()),
	} {
		if err := n.nl.AddrReplace(br, addrOf(p)); err != nil {
			return fmt.Errorf("give %s to the bridge of the pots: %w", p, err)
		}
	}
	if err := n.nl.LinkSetUp(br); err != nil {
		return fmt.Errorf("start the bridge of the pots: %w", err)
	}
	if err := n.everywhere(br); err != nil {
		return err
	}
	if err := n.bridgeAside(); err != nil {
		return err
	}
	return n.mendRules()
}

// bridgeAside keeps the packet filter from seeing packets while they cross the bridge, as it does in every
// namespace once the module br_netfilter is loaded, which Docker may do at any time: what it led to a socket
// there would be forgotten until the packet arrives.
func (n *Net) bridgeAside() error {
	return n.ns.Do(func() error {
		for _, name := range []string{"iptables", "ip6tables", "arptables"} {
			path := "/proc/sys/net/bridge/bridge-nf-call-" + name
			value, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) || err == nil && len(value) > 0 && value[0] == '0' {
				continue
			}
			if err := os.WriteFile(path, []byte("0"), 0o600); err != nil {
				return fmt.Errorf("keep bridges from the packet filter: %w", err)
			}
		}
		return nil
	})
}

func (n *Net) bridge() (netlink.Link, error) { //nolint:ireturn // the library has links as interfaces only
	br, err := n.nl.LinkByName(bridgeName)
	if err == nil {
		return br, nil
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("look for the bridge of the pots: %w", err)
	}
	// Settings come before the first link, which takes them over.
	if err := n.ns.Do(func() error { return setAll(namespaceSettings()) }); err != nil {
		return nil, err
	}
	snooping := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	attrs.HardwareAddr = macOf(maxIndex)
	err = n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping})
	if err != nil {
		return nil, fmt.Errorf("make the bridge of the pots: %w", err)
	}
	br, err = n.nl.LinkByName(bridgeName)
	if err != nil {
		return nil, fmt.Errorf("look for the bridge of the pots: %w", err)
	}
	return br, nil
}

// Run keeps the rules in the namespace right until ctx is done.
func (n *Net) Run(ctx context.Context) {
	tick := time.NewTicker(mendEvery)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.mu.Lock()
		err := errors.Join(n.bridgeAside(), n.mendRules())
		n.mu.Unlock()
		if err != nil && !failed {
			n.log.WarnContext(ctx, "rules of the pots' network", "error", err)
		}
		failed = err != nil
	}
}

// Dial connects to a pot from inside the namespace.
func (n *Net) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if !n.o.Subnet.Contains(addr.Addr()) && !n.o.Subnet6.Contains(addr.Addr()) {
		return nil, fmt.Errorf("dial %s: not an address of a pot", addr)
	}
	return n.ns.DialTCP(ctx, addr)
}

// DialAs connects to a port of the pot at a place as its attacker: the pot sees the attacker's address. Of a network
// of attackers it is the first one.
func (n *Net) DialAs(ctx context.Context, attacker netip.Prefix, place int, port uint16) (net.Conn, error) {
	from, to := attacker.Addr().Unmap(), n.Address(place)
	if !attacker.IsSingleIP() {
		from = attacker.Masked().Addr().Next()
	}
	if from.Is6() {
		to = n.address6(place)
	}
	if !from.IsGlobalUnicast() || n.o.Subnet.Contains(from) || n.o.Subnet6.Contains(from) { // the pot knows better
		from, to = netip.Addr{}, n.Address(place)
	}
	return n.ns.DialTCPFrom(ctx, from, netip.AddrPortFrom(to, port))
}

type setting struct{ path, value string }

// namespaceSettings make the namespace a dead end: it forwards nothing and answers no pings.
func namespaceSettings() []setting {
	return []setting{
		{"ipv4/ip_forward", "0"},
		{"ipv4/icmp_echo_ignore_all", "1"},
		{"ipv4/conf/all/accept_redirects", "0"},
		{"ipv4/conf/default/accept_redirects", "0"},
		{"ipv4/conf/all/rp_filter", "1"},
		// The answer to a cookie would find no socket: that of the sinkhole is at another port.
		{"ipv4/tcp_syncookies", "0"},
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/all/forwarding", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/accept_redirects", "0"},
		{"ipv6/icmp/echo_ignore_all", "1"},
	}
}

// setAll writes settings in the namespace of the calling thread.
func setAll(settings []setting) error {
	for _, s := range settings {
		if err := os.WriteFile("/proc/sys/net/"+s.path, []byte(s.value), 0o600); err != nil {
			return fmt.Errorf("set net/%s to %s: %w", s.path, s.value, err)
		}
	}
	return nil
}

func addrOf(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else can have it, and it has to work at once
	}
	return a
}
