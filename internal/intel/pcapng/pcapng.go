// Package pcapng writes what passed in a session as the packets of one TCP connection, for Wireshark and tcpdump.
//
// The recording has the bytes of both directions with their times; addresses, ports and all else in the packets' headers are made
// up from what is known of the session.
package pcapng

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	maxSegment = 1440 // bytes; fits into an Ethernet frame, by IPv6 too
	window     = 64240
	ttl        = 64
)

// ErrEncrypted says that a session has no bytes that passed in the clear.
var ErrEncrypted = errors.New("what passed was encrypted: it is told by its programs, see asciicast")

// Write writes a session.
func Write(w io.Writer, r *recording.Reader) error {
	h := r.Header()
	c, err := begin(w, h)
	if err != nil {
		return err
	}
	at, programs := h.StartedAt, false
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the recording: %w", err)
		}
		at = h.StartedAt.Add(f.Offset)
		switch f.Kind { //nolint:exhaustive // the others are nothing that passed
		case recording.In, recording.Out:
			if f.Channel != 0 {
				programs = true
				continue
			}
			if err := c.data(at, f.Kind == recording.Out, f.Payload); err != nil {
				return err
			}
		}
	}
	if programs && c.packets == 0 {
		return ErrEncrypted
	}
	return c.end(at)
}

// side is one end of the connection.
type side struct {
	addr netip.AddrPort
	next uint32 // number of its next byte
}

type connection struct {
	w       *pcapgo.NgWriter
	began   time.Time
	sides   [2]side // the attacker, the host
	packets int
}

func begin(w io.Writer, h recording.Header) (*connection, error) {
	intf := pcapgo.DefaultNgInterface
	intf.Name, intf.LinkType = h.Host, layers.LinkTypeRaw
	ng, err := pcapgo.NewNgWriterInterface(w, intf, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Application: "kokkuri", Comment: fmt.Sprintf("session %s of %s, %s on %s", h.Session, h.Attacker, h.Service, h.Host),
	}})
	if err != nil {
		return nil, fmt.Errorf("write packets: %w", err)
	}
	c := &connection{w: ng, began: h.StartedAt}
	from, to := ends(h)
	number := crc32.ChecksumIEEE([]byte(h.Session))
	c.sides = [2]side{{from, number}, {to, ^number}}
	return c, nil
}

// ends are where the attacker is, and where it believes to be.
func ends(h recording.Header) (from, to netip.AddrPort) {
	a := h.Attacker.Addr()
	if !h.Attacker.IsSingleIP() && h.Attacker.Contains(h.Peer.Addr()) {
		a = h.Peer.Addr()
	}
	to = h.Target
	if !to.IsValid() || to.Addr().Is6() != a.Is6() {
		nowhere := netip.IPv4Unspecified()
		if a.Is6() {
			nowhere = netip.IPv6Unspecified()
		}
		to = netip.AddrPortFrom(nowhere, h.Target.Port())
	}
	return netip.AddrPortFrom(a, h.Peer.Port()), to
}

// data tells what one side sent.
func (c *connection) data(at time.Time, fromHost bool, p []byte) error {
	if err := c.shake(); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), maxSegment)
		if err := c.packet(at, fromHost, layers.TCP{PSH: n == len(p), ACK: true}, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// shake begins the connection, once.
func (c *connection) shake() error {
	if c.packets > 0 {
		return nil
	}
	return errors.Join(
		c.packet(c.began, false, layers.TCP{SYN: true}, nil),
		c.packet(c.began, true, layers.TCP{SYN: true, ACK: true}, nil),
		c.packet(c.began, false, layers.TCP{ACK: true}, nil),
	)
}

// end ends it.
func (c *connection) end(at time.Time) error {
	err := errors.Join(
		c.shake(),
		c.packet(at, false, layers.TCP{FIN: true, ACK: true}, nil),
		c.packet(at, true, layers.TCP{FIN: true, ACK: true}, nil),
		c.packet(at, false, layers.TCP{ACK: true}, nil),
	)
	if flushed := c.w.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("write packets: %w", flushed)
	}
	return err
}

func (c *connection) packet(at time.Time, fromHost bool, tcp layers.TCP, p []byte) error { //nolint:gocritic // filled in here
	from, to := &c.sides[0], &c.sides[1]
	if fromHost {
		from, to = to, from
	}
	tcp.SrcPort, tcp.DstPort, tcp.Window, tcp.Seq = layers.TCPPort(from.addr.Port()), layers.TCPPort(to.addr.Port()), window, from.next
	if tcp.ACK {
		tcp.Ack = to.next
	}
	from.next += uint32(len(p))
	if tcp.SYN || tcp.FIN {
		from.next++
	}
	ip := header(from.addr.Addr(), to.addr.Addr())
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	b := gopacket.NewSerializeBuffer()
	o := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, o, ip, &tcp, gopacket.Payload(p)); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	data := b.Bytes()
	c.packets++
	if err := c.w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data), Length: len(data)}, data); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	return nil
}

// network is an IP header that a TCP header stands in.
type network interface {
	gopacket.NetworkLayer
	gopacket.SerializableLayer
}

func header(from, to netip.Addr) network { //nolint:ireturn // there are two
	if from.Is6() {
		return &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocolTCP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	}
	return &layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
}
