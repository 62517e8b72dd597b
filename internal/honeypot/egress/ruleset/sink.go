package ruleset

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	dynsetAdd = 0 // NFT_DYNSET_OP_ADD of linux/netfilter/nf_tables.h

	// Registers of four bytes for keys of several fields.
	firstWord = 8 // NFT_REG32_00
	thirdWord = firstWord + 2

	tcpSYN, tcpACK = 0x02, 0x10
)

// NotFrom matches packets that came by another interface.
func NotFrom(name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: data},
	}
}

// ICMPTypes matches messages of ICMP, or of ICMPv6, with a type from first to last.
func ICMPTypes(first, last byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{first}, ToData: []byte{last}},
	}
}

// SourceWithin matches packets from an address of a network.
func SourceWithin(p netip.Prefix) []expr.Any {
	size := p.Addr().BitLen() / 8
	return append(Family(p.Addr().Is4()),
		address(p.Addr().Is4(), 12, 8, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), 8*size), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()})
}

// NoNewTCP matches packets of TCP that do not begin a connection.
func NoNewTCP() []expr.Any {
	return Rule(Protocol(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpSYN | tcpACK}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{tcpSYN}},
	})
}

// HardwareAndSourceNotIn matches packets whose hardware address and source are not together in a set.
func HardwareAndSourceNotIn(v4 bool, set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: firstWord, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		address(v4, 12, 8, thirdWord),
		&expr.Lookup{SourceRegister: firstWord, SetName: set.Name, SetID: set.ID, Invert: true},
	}
}

// SourceNotIn matches packets whose source is not in a set.
func SourceNotIn(v4 bool, set *nftables.Set) []expr.Any {
	return []expr.Any{
		address(v4, 12, 8, 1),
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
	}
}

// SourceOver matches packets of a source that sends more than so many a second. The set remembers sources.
func SourceOver(v4 bool, set *nftables.Set, perSecond uint64, burst uint32) []expr.Any {
	return []expr.Any{
		address(v4, 12, 8, 1),
		&expr.Dynset{
			SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: dynsetAdd,
			Exprs: []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Unit: expr.LimitTimeSecond, Burst: burst, Over: true}},
		},
	}
}

// TProxy hands the packet to the transparent socket that listens on a port.
func TProxy(v4 bool, port uint16) []expr.Any {
	family := byte(unix.NFPROTO_IPV6)
	if v4 {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.TProxy{Family: family, TableFamily: unix.NFPROTO_INET, RegPort: 1},
	}
}

// Mark marks the packet.
func Mark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// Marked matches packets with a mark.
func Marked(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}
