package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxPing     = 1500
	maxEchoes   = 256 // on their way at once
	protoICMP4  = 1
	nearest     = 4 * time.Millisecond
	echoIPv4    = 8
	echoIPv6    = 128
	usualHops   = 64
	ipv4MinHead = 20
)

// echo is an answer that is on its way.
type echo struct {
	reply   []byte
	control []byte
	to      netip.Addr
}

// pings answers what pots ping, after the time that a way to there might take.
func (s *Sink) pings(ctx context.Context, c *net.IPConn, v4 bool) {
	buf, oob := make([]byte, maxPing), make([]byte, 256)
	under := make(chan struct{}, maxEchoes)
	for {
		n, no, _, from, err := c.ReadMsgIP(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		source, _ := netip.AddrFromSlice(from.IP)
		source = event.Canonical(source)
		msg := buf[:n]
		if v4 && len(msg) >= ipv4MinHead && msg[0]>>4 == 4 { // the header comes with it
			msg = msg[min(len(msg), int(msg[0]&15)*4):]
		}
		to, _, ok := infoOf(oob[:no])
		if !ok || len(msg) < 8 || msg[1] != 0 || msg[0] != echoIPv4 && v4 || msg[0] != echoIPv6 && !v4 {
			continue
		}
		pot, ok := s.pot(source)
		if !ok || slices.Contains(pot.Addresses, to) {
			continue
		}
		s.count(func(c *Counts) { c.Pings++ })
		e := event.Egress{What: "ping", Destination: netip.AddrPortFrom(to, 0), Protocol: "icmp", Bytes: int64(len(msg))}
		if name, ok := s.nameOf(pot, to); ok {
			e.Name, e.Invented = event.Bytes(name), true
		}
		s.tell(pot, e, "ping "+to.String())
		delay, hops := s.way(to)
		answer := echo{reply: echoed(msg, v4), control: controlOf(to, hops), to: source}
		select {
		case under <- struct{}{}:
		default:
			continue // it is lost on its way
		}
		time.AfterFunc(delay, func() {
			<-under
			if ctx.Err() == nil {
				_, _, _ = c.WriteMsgIP(answer.reply, answer.control, &net.IPAddr{IP: answer.to.AsSlice()})
			}
		})
	}
}

// way is how far an address is: always the same, and a little different each time.
func (s *Sink) way(to netip.Addr) (delay time.Duration, hops int) {
	if to.IsPrivate() {
		return 0, usualHops
	}
	seed := s.secret("way", to.String())
	far := nearest + time.Duration(binary.BigEndian.Uint16(seed[:]))*time.Second/time.Duration(700_000) // up to 94 ms
	jitter := time.Duration(time.Now().UnixNano()%800) * time.Microsecond
	return far + jitter, usualHops - 6 - int(seed[2])%12
}

// echoed is the answer to a ping. Of ICMPv6 the kernel makes the sum (RFC 3542, 3.1).
func echoed(msg []byte, v4 bool) []byte {
	out := append([]byte{}, msg...)
	if !v4 {
		out[0] = byte(ipv6.ICMPTypeEchoReply)
		return out
	}
	m, err := icmp.ParseMessage(protoICMP4, out)
	if err != nil {
		return nil
	}
	m.Type = ipv4.ICMPTypeEchoReply
	reply, err := m.Marshal(nil)
	if err != nil {
		return nil
	}
	return reply
}

// controlOf sends from an address, with so many hops left.
func controlOf(from netip.Addr, hops int) []byte {
	level, kind, info := unix.SOL_IP, unix.IP_TTL, []byte(nil)
	if from.Is4() {
		info = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	} else {
		level, kind = unix.SOL_IPV6, unix.IPV6_HOPLIMIT
		info = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
	}
	m := make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint64(m, uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(m[8:], uint32(level))
	binary.NativeEndian.PutUint32(m[12:], uint32(kind))
	binary.NativeEndian.PutUint32(m[16:], uint32(hops))
	return append(info, m...)
}
