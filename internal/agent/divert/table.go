package divert

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// table is our nftables table; nothing outside of it is written through it.
type table struct {
	name  string
	space space

	conn *nftables.Conn
	pids atomic.Pointer[[]uint32] // netlink port ids of conn, the newest first: tell our own notifications from those of others
}

// shape is what of the table depends on the host: where forwarding was off before us, only redirected flows pass.
type shape struct {
	closed4 []string // interfaces whose arriving IPv4 packets were not forwarded before us; sorted
	closed6 []string // the same for IPv6
	all6    bool     // no interface forwarded IPv6 before us
}

func (s shape) open() bool { return len(s.closed4) == 0 && len(s.closed6) == 0 && !s.all6 }

func (t *table) open() (*nftables.Conn, error) {
	if t.conn != nil {
		return t.conn, nil
	}
	opts := []nftables.ConnOption{nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		t.remember(c.PID())
		return nil
	})}
	if t.space.fd != 0 {
		opts = append(opts, nftables.WithNetNSFd(t.space.fd))
	}
	conn, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open nftables netlink: %w", err)
	}
	t.conn = conn
	return conn, nil
}

// remember keeps the last few port ids, for notifications of what a closed connection did still come in.
func (t *table) remember(pid uint32) {
	pids := []uint32{pid}
	if old := t.pids.Load(); old != nil {
		pids = append(pids, (*old)[:min(len(*old), 7)]...)
	}
	t.pids.Store(&pids)
}

// did says whether a netlink port id is ours.
func (t *table) did(pid uint32) bool {
	pids := t.pids.Load()
	return pids != nil && slices.Contains(*pids, pid)
}

// close ends the connection; the next use opens another. After an error the old one may still hold
// messages and answers of the batch that failed.
func (t *table) close() {
	if t.conn != nil {
		_ = t.conn.CloseLasting()
		t.conn = nil
	}
}

func (t *table) ref() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyINet}
}

func (t *table) sets() []*nftables.Set {
	pair4 := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	pair6 := nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	m := func(id uint32, name string, pair nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{
			Table: t.ref(), ID: id, Name: name, IsMap: true, HasTimeout: true, Concatenation: true,
			KeyType: pair, DataType: pair, KeyByteOrder: binaryutil.BigEndian,
		}
	}
	s := func(id uint32, name string, typ nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t.ref(), ID: id, Name: name, HasTimeout: true, KeyType: typ, KeyByteOrder: binaryutil.BigEndian}
	}
	return []*nftables.Set{
		m(1, map4, pair4), m(2, map6host, pair6), m(3, map6net, pair6),
		s(4, set4, nftables.TypeIPAddr), s(5, set6, nftables.TypeIP6Addr),
	}
}

// chain is a base chain with its rules.
type chain struct {
	*nftables.Chain

	rules [][]expr.Any
}

// chains says what the table is to hold. Priorities are ten before the customary ones, so that a redirect
// goes before a port forward of the same port (Docker's, say).
func (t *table) chains(s shape) []chain {
	base := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		accept := nftables.ChainPolicyAccept
		return &nftables.Chain{
			Name: name, Table: t.ref(), Type: typ, Hooknum: hook,
			Priority: new(priority), Policy: &accept,
		}
	}
	out := []chain{
		{base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest-10), [][]expr.Any{
			redirect(unix.NFPROTO_IPV4, map4), redirect(unix.NFPROTO_IPV6, map6host), redirect(unix.NFPROTO_IPV6, map6net),
		}},
		{base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource-10), [][]expr.Any{
			join(dnatted(), address(unix.NFPROTO_IPV4, false, set4), []expr.Any{&expr.Masq{}}),
			join(dnatted(), address(unix.NFPROTO_IPV6, false, set6), []expr.Any{&expr.Masq{}}),
		}},
	}
	if s.open() {
		return out
	}
	accept, drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}, []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	reply := []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, equal([]byte{1})}
	related := bits(&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, expr.CtStateBitRELATED)
	rules := [][]expr.Any{
		join(dnatted(), address(unix.NFPROTO_IPV4, false, set4), accept),
		join(dnatted(), reply, address(unix.NFPROTO_IPV4, true, set4), accept),
		join(dnatted(), address(unix.NFPROTO_IPV6, false, set6), accept),
		join(dnatted(), reply, address(unix.NFPROTO_IPV6, true, set6), accept),
		join(related, dnatted(), accept), // errors on the way, "fragmentation needed" above all
	}
	from := func(name string) []expr.Any {
		padded := make([]byte, 16)
		copy(padded, name)
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(padded)}
	}
	for _, name := range s.closed4 {
		rules = append(rules, join(family(unix.NFPROTO_IPV4), from(name), drop))
	}
	for _, name := range s.closed6 {
		rules = append(rules, join(family(unix.NFPROTO_IPV6), from(name), drop))
	}
	if s.all6 {
		rules = append(rules, join(family(unix.NFPROTO_IPV6), drop))
	}
	return append(out, chain{base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter), rules})
}

// redirect is the rule that looks the source and port up in a map. It takes the first packet of a connection
// only: one whose conntrack entry is missing (a spared one, older than our table) is never redirected midway.
func redirect(proto byte, mapName string) []expr.Any {
	rule := join(
		[]expr.Any{
			&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
			equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_TCP}),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}}, equal([]byte{0x02}),
		},
		family(proto),
		[]expr.Any{payloadAddress(proto, true)},
	)
	if mapName == map6net {
		mask := append(slices.Repeat([]byte{0xff}, 8), make([]byte, 8)...)
		rule = append(rule, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 16, Mask: mask, Xor: make([]byte, 16)})
	}
	port := uint32(unix.NFT_REG32_00 + 1) // the word after an IPv4 address in register 1
	if proto == unix.NFPROTO_IPV6 {
		port = unix.NFT_REG_2
	}
	return append(
		rule,
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: mapName},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(proto), RegAddrMin: 1, RegProtoMin: port, Specified: true},
	)
}

func join(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

func equal(b []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func family(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{proto})}
}

// bits matches where what load put into register 1 has any bit of mask.
func bits(load expr.Any, mask uint32) []expr.Any {
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

const statusDNAT = 0x20 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h

func dnatted() []expr.Any { return bits(&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}, statusDNAT) }

func payloadAddress(proto byte, source bool) *expr.Payload {
	p := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
	if proto == unix.NFPROTO_IPV6 {
		p.Offset, p.Len = 24, 16
	}
	if source {
		p.Offset -= p.Len
	}
	return p
}

// address matches where the packet's source or destination is in a set.
func address(proto byte, source bool, set string) []expr.Any {
	return join(family(proto), []expr.Any{payloadAddress(proto, source), &expr.Lookup{SourceRegister: 1, SetName: set}})
}

// ensure makes the table be what s says, elements apart, and reports whether it had to be made anew, empty.
func (t *table) ensure(s shape) (rebuilt bool, err error) {
	conn, err := t.open()
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	actual, err := t.actual(conn)
	if err != nil {
		return false, err
	}
	want := t.chains(s)
	sound := actual != nil && t.soundSets(conn)
	for _, c := range want[:2] {
		sound = sound && sameBase(actual[c.Name], c.Chain)
	}
	if !sound {
		return true, t.rebuild(conn, want)
	}
	changed := false
	for _, c := range want {
		have := actual[c.Name]
		if have != nil && sameBase(have, c.Chain) {
			same, err := t.sameRules(conn, c)
			if err != nil {
				return false, err
			}
			if same {
				delete(actual, c.Name)
				continue
			}
		}
		changed = true
		if have != nil && !sameBase(have, c.Chain) {
			conn.FlushChain(have)
			conn.DelChain(have)
		}
		conn.AddChain(c.Chain)
		conn.FlushChain(c.Chain)
		t.addRules(conn, c)
		delete(actual, c.Name)
	}
	for _, c := range actual { // what is left is not wanted
		changed = true
		conn.FlushChain(c)
		conn.DelChain(c)
	}
	if !changed {
		return false, nil
	}
	if err := conn.Flush(); err != nil {
		return false, fmt.Errorf("mend table %s: %w", t.name, err)
	}
	return false, nil
}

func (t *table) rebuild(conn *nftables.Conn, want []chain) error {
	conn.AddTable(t.ref()) // so that there is one to delete
	conn.DelTable(t.ref())
	conn.AddTable(t.ref())
	for _, s := range t.sets() {
		if err := conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("make set %s: %w", s.Name, err)
		}
	}
	for _, c := range want {
		conn.AddChain(c.Chain)
		t.addRules(conn, c)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make table %s: %w", t.name, err)
	}
	return nil
}

func (t *table) addRules(conn *nftables.Conn, c chain) {
	for _, r := range c.rules {
		conn.AddRule(&nftables.Rule{Table: t.ref(), Chain: c.Chain, Exprs: r})
	}
}

// actual lists our chains; nil where there is no table.
func (t *table) actual(conn *nftables.Conn) (map[string]*nftables.Chain, error) {
	if _, err := conn.ListTableOfFamily(t.name, nftables.TableFamilyINet); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return nil, fmt.Errorf("look for table %s: %w", t.name, err)
	}
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	out := map[string]*nftables.Chain{}
	for _, c := range all {
		if c.Table.Name == t.name {
			out[c.Name] = c
		}
	}
	return out, nil
}

func (t *table) soundSets(conn *nftables.Conn) bool {
	have, err := conn.GetSets(t.ref())
	if err != nil {
		return false
	}
	for _, want := range t.sets() {
		i := slices.IndexFunc(have, func(s *nftables.Set) bool { return s.Name == want.Name })
		if i < 0 {
			return false
		}
		h := have[i]
		if h.IsMap != want.IsMap || !h.HasTimeout || h.KeyType.Name != want.KeyType.Name || h.DataType.Name != want.DataType.Name {
			return false
		}
	}
	return true
}

func sameBase(have, want *nftables.Chain) bool {
	return have != nil && have.Type == want.Type && have.Hooknum != nil && *have.Hooknum == *want.Hooknum &&
		have.Priority != nil && *have.Priority == *want.Priority && have.Policy != nil && *have.Policy == *want.Policy
}

func (t *table) sameRules(conn *nftables.Conn, c chain) (bool, error) {
	have, err := conn.GetRules(t.ref(), c.Chain)
	if err != nil {
		return false, fmt.Errorf("list rules of chain %s: %w", c.Name, err)
	}
	return slices.EqualFunc(have, c.rules, func(h *nftables.Rule, w []expr.Any) bool { return reflect.DeepEqual(h.Exprs, w) }), nil
}

// drop removes the table; one that is not there is no error.
func (t *table) drop() error {
	conn, err := t.open()
	if err != nil {
		return err
	}
	conn.AddTable(t.ref())
	conn.DelTable(t.ref())
	if err := conn.Flush(); err != nil {
		t.close()
		return fmt.Errorf("remove table %s: %w", t.name, err)
	}
	return nil
}
