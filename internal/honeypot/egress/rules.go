package egress

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/ruleset"
)

const tableName = "kokkuri_pots"

// chains returns what the table has to hold. What a pot sends is taken from nobody but the pot that has its
// hardware address and its address. Of a pot that may call out, it is led to the sinkhole's sockets, or dropped;
// of all others only the answers to the node's own connections pass. Nothing is forwarded.
func chains(table *nftables.Table, s sets) map[*nftables.Chain][][]expr.Any {
	drop, accept := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	arrive := &nftables.Chain{
		Name: "arrive", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	}
	input := &nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	}
	forward := &nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	}
	return map[*nftables.Chain][][]expr.Any{
		arrive: arriveRules(s),
		input: {
			ruleset.Rule(ruleset.Marked(sinkMark), ruleset.Verdict(expr.VerdictAccept)),
			ruleset.Rule(ruleset.NoNewTCP(), ruleset.Verdict(expr.VerdictAccept)),
			neighbour(135),
			neighbour(136),
		},
		forward: nil,
	}
}

// neighbour accepts the messages by which IPv6 finds hardware addresses (RFC 4861).
func neighbour(icmpType byte) []expr.Any {
	return ruleset.Rule(
		ruleset.Protocol(unix.IPPROTO_ICMPV6),
		[]expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{icmpType}},
		},
		ruleset.Verdict(expr.VerdictAccept))
}

// mendRules puts the table in place where the kernel's rule set changed and the table is not whole.
func (n *Net) mendRules() error {
	before, err := ruleset.Generation(n.ns.Fd())
	if err != nil {
		return err
	}
	if n.checked && before == n.generation {
		return nil
	}
	conn, err := nftables.New(nftables.WithNetNSFd(n.ns.Fd()))
	if err != nil {
		return fmt.Errorf("reach nftables in the pots' namespace: %w", err)
	}
	whole, err := n.whole(conn)
	if err != nil {
		return err
	}
	if whole {
		n.generation, n.checked = before, true
		return nil
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	sets := setsOf(table)
	if err := n.addSets(conn, sets); err != nil {
		return err
	}
	for chain, rules := range chains(table, sets) {
		conn.AddChain(chain)
		for _, r := range rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r})
		}
	}
	n.checked = false // looked at again at the next tick
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make table %s in the pots' namespace: %w", tableName, err)
	}
	return nil
}

func (n *Net) whole(conn *nftables.Conn) (bool, error) {
	found, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list chains in the pots' namespace: %w", err)
	}
	present := make(map[string]*nftables.Chain)
	for _, c := range found {
		if c.Table.Name == tableName {
			present[c.Name] = c
		}
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	sets := setsOf(table)
	for chain, rules := range chains(table, sets) {
		have := present[chain.Name]
		if have == nil || have.Policy == nil || *have.Policy != *chain.Policy {
			return false, nil
		}
		got, err := conn.GetRules(table, chain)
		if err != nil {
			return false, fmt.Errorf("list rules in the pots' namespace: %w", err)
		}
		if len(got) != len(rules) {
			return false, nil
		}
	}
	return n.setsWhole(conn, sets)
}
