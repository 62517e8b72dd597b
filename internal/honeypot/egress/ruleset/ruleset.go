// Package ruleset holds what the node's nftables tables have in common: pieces of rules and the
// kernel's count of changes.
package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// IPSDstNAT is the bit of a connection's status that says that its destination was changed
	// (IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h).
	IPSDstNAT = 1 << 5

	nftaGenID = 1 // NFTA_GEN_ID of linux/netfilter/nf_tables.h
)

// Generation returns the number that the kernel gives to the present rule set of a namespace (0 for
// the caller's own); it differs after any change by anyone.
func Generation(nsFd int) (uint32, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: nsFd})
	if err != nil {
		return 0, fmt.Errorf("ask for the rule set's generation: %w", err)
	}
	defer c.Close() //nolint:errcheck // nothing was changed
	replies, err := c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN),
			Flags: netlink.Request,
		},
		Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the rule set's generation: %w", err)
	}
	for _, m := range replies {
		if len(m.Data) < 4 {
			continue
		}
		attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read the rule set's generation: %w", err)
		}
		for _, a := range attrs {
			if a.Type == nftaGenID && len(a.Data) == 4 {
				return binary.BigEndian.Uint32(a.Data), nil
			}
		}
	}
	return 0, errors.New("read the rule set's generation: the kernel's answer has none")
}

// Rule joins pieces of a rule.
func Rule(pieces ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range pieces {
		out = append(out, p...)
	}
	return out
}

// Verdict ends a rule.
func Verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// Counted counts what gets so far.
func Counted() []expr.Any { return []expr.Any{&expr.Counter{}} }

// CtState matches connections in any of the states (bits of expr.CtStateBit…).
func CtState(bits uint32) []expr.Any {
	return ctBits(expr.CtKeySTATE, bits, expr.CmpOpNeq)
}

// CtStatusLacks matches connections whose status has none of the bits.
func CtStatusLacks(bits uint32) []expr.Any {
	return ctBits(expr.CtKeySTATUS, bits, expr.CmpOpEq)
}

func ctBits(key expr.CtKey, bits uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: op, Register: 1, Data: make([]byte, 4)},
	}
}

// Family matches IPv4 or IPv6 packets.
func Family(v4 bool) []expr.Any {
	family := byte(unix.NFPROTO_IPV6)
	if v4 {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
	}
}

// Protocol matches packets of a transport protocol.
func Protocol(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

// DestinationIn matches packets to an address of a set of the family's addresses.
func DestinationIn(v4 bool, set *nftables.Set) []expr.Any {
	return []expr.Any{
		address(v4, 16, 24, 1),
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

// SourceAndPortIn matches packets whose source address, cut to bits, and destination port are in a set.
func SourceAndPortIn(v4 bool, bits int, set *nftables.Set) []expr.Any {
	const addrReg, portReg4, portReg6 = 8, 9, 12 // NFT_REG32_00, _01 and _04
	load := []expr.Any{address(v4, 12, 8, addrReg)}
	if !v4 && bits < 128 {
		mask := netip.PrefixFrom(netip.IPv6Unspecified(), bits)
		load = append(load, &expr.Bitwise{
			SourceRegister: addrReg, DestRegister: addrReg, Len: 16,
			Mask: maskOf(mask.Bits()), Xor: make([]byte, 16),
		})
	}
	portReg := uint32(portReg6)
	if v4 {
		portReg = portReg4
	}
	return append(load,
		&expr.Payload{DestRegister: portReg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: addrReg, SetName: set.Name, SetID: set.ID})
}

func maskOf(bits int) []byte {
	m := make([]byte, 16)
	for i := range bits {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

// DestinationPorts matches packets to a port from first to last.
func DestinationPorts(first, last uint16) []expr.Any {
	if first == last {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(first)},
		}
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{
			Op: expr.CmpOpEq, Register: 1,
			FromData: binaryutil.BigEndian.PutUint16(first), ToData: binaryutil.BigEndian.PutUint16(last),
		},
	}
}

// RedirectTo sends the connection to a port of this machine.
func RedirectTo(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1, RegisterProtoMax: 1, Flags: 2}, // NF_NAT_RANGE_PROTO_SPECIFIED
	}
}

func address(v4 bool, offset4, offset6 uint32, register uint32) *expr.Payload {
	p := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset6, Len: 16}
	if v4 {
		p.Offset, p.Len = offset4, 4
	}
	return p
}
