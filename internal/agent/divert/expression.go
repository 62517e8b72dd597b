package divert

import (
	"bytes"

	"github.com/google/nftables"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

func unsure(*machine) truth { return maybe }

// expression compiles one nftables expression (attribute numbers: linux/netfilter/nf_tables.h). A nil test has
// no say in whether the rule matches.
func (c *compiler) expression(ref *nftables.Table, name string, a map[uint16][]byte) (func(*machine) truth, error) {
	loads := func(fn func(m *machine, reg uint32)) func(*machine) truth {
		reg := number(a[unix.NFTA_META_DREG]) // attribute 1 of each of the expressions that come here
		return func(m *machine) truth { fn(m, reg); return yes }
	}
	switch name {
	case "counter", "log", "notrack", "last", "objref", "flow_offload", "nat", "masq", "redir", "":
		return nil, nil
	case "meta":
		if a[unix.NFTA_META_SREG] != nil {
			return nil, nil
		}
		key := number(a[unix.NFTA_META_KEY])
		return loads(func(m *machine, reg uint32) { m.loadMeta(reg, key) }), nil
	case "ct":
		if a[unix.NFTA_CT_SREG] != nil {
			return nil, nil
		}
		key, direction := number(a[unix.NFTA_CT_KEY]), uint32(0)
		if d := a[unix.NFTA_CT_DIRECTION]; len(d) == 1 {
			direction = uint32(d[0])
		}
		return loads(func(m *machine, reg uint32) { m.loadCT(reg, key, direction) }), nil
	case "payload":
		base, at, n := number(a[unix.NFTA_PAYLOAD_BASE]), number(a[unix.NFTA_PAYLOAD_OFFSET]), number(a[unix.NFTA_PAYLOAD_LEN])
		if a[unix.NFTA_PAYLOAD_SREG] != nil {
			return nil, nil
		}
		return loads(func(m *machine, reg uint32) { m.loadPayload(reg, base, at, n) }), nil
	case "bitwise":
		return compileBitwise(a), nil
	case "cmp":
		return compileCmp(a), nil
	case "range":
		return compileRange(a), nil
	case "lookup":
		return c.compileLookup(ref, a), nil
	case "immediate":
		return compileImmediate(a), nil
	case "reject":
		return ends(verdict{code: nfDrop}), nil
	case "match":
		return compileMatch(ref, a)
	case "target":
		if t := trimNUL(string(a[unix.NFTA_TARGET_NAME])); t == "REJECT" {
			return ends(verdict{code: nfDrop}), nil
		}
		return nil, nil
	default: // fib, socket, exthdr, limit, quota, numgen, …: it may match or not, and may load what isn't known
		return func(m *machine) truth {
			clear(m.known[:])
			return maybe
		}, nil
	}
}

func ends(v verdict) func(*machine) truth {
	return func(m *machine) truth { m.verdict = v; return yes }
}

func compileBitwise(a map[uint16][]byte) func(*machine) truth {
	const opAttr = 6 // NFTA_BITWISE_OP; 0 is mask and xor, others shift
	src, dst, n := number(a[unix.NFTA_BITWISE_SREG]), number(a[unix.NFTA_BITWISE_DREG]), number(a[unix.NFTA_BITWISE_LEN])
	mask, xor := nested(a[unix.NFTA_BITWISE_MASK]), nested(a[unix.NFTA_BITWISE_XOR])
	shift := number(a[opAttr]) != 0
	return func(m *machine) truth {
		if shift || n > 64 {
			m.load(dst, nil, int(min(n, 64)))
			return yes
		}
		m.bitwise(dst, src, int(n), mask, xor)
		return yes
	}
}

func compileCmp(a map[uint16][]byte) func(*machine) truth {
	reg, op, want := number(a[unix.NFTA_CMP_SREG]), number(a[unix.NFTA_CMP_OP]), nested(a[unix.NFTA_CMP_DATA])
	return func(m *machine) truth {
		switch op {
		case unix.NFT_CMP_EQ:
			return m.equals(reg, want)
		case unix.NFT_CMP_NEQ:
			return m.equals(reg, want).not()
		}
		n, ok := m.order(reg, want)
		switch {
		case !ok:
			return maybe
		case op == unix.NFT_CMP_LT && n < 0, op == unix.NFT_CMP_LTE && n <= 0, op == unix.NFT_CMP_GT && n > 0, op == unix.NFT_CMP_GTE && n >= 0:
			return yes
		}
		return no
	}
}

func compileRange(a map[uint16][]byte) func(*machine) truth {
	reg, op := number(a[unix.NFTA_RANGE_SREG]), number(a[unix.NFTA_RANGE_OP])
	from, to := nested(a[unix.NFTA_RANGE_FROM_DATA]), nested(a[unix.NFTA_RANGE_TO_DATA])
	return func(m *machine) truth {
		lo, ok := m.order(reg, from)
		hi, ok2 := m.order(reg, to)
		if !ok || !ok2 {
			return maybe
		}
		if (lo >= 0 && hi <= 0) == (op == unix.NFT_RANGE_EQ) {
			return yes
		}
		return no
	}
}

func (c *compiler) compileLookup(ref *nftables.Table, a map[uint16][]byte) func(*machine) truth {
	set := c.members(ref, trimNUL(string(a[unix.NFTA_LOOKUP_SET])))
	src := number(a[unix.NFTA_LOOKUP_SREG])
	dst, isMap := number(a[unix.NFTA_LOOKUP_DREG]), a[unix.NFTA_LOOKUP_DREG] != nil
	invert := number(a[unix.NFTA_LOOKUP_FLAGS])&unix.NFT_LOOKUP_F_INV != 0
	return func(m *machine) truth {
		if isMap && dst != unix.NFT_REG_VERDICT {
			m.load(dst, nil, 16)
			return maybe
		}
		if set == nil {
			return maybe
		}
		found := no
		for _, r := range set.ranges {
			got, ok := m.value(src, len(r.lo))
			if !ok {
				found = max(found, m.couldBe(src, r))
				continue
			}
			if bytes.Compare(got, r.lo) >= 0 && bytes.Compare(got, r.hi) <= 0 {
				found = yes
				if isMap {
					m.verdict = r.verdict
				}
				break
			}
		}
		if invert {
			return found.not()
		}
		return found
	}
}

// couldBe says whether a partly known register may be in a range: for a single value bits decide, else nothing does.
func (m *machine) couldBe(reg uint32, r memberRange) truth {
	if bytes.Equal(r.lo, r.hi) {
		return min(maybe, m.equals(reg, r.lo))
	}
	return maybe
}

func compileImmediate(a map[uint16][]byte) func(*machine) truth {
	reg := number(a[unix.NFTA_IMMEDIATE_DREG])
	data, err := attributes(a[unix.NFTA_IMMEDIATE_DATA])
	if err != nil {
		return unsure
	}
	if reg == unix.NFT_REG_VERDICT {
		v, ok := readVerdict(data[unix.NFTA_DATA_VERDICT])
		if !ok {
			return unsure
		}
		return ends(v)
	}
	value := data[unix.NFTA_DATA_VALUE]
	return func(m *machine) truth { m.load(reg, value, len(value)); return yes }
}

// compileMatch compiles a match of iptables that has no nftables expression.
func compileMatch(ref *nftables.Table, a map[uint16][]byte) (func(*machine) truth, error) {
	switch name := trimNUL(string(a[unix.NFTA_MATCH_NAME])); name {
	case "comment":
		return nil, nil
	case "conntrack":
		rev := number(a[unix.NFTA_MATCH_REV])
		info, err := xt.Unmarshal(name, xt.TableFamily(ref.Family), rev, a[unix.NFTA_MATCH_INFO])
		if err != nil {
			return unsure, nil //nolint:nilerr // a match that can't be read can't be decided
		}
		switch i := info.(type) {
		case *xt.ConntrackMtinfo3:
			return conntrackMatch(i.ConntrackMtinfoBase, i.StateMask), nil
		case *xt.ConntrackMtinfo2:
			return conntrackMatch(i.ConntrackMtinfoBase, i.StateMask), nil
		}
		return unsure, nil
	default:
		return unsure, nil
	}
}

// States of iptables' conntrack match (linux/netfilter/xt_conntrack.h).
const (
	xtInvalid     = 1 << 0
	xtEstablished = 1 << 1
	xtRelated     = 1 << 2
	xtNew         = 1 << 3
	xtSNAT        = 1 << 6
	xtDNAT        = 1 << 7
)

func conntrackMatch(i xt.ConntrackMtinfoBase, states uint16) func(*machine) truth {
	const decided = uint16(xt.ConntrackState | xt.ConntrackStateAlias | xt.ConntrackReplSrc)
	flags, invert := i.MatchFlags, i.InvertFlags
	return func(m *machine) truth {
		result := yes
		if flags&^decided != 0 {
			result = maybe
		}
		if flags&uint16(xt.ConntrackState|xt.ConntrackStateAlias) != 0 {
			result = min(result, invertIf(stateIn(m, states), invert&uint16(xt.ConntrackState) != 0))
		}
		if flags&uint16(xt.ConntrackReplSrc) != 0 {
			result = min(result, invertIf(masked(m.flow.endpoint.Addr().AsSlice(), i.ReplSrcAddr, i.ReplSrcMask), invert&uint16(xt.ConntrackReplSrc) != 0))
		}
		return result
	}
}

func invertIf(t truth, invert bool) truth {
	if invert {
		return t.not()
	}
	return t
}

func stateIn(m *machine, states uint16) truth {
	has := uint16(xtNew | xtDNAT)
	if m.flow.reply {
		has = xtEstablished | xtDNAT | xtSNAT
	}
	if states&has != 0 {
		return yes
	}
	return no
}

func masked(a, want, mask []byte) truth {
	if len(want) != len(a) || len(mask) != len(a) {
		return maybe
	}
	for i := range a {
		if (a[i]^want[i])&mask[i] != 0 {
			return no
		}
	}
	return yes
}
