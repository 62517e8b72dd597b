package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// as returns what has a program of the machine connect from one of its addresses. Most clients can't be told
// theirs: each address has a user id of its own, whose route prefers it.
func (m *Machine) as(ctx context.Context, from netip.Addr) ([]string, error) {
	if !m.ownsMany() || !from.IsValid() {
		return nil, nil
	}
	id := idOf(from)
	first := m.spec.at[0]
	err := m.Inside(ctx, func() error {
		link, err := linkWith(first.v4)
		if err != nil {
			return err
		}
		return preferAddress(link, id, from, first.net.prefixOf(from).Masked())
	})
	if err != nil {
		return nil, fmt.Errorf("have programs of %s use %s: %w", m.spec.name, from, err)
	}
	return []string{"setpriv", "--reuid=" + strconv.Itoa(id), "--clear-groups", "--"}, nil
}

func (m *Machine) ownsMany() bool { return len(m.spec.extra) > 0 }

// idOf is the user id of an address: the last byte of IPv4, the network within the lab's of IPv6.
func idOf(a netip.Addr) int {
	if a.Is4() {
		b := a.As4()
		return 20000 + int(b[3])
	}
	b := a.As16()
	return 30000 + (int(b[6])<<8|int(b[7]))%30000
}

// preferAddress has what a user id sends into a network come from an address; doing it again changes nothing.
func preferAddress(link netlink.Link, id int, from netip.Addr, to netip.Prefix) error {
	family := netlink.FAMILY_V4
	if from.Is6() {
		family = netlink.FAMILY_V6
	}
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = family, id, id
	rule.UIDRange = netlink.NewRuleUIDRange(uint32(id), uint32(id))
	if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the rule of user %d: %w", id, err)
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index, Table: id, Src: from.AsSlice(), Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add the route of user %d: %w", id, err)
	}
	return nil
}
