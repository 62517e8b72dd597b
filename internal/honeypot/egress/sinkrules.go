package egress

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/ruleset"
)

const (
	// sinkPort is where the sinkhole listens, for whatever port a pot called. Nothing else listens in the namespace.
	sinkPort = 1
	// dnsPort is where its resolver listens: answers have to come from there.
	dnsPort = 53
	// sinkMark marks packets that the sinkhole takes.
	sinkMark = 1

	// What one pot may begin, in packets a second, and at once.
	callRate, callBurst = 200, 400
)

// sets are those of the table, by which pots are known.
type sets struct {
	bound, sunk, rate map[bool]*nftables.Set // by whether they are of IPv4
}

func setsOf(table *nftables.Table) sets {
	s := sets{bound: map[bool]*nftables.Set{}, sunk: map[bool]*nftables.Set{}, rate: map[bool]*nftables.Set{}}
	for v4, kind := range map[bool]nftables.SetDatatype{true: nftables.TypeIPAddr, false: nftables.TypeIP6Addr} {
		suffix := "6"
		if v4 {
			suffix = "4"
		}
		s.bound[v4] = &nftables.Set{
			Table: table, Name: "bound" + suffix, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeEtherAddr, kind),
		}
		s.sunk[v4] = &nftables.Set{Table: table, Name: "sunk" + suffix, KeyType: kind}
		s.rate[v4] = &nftables.Set{Table: table, Name: "rate" + suffix, KeyType: kind, Dynamic: true, Size: maxIndex}
	}
	return s
}

// arriveRules are what happens to each packet of a pot.
func arriveRules(s sets) [][]expr.Any {
	accept, drop := ruleset.Verdict(expr.VerdictAccept), ruleset.Verdict(expr.VerdictDrop)
	out := [][]expr.Any{
		ruleset.Rule(ruleset.NotFrom(bridgeName), accept),
		// Router solicitations to neighbour advertisements; of these input takes what it needs.
		ruleset.Rule(ruleset.Protocol(unix.IPPROTO_ICMPV6), ruleset.ICMPTypes(133, 136), accept),
		// What every machine sends within its own network.
		ruleset.Rule(ruleset.SourceWithin(netip.MustParsePrefix("fe80::/10")), drop),
		ruleset.Rule(ruleset.SourceWithin(netip.MustParsePrefix("::/128")), drop),
		ruleset.Rule(ruleset.SourceWithin(netip.MustParsePrefix("0.0.0.0/32")), drop),
	}
	for _, v4 := range []bool{true, false} {
		out = append(out, ruleset.Rule(ruleset.Family(v4), ruleset.HardwareAndSourceNotIn(v4, s.bound[v4]), ruleset.Counted(), drop))
	}
	out = append(out, ruleset.Rule(ruleset.NoNewTCP(), accept))
	for _, v4 := range []bool{true, false} {
		out = append(out,
			ruleset.Rule(ruleset.Family(v4), ruleset.SourceNotIn(v4, s.sunk[v4]), ruleset.Counted(), drop),
			ruleset.Rule(ruleset.Family(v4), ruleset.SourceOver(v4, s.rate[v4], callRate, callBurst), ruleset.Counted(), drop),
			ruleset.Rule(ruleset.Family(v4), ruleset.Protocol(unix.IPPROTO_TCP), ruleset.TProxy(v4, sinkPort), ruleset.Mark(sinkMark), accept),
			ruleset.Rule(ruleset.Family(v4), ruleset.Protocol(unix.IPPROTO_UDP), ruleset.DestinationPorts(dnsPort, dnsPort), ruleset.Mark(sinkMark), accept),
			ruleset.Rule(ruleset.Family(v4), ruleset.Protocol(unix.IPPROTO_UDP), ruleset.TProxy(v4, sinkPort), ruleset.Mark(sinkMark), accept),
		)
	}
	return append(out,
		ruleset.Rule(ruleset.Family(true), ruleset.Protocol(unix.IPPROTO_ICMP), ruleset.ICMPTypes(8, 8), ruleset.Mark(sinkMark), accept),
		ruleset.Rule(ruleset.Family(false), ruleset.Protocol(unix.IPPROTO_ICMPV6), ruleset.ICMPTypes(128, 128), ruleset.Mark(sinkMark), accept),
		ruleset.Rule(ruleset.Counted(), drop),
	)
}

// elements are what the sets have to hold.
func (n *Net) elements(s sets) map[*nftables.Set][]nftables.SetElement {
	out := map[*nftables.Set][]nftables.SetElement{}
	for _, v4 := range []bool{true, false} {
		out[s.bound[v4]], out[s.sunk[v4]] = nil, nil
	}
	for _, v4 := range []bool{true, false} {
		for i := range n.bound {
			mac := append([]byte(macOf(i)), 0, 0) // a part of a key has whole words
			out[s.bound[v4]] = append(out[s.bound[v4]], nftables.SetElement{Key: append(mac, n.keyOf(i, v4)...)})
		}
		for i := range n.sunk {
			out[s.sunk[v4]] = append(out[s.sunk[v4]], nftables.SetElement{Key: n.keyOf(i, v4)})
		}
	}
	return out
}

func (n *Net) keyOf(i int, v4 bool) []byte {
	if v4 {
		return n.Address(i).AsSlice()
	}
	return n.address6(i).AsSlice()
}

func (n *Net) addSets(conn *nftables.Conn, s sets) error {
	for _, v4 := range []bool{true, false} {
		for _, set := range []*nftables.Set{s.bound[v4], s.sunk[v4], s.rate[v4]} {
			if err := conn.AddSet(set, nil); err != nil {
				return fmt.Errorf("make set %s in the pots' namespace: %w", set.Name, err)
			}
		}
	}
	for set, elements := range n.elements(s) {
		for len(elements) > 0 {
			some := elements[:min(len(elements), 500)]
			elements = elements[len(some):]
			if err := conn.SetAddElements(set, some); err != nil {
				return fmt.Errorf("fill set %s in the pots' namespace: %w", set.Name, err)
			}
		}
	}
	return nil
}

// setsWhole reports whether the kernel's sets hold what they should.
func (n *Net) setsWhole(conn *nftables.Conn, s sets) (bool, error) {
	for set, want := range n.elements(s) {
		have, err := conn.GetSetElements(set)
		if err != nil {
			return false, nil //nolint:nilerr // there is no such set: the table is made anew
		}
		if len(have) != len(want) {
			return false, nil
		}
		keys := make(map[string]bool, len(have))
		for _, e := range have {
			keys[string(e.Key)] = true
		}
		for _, e := range want {
			if !keys[string(e.Key)] {
				return false, nil
			}
		}
	}
	return true, nil
}

// bindLocked lets a pot send from its addresses. Whether it reaches the sinkhole, Sink says.
func (n *Net) bindLocked(i int, pot string) error {
	if n.bound[i] == pot {
		return nil
	}
	if n.bound[i] != "" {
		delete(n.sunk, i) // it was another's
	}
	n.bound[i] = pot
	return n.changedLocked()
}

// unbindLocked takes a pot's addresses from it. The kernel forgets them with the next change, or tick.
func (n *Net) unbindLocked(pot string) {
	for i, name := range n.bound {
		if name == pot {
			delete(n.bound, i)
			delete(n.sunk, i)
			n.checked = false
		}
	}
}

// changedLocked has the kernel follow a change of the sets.
func (n *Net) changedLocked() error {
	n.checked = false
	return n.mendRules()
}

// Sink says which places' pots reach the sinkhole; what the others send is dropped.
func (n *Net) Sink(places map[int]bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if maps.Equal(places, n.sunk) {
		return nil
	}
	n.sunk = maps.Clone(places)
	return n.changedLocked()
}

// Dropped are how many packets of pots went nowhere.
type Dropped struct {
	Forged  uint64 // had another pot's address, or none that was given
	Refused uint64 // of pots that may not call out
	Flood   uint64 // over what a pot may begin at once
	Other   uint64 // no protocol that the sinkhole takes
}

// Dropped reads the kernel's counts since the rules were made.
func (n *Net) Dropped() (Dropped, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(n.ns.Fd()))
	if err != nil {
		return Dropped{}, fmt.Errorf("reach nftables in the pots' namespace: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	rules, err := conn.GetRules(table, &nftables.Chain{Name: "arrive", Table: table})
	if err != nil {
		return Dropped{}, fmt.Errorf("read the counts of the pots' namespace: %w", err)
	}
	var d Dropped
	into := []*uint64{&d.Forged, &d.Forged, &d.Refused, &d.Flood, &d.Refused, &d.Flood, &d.Other} // in the order of arriveRules
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok && len(into) > 0 {
				*into[0] += c.Packets
				into = into[1:]
			}
		}
	}
	return d, nil
}
