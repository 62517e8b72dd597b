package gate

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/ruleset"
)

// layout is the table as it should be.
//
//	table inet kokkuri_node {
//	  set endpoints4 { type ipv4_addr; elements = { … } }
//	  set from4    { type ipv4_addr . inet_service }
//	  set from6    { type ipv6_addr . inet_service }
//	  set from6net { type ipv6_addr . inet_service }     # by /64
//	  chain guard { type filter hook prerouting priority mangle; policy accept;
//	    ip daddr @endpoints4 tcp dport 20000-29999 jump members }
//	  chain members { ct state established,related accept; ip saddr . tcp dport @from4 accept; … counter drop }
//	  chain redirect { type nat hook prerouting priority dstnat; policy accept;
//	    ip daddr @endpoints4 ip saddr . tcp dport @from4 redirect to :LISTENER }
//	  chain listener { type filter hook input priority filter; policy accept;
//	    tcp dport LISTENER ct status & dnat == 0 counter drop }
//	}
type layout struct {
	table                *nftables.Table
	endpoints4           *nftables.Set
	endpoints6           *nftables.Set
	from4, from6, from64 *nftables.Set
	addresses4           []nftables.SetElement
	addresses6           []nftables.SetElement
	chains               []*nftables.Chain
	rules                map[string][][]expr.Any // by chain
}

func (g *Gate) layout() *layout {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: g.o.Table}
	set := func(name string, key nftables.SetDatatype, concat bool) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: key, Concatenation: concat}
	}
	pair4 := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	pair6 := nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	l := &layout{
		table:      t,
		endpoints4: set("endpoints4", nftables.TypeIPAddr, false),
		endpoints6: set("endpoints6", nftables.TypeIP6Addr, false),
		from4:      set("from4", pair4, true),
		from6:      set("from6", pair6, true),
		from64:     set("from6net", pair6, true),
	}
	for _, a := range g.o.Addresses {
		e := nftables.SetElement{Key: a.AsSlice()}
		if a.Is4() {
			l.addresses4 = append(l.addresses4, e)
		} else {
			l.addresses6 = append(l.addresses6, e)
		}
	}
	accept := nftables.ChainPolicyAccept
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: prio, Policy: &accept}
	}
	l.chains = []*nftables.Chain{
		{Name: "members", Table: t},
		base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle),
		base("redirect", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest),
		base("listener", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter),
	}
	l.rules = g.rules(l)
	return l
}

func (g *Gate) rules(l *layout) map[string][][]expr.Any {
	pass, drop := ruleset.Verdict(expr.VerdictAccept), ruleset.Verdict(expr.VerdictDrop)
	tcp := ruleset.Protocol(unix.IPPROTO_TCP)
	to := func(v4 bool) []expr.Any {
		endpoints := l.endpoints6
		if v4 {
			endpoints = l.endpoints4
		}
		return ruleset.Rule(ruleset.Family(v4), tcp, ruleset.DestinationIn(v4, endpoints))
	}
	member := func(v4 bool, bits int, set *nftables.Set) []expr.Any {
		return ruleset.Rule(ruleset.Family(v4), ruleset.SourceAndPortIn(v4, bits, set))
	}
	ports := ruleset.DestinationPorts(g.o.First, g.o.Last)
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "members"}}
	direct := func(port uint16) []expr.Any {
		return ruleset.Rule(tcp, ruleset.DestinationPorts(port, port),
			ruleset.CtStatusLacks(ruleset.IPSDstNAT), ruleset.Counted(), drop)
	}
	return map[string][][]expr.Any{
		"guard": {
			ruleset.Rule(to(true), ports, jump),
			ruleset.Rule(to(false), ports, jump),
		},
		"members": {
			ruleset.Rule(ruleset.CtState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), pass),
			ruleset.Rule(member(true, 32, l.from4), pass),
			ruleset.Rule(member(false, 128, l.from6), pass),
			ruleset.Rule(member(false, 64, l.from64), pass),
			ruleset.Rule(ruleset.Counted(), drop),
		},
		"redirect": {
			ruleset.Rule(to(true), member(true, 32, l.from4), ruleset.RedirectTo(g.o.Listener4)),
			ruleset.Rule(to(false), member(false, 128, l.from6), ruleset.RedirectTo(g.o.Listener6)),
			ruleset.Rule(to(false), member(false, 64, l.from64), ruleset.RedirectTo(g.o.Listener6)),
		},
		"listener": {direct(g.o.Listener4), direct(g.o.Listener6)},
	}
}

// create replaces the table by one whose sets of sources are empty.
func (l *layout) create(conn *nftables.Conn) {
	conn.AddTable(l.table)
	conn.DelTable(l.table)
	conn.AddTable(l.table)
	for _, s := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{{l.endpoints4, l.addresses4}, {l.endpoints6, l.addresses6}, {l.from4, nil}, {l.from6, nil}, {l.from64, nil}} {
		_ = conn.AddSet(s.set, s.elements) // fails for anonymous and constant sets only
	}
	for _, c := range l.chains {
		conn.AddChain(c)
	}
	for _, c := range l.chains {
		for _, r := range l.rules[c.Name] {
			conn.AddRule(&nftables.Rule{Table: l.table, Chain: c, Exprs: r})
		}
	}
}

// setOf returns the set that an element belongs to, and its key there.
func (l *layout) setOf(e Element) (*nftables.Set, []byte) {
	key := binary.BigEndian.AppendUint16(e.Prefix.Addr().AsSlice(), e.Port)
	key = append(key, 0, 0) // each part of a key takes whole words
	switch {
	case e.Prefix.Addr().Is4():
		return l.from4, key
	case e.Prefix.IsSingleIP():
		return l.from6, key
	default:
		return l.from64, key
	}
}

func (l *layout) split(elements []Element) map[*nftables.Set][]nftables.SetElement {
	out := make(map[*nftables.Set][]nftables.SetElement)
	for _, e := range elements {
		set, key := l.setOf(e)
		out[set] = append(out[set], nftables.SetElement{Key: key})
	}
	return out
}

// matches reports whether the kernel has the table, its rules and exactly these elements.
func (l *layout) matches(conn *nftables.Conn, elements map[Element]struct{}) (bool, error) {
	found, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	present := make(map[string]*nftables.Chain)
	for _, c := range found {
		if c.Table.Name == l.table.Name {
			present[c.Name] = c
		}
	}
	for _, c := range l.chains {
		have := present[c.Name]
		if have == nil || c.Hooknum != nil && (have.Hooknum == nil || *have.Hooknum != *c.Hooknum) {
			return false, nil
		}
		rules, err := conn.GetRules(l.table, c)
		if err != nil {
			return false, fmt.Errorf("list rules of chain %s: %w", c.Name, err)
		}
		if len(rules) != len(l.rules[c.Name]) {
			return false, nil
		}
	}
	want := map[string]map[string]bool{
		l.endpoints4.Name: keys(l.addresses4), l.endpoints6.Name: keys(l.addresses6),
		l.from4.Name: {}, l.from6.Name: {}, l.from64.Name: {},
	}
	for e := range elements {
		set, key := l.setOf(e)
		want[set.Name][string(key)] = true
	}
	for _, set := range []*nftables.Set{l.endpoints4, l.endpoints6, l.from4, l.from6, l.from64} {
		have, err := conn.GetSetElements(set)
		if err != nil {
			return false, fmt.Errorf("list set %s: %w", set.Name, err)
		}
		if len(have) != len(want[set.Name]) {
			return false, nil
		}
		for _, e := range have {
			if !want[set.Name][string(e.Key)] {
				return false, nil
			}
		}
	}
	return true, nil
}

func keys(elements []nftables.SetElement) map[string]bool {
	out := make(map[string]bool, len(elements))
	for _, e := range elements {
		out[string(e.Key)] = true
	}
	return out
}
