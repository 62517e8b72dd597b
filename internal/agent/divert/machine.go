package divert

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// flow is a redirected connection as the host's filter chains see one of its packets.
type flow struct {
	source   netip.Addr // of the attacker
	port     uint16     // of the service that it called
	endpoint netip.AddrPort
	in, out  string // interfaces of the packet; in is empty where it isn't known
	reply    bool   // from the endpoint back
	local    bool   // the endpoint is this machine
}

func (f flow) v6() bool { return f.endpoint.Addr().Is6() }

// truth is what can be said of a match without seeing the packet.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

// consulted tells what of a flow a verdict depended on, so that it can be reused for others.
type consulted uint8

const (
	usedIn consulted = 1 << iota
	usedSource
	usedPort
)

// machine runs nftables' expressions over what is known of a packet: of each bit of its registers it knows
// whether it is known.
type machine struct {
	flow  flow
	data  [80]byte
	known [80]byte // bit mask
	used  consulted
	steps int // rules run

	verdict verdict
}

// Verdicts of netfilter (linux/netfilter.h); those of nftables are unix.NFT_….
const (
	nfDrop   = 0
	nfAccept = 1
)

// verdict is how a rule ends: code is one of nfAccept, nfDrop, NFT_JUMP, NFT_GOTO, NFT_RETURN, or
// unix.NFT_CONTINUE where it decides nothing.
type verdict struct {
	code  int32
	chain string
}

// register returns the position of an nftables register: four of 16 bytes, which are also sixteen of 4 bytes.
func register(n uint32) int {
	switch {
	case n >= unix.NFT_REG32_00 && n <= unix.NFT_REG32_15:
		return 16 + int(n-unix.NFT_REG32_00)*4
	case n <= unix.NFT_REG_4:
		return int(n) * 16
	}
	return 0
}

// span returns the bytes of a register, as many as there are.
func span(b *[80]byte, reg uint32, n int) []byte {
	at := register(reg)
	return b[at:min(at+max(n, 0), len(b))]
}

// load puts value into a register; nil means that nothing is known of its n bytes.
func (m *machine) load(reg uint32, value []byte, n int) {
	padded := (n + 3) / 4 * 4
	clear(span(&m.data, reg, padded))
	clear(span(&m.known, reg, padded))
	if value != nil {
		copy(span(&m.data, reg, n), value)
		for i := range span(&m.known, reg, n) {
			span(&m.known, reg, n)[i] = 0xff
		}
	}
}

// loadBits puts a value of which only the bits of mask are known.
func (m *machine) loadBits(reg uint32, value, mask uint32) {
	m.load(reg, binaryutil.NativeEndian.PutUint32(value&mask), 4)
	copy(span(&m.known, reg, 4), binaryutil.NativeEndian.PutUint32(mask))
}

func (m *machine) bitwise(dst, src uint32, n int, mask, xor []byte) {
	var data, known [64]byte
	n = min(n, len(mask), len(xor), len(data), len(span(&m.data, src, n)))
	for i := range n {
		known[i] = span(&m.known, src, n)[i]&mask[i] | ^mask[i]
		data[i] = (span(&m.data, src, n)[i]&mask[i] ^ xor[i]) & known[i]
	}
	m.load(dst, nil, n)
	copy(span(&m.data, dst, n), data[:n])
	copy(span(&m.known, dst, n), known[:n])
}

// value returns a register's bytes where all of them are known.
func (m *machine) value(reg uint32, n int) ([]byte, bool) {
	v := span(&m.data, reg, n)
	for _, k := range span(&m.known, reg, n) {
		if k != 0xff {
			return nil, false
		}
	}
	return v, len(v) == n
}

// equals compares a register: one known bit that differs suffices for a no.
func (m *machine) equals(reg uint32, want []byte) truth {
	data, known := span(&m.data, reg, len(want)), span(&m.known, reg, len(want))
	result := yes
	for i := range data {
		if (data[i]^want[i])&known[i] != 0 {
			return no
		}
		if known[i] != 0xff {
			result = maybe
		}
	}
	return result
}

func (t truth) not() truth { return yes - t }

// order compares a register with bytes; ok is false where it isn't wholly known.
func (m *machine) order(reg uint32, with []byte) (cmp int, ok bool) {
	v, ok := m.value(reg, len(with))
	return bytes.Compare(v, with), ok
}

// loadMeta fills a register with a fact about the packet (linux/netfilter/nf_tables.h, enum nft_meta_keys).
func (m *machine) loadMeta(reg, key uint32) {
	proto, ether := []byte{unix.NFPROTO_IPV4}, []byte{0x08, 0x00}
	if m.flow.v6() {
		proto, ether = []byte{unix.NFPROTO_IPV6}, []byte{0x86, 0xdd}
	}
	switch key {
	case unix.NFT_META_PROTOCOL:
		m.load(reg, ether, 2)
	case unix.NFT_META_NFPROTO:
		m.load(reg, proto, 1)
	case unix.NFT_META_L4PROTO:
		m.load(reg, []byte{unix.IPPROTO_TCP}, 1)
	case unix.NFT_META_IIFNAME:
		if !m.flow.reply {
			m.used |= usedIn
		}
		m.load(reg, name16(m.flow.in), 16)
	case unix.NFT_META_OIFNAME:
		if m.flow.reply {
			m.used |= usedIn
		}
		m.load(reg, name16(m.flow.out), 16)
	default:
		m.load(reg, nil, 16)
	}
}

func name16(name string) []byte {
	if name == "" {
		return nil
	}
	b := make([]byte, 16)
	copy(b, name)
	return b
}

// ends returns the addresses of the packet as forwarding sees them, behind DNAT and before masquerading.
func (m *machine) ends() (from, to netip.Addr) {
	m.used |= usedSource
	if m.flow.reply {
		return m.flow.endpoint.Addr(), m.flow.source
	}
	return m.flow.source, m.flow.endpoint.Addr()
}

// loadPayload fills a register with bytes of a header.
func (m *machine) loadPayload(reg, base, offset, n uint32) {
	var header, known [64]byte
	set := func(at int, b ...byte) {
		copy(header[at:], b)
		for i := range b {
			known[at+i] = 0xff
		}
	}
	port := binary.BigEndian.AppendUint16(nil, m.flow.endpoint.Port())
	switch base {
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		used := m.used
		from, to := m.ends()
		at := 12
		if m.flow.v6() {
			at = 8
			set(6, unix.IPPROTO_TCP)
		} else {
			set(9, unix.IPPROTO_TCP)
		}
		size := len(from.AsSlice())
		set(at, from.AsSlice()...)
		set(at+size, to.AsSlice()...)
		other := at // where the attacker's address is
		if m.flow.reply {
			other += size
		}
		if int(offset+n) <= other || int(offset) >= other+size {
			m.used = used // it was not looked at
		}
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		m.used |= usedPort
		if m.flow.reply {
			set(0, port...)
			set(13, 0x12) // SYN and ACK
		} else {
			set(2, port...)
			set(13, 0x02)
		}
	}
	if offset+n > uint32(len(header)) {
		m.load(reg, nil, int(min(n, 64)))
		return
	}
	m.load(reg, header[offset:offset+n], int(n))
	copy(span(&m.known, reg, int(n)), known[offset:offset+n])
}

// loadCT fills a register with a fact about the connection (enum nft_ct_keys).
func (m *machine) loadCT(reg, key, direction uint32) {
	const (
		established, fromNew         = 2, 8
		seenReply, snatStatus        = 0x2, 0x10
		srcIP, dstIP                 = 19, 20
		srcIP6, dstIP6               = 21, 22
		replyDirection        uint32 = 1
	)
	switch key {
	case unix.NFT_CT_STATE:
		state := uint32(fromNew)
		if m.flow.reply {
			state = established
		}
		m.loadBits(reg, state, 0xffffffff)
	case unix.NFT_CT_STATUS:
		status := uint32(statusDNAT)
		if m.flow.reply {
			status |= seenReply | snatStatus
		}
		m.loadBits(reg, status, statusDNAT|seenReply|snatStatus)
	case unix.NFT_CT_DIRECTION:
		d := byte(0)
		if m.flow.reply {
			d = 1
		}
		m.load(reg, []byte{d}, 1)
	case unix.NFT_CT_L3PROTOCOL:
		m.loadMeta(reg, unix.NFT_META_NFPROTO)
	case unix.NFT_CT_PROTOCOL:
		m.load(reg, []byte{unix.IPPROTO_TCP}, 1)
	case unix.NFT_CT_SRC, srcIP, srcIP6:
		a := m.flow.source
		if direction == replyDirection {
			a = m.flow.endpoint.Addr()
		} else {
			m.used |= usedSource
		}
		m.load(reg, a.AsSlice(), len(a.AsSlice()))
	case unix.NFT_CT_PROTO_SRC, unix.NFT_CT_PROTO_DST:
		m.used |= usedPort
		switch {
		case key == unix.NFT_CT_PROTO_DST && direction != replyDirection:
			m.load(reg, binary.BigEndian.AppendUint16(nil, m.flow.port), 2)
		case key == unix.NFT_CT_PROTO_SRC && direction == replyDirection:
			m.load(reg, binary.BigEndian.AppendUint16(nil, m.flow.endpoint.Port()), 2)
		default:
			m.load(reg, nil, 2)
		}
	case unix.NFT_CT_DST, dstIP, dstIP6:
		m.load(reg, nil, 16)
	default:
		m.load(reg, nil, 16)
	}
}
