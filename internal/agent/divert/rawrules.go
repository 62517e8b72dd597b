package divert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// readFilters takes a snapshot of every chain that can see redirected packets, our own table apart.
func readFilters(sp space, ownTable string) (*ruleset, error) {
	opts := []nftables.ConnOption{nftables.AsLasting()}
	if sp.fd != 0 {
		opts = append(opts, nftables.WithNetNSFd(sp.fd))
	}
	conn, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open nftables netlink: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	raw, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: sp.fd})
	if err != nil {
		return nil, fmt.Errorf("open nftables netlink: %w", err)
	}
	defer func() { _ = raw.Close() }()
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the host's chains: %w", err)
	}
	c := &compiler{conn: conn, raw: raw, sets: map[string]*members{}}
	rs := &ruleset{chains: map[chainID]*filter{}}
	filters := make([]*filter, 0, len(all))
	for _, ch := range all {
		f := newFilter(ch)
		if f == nil || f.family == "inet" && f.table == ownTable {
			continue
		}
		filters = append(filters, f)
		rs.chains[f.id()] = f
	}
	if !slices.ContainsFunc(filters, func(f *filter) bool { return f.base }) {
		return rs, nil
	}
	for _, f := range reachable(filters) {
		if err := c.rules(f); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// reachable keeps the chains of tables that filter forwarded or arriving packets.
func reachable(filters []*filter) []*filter {
	type tableID struct{ family, name string }
	of := func(f *filter) tableID { return tableID{f.family, f.table} }
	tables := map[tableID]bool{}
	for _, f := range filters {
		if f.base {
			tables[of(f)] = true
		}
	}
	return slices.DeleteFunc(filters, func(f *filter) bool { return !tables[of(f)] })
}

func newFilter(ch *nftables.Chain) *filter {
	f := &filter{table: ch.Table.Name, name: ch.Name}
	switch ch.Table.Family {
	case nftables.TableFamilyIPv4:
		f.family = "ip"
	case nftables.TableFamilyIPv6:
		f.family = "ip6"
	case nftables.TableFamilyINet:
		f.family = "inet"
	default:
		return nil
	}
	if ch.Hooknum != nil && ch.Type == nftables.ChainTypeFilter {
		f.hook = uint32(*ch.Hooknum)
		f.base = f.hook == unix.NF_INET_FORWARD || f.hook == unix.NF_INET_LOCAL_IN
		f.drops = ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop
	}
	return f
}

func (f *filter) tableRef() *nftables.Table {
	families := map[string]nftables.TableFamily{
		"ip": nftables.TableFamilyIPv4, "ip6": nftables.TableFamilyIPv6, "inet": nftables.TableFamilyINet,
	}
	return &nftables.Table{Name: f.table, Family: families[f.family]}
}

// compiler turns the kernel's rules into tests. It reads them itself, for the library leaves out what it
// doesn't know, and a rule without its unknown match would match everything.
type compiler struct {
	conn *nftables.Conn
	raw  *netlink.Conn
	sets map[string]*members
}

func (c *compiler) rules(f *filter) error {
	ref := f.tableRef()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(f.table + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(f.name + "\x00")},
	})
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	msgs, err := c.raw.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{byte(ref.Family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // gone since the chains were listed
	}
	if err != nil {
		return fmt.Errorf("list rules of %s %s %s: %w", f.family, f.table, f.name, err)
	}
	for _, msg := range msgs {
		s, err := c.rule(ref, msg)
		if err != nil {
			return fmt.Errorf("read a rule of %s %s %s: %w", f.family, f.table, f.name, err)
		}
		f.rules = append(f.rules, s)
	}
	return nil
}

// attributes decodes one level of netlink attributes; the later of two of one type wins.
func attributes(b []byte) (map[uint16][]byte, error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, fmt.Errorf("decode attributes: %w", err)
	}
	out := map[uint16][]byte{}
	for ad.Next() {
		out[ad.Type()] = ad.Bytes()
	}
	if err := ad.Err(); err != nil {
		return nil, fmt.Errorf("decode attributes: %w", err)
	}
	return out, nil
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (c *compiler) rule(ref *nftables.Table, msg netlink.Message) (step, error) {
	if len(msg.Data) < 4 {
		return nil, errors.New("short message")
	}
	top, err := attributes(msg.Data[4:])
	if err != nil {
		return nil, err
	}
	list, err := netlink.NewAttributeDecoder(top[unix.NFTA_RULE_EXPRESSIONS])
	if err != nil {
		return nil, fmt.Errorf("decode expressions: %w", err)
	}
	var s step
	for list.Next() {
		e, err := attributes(list.Bytes())
		if err != nil {
			return nil, err
		}
		data := map[uint16][]byte{}
		if e[unix.NFTA_EXPR_DATA] != nil {
			if data, err = attributes(e[unix.NFTA_EXPR_DATA]); err != nil {
				return nil, err
			}
		}
		name := string(e[unix.NFTA_EXPR_NAME])
		test, err := c.expression(ref, trimNUL(name), data)
		if err != nil {
			return nil, err
		}
		if test != nil {
			s = append(s, test)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("decode expressions: %w", err)
	}
	return s, nil
}

func trimNUL(s string) string {
	for len(s) > 0 && s[len(s)-1] == 0 {
		s = s[:len(s)-1]
	}
	return s
}

// nested returns the bytes of an NFTA_DATA_VALUE below an attribute.
func nested(b []byte) []byte {
	a, err := attributes(b)
	if err != nil {
		return nil
	}
	return a[unix.NFTA_DATA_VALUE]
}

// readVerdict decodes an NFTA_DATA_VERDICT.
func readVerdict(b []byte) (verdict, bool) {
	a, err := attributes(b)
	if err != nil || a[unix.NFTA_VERDICT_CODE] == nil {
		return verdict{}, false
	}
	code := int32(number(a[unix.NFTA_VERDICT_CODE]))
	return verdict{code: code, chain: trimNUL(string(a[unix.NFTA_VERDICT_CHAIN]))}, true
}

// members are the elements of a set, as ranges with both ends in it.
type members struct{ ranges []memberRange }

type memberRange struct {
	lo, hi  []byte
	verdict verdict
}

const maxMembers = 1 << 16 // a larger set is not looked into

func (c *compiler) members(ref *nftables.Table, name string) *members {
	id := fmt.Sprintf("%d %s %s", ref.Family, ref.Name, name)
	if m, ok := c.sets[id]; ok {
		return m
	}
	m := &members{}
	c.sets[id] = m
	set := &nftables.Set{Table: ref, Name: name}
	elements, err := c.conn.GetSetElements(set)
	if err != nil || len(elements) > maxMembers {
		c.sets[id] = nil
		return nil
	}
	slices.SortStableFunc(elements, func(a, b nftables.SetElement) int {
		if n := bytes.Compare(a.Key, b.Key); n != 0 || a.IntervalEnd == b.IntervalEnd {
			return n
		}
		if a.IntervalEnd { // one range ends where the next begins
			return -1
		}
		return 1
	})
	interval := slices.ContainsFunc(elements, func(e nftables.SetElement) bool { return e.IntervalEnd })
	for _, e := range elements {
		if e.IntervalEnd {
			if n := len(m.ranges); n > 0 && bytes.Compare(m.ranges[n-1].lo, e.Key) < 0 {
				m.ranges[n-1].hi = before(e.Key)
			}
			continue
		}
		if len(e.KeyEnd) > 0 && !bytes.Equal(e.Key, e.KeyEnd) { // ranges of several fields: not looked into
			c.sets[id] = nil
			return nil
		}
		r := memberRange{lo: e.Key, hi: e.Key}
		if interval {
			r.hi = slices.Repeat([]byte{0xff}, len(e.Key)) // until its end comes
		}
		if v, ok := readVerdict(e.Val); ok {
			r.verdict = v
		}
		m.ranges = append(m.ranges, r)
	}
	return m
}

// before returns the key that comes just before k.
func before(k []byte) []byte {
	out := slices.Clone(k)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}
