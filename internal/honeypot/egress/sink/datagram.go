package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/names"
)

const (
	maxDatagram  = 4096
	keptDatagram = 512
)

// questions answers what comes to port 53 of any address.
func (s *Sink) questions(c *net.UDPConn) {
	buf, oob := make([]byte, maxDatagram), make([]byte, 256)
	for {
		n, no, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		to, control, ok := infoOf(oob[:no])
		pot, known := s.pot(event.Canonical(from.Addr()))
		if !ok || !known {
			continue
		}
		reply, ok := s.resolve(pot, netip.AddrPortFrom(to, 53), buf[:n], false)
		if !ok {
			s.datagram(pot, netip.AddrPortFrom(to, 53), buf[:n])
			continue
		}
		s.count(func(c *Counts) { c.Questions++ })
		_, _, _ = c.WriteMsgUDPAddrPort(reply, control, from) // who does not take it asks again
	}
}

// resolve answers a question and tells it.
func (s *Sink) resolve(pot Pot, to netip.AddrPort, msg []byte, stream bool) (reply []byte, ok bool) {
	reply, q, err := s.world.Answer(msg, stream, names.Machine{
		Name: pot.Host, Addresses: pot.Addresses, NameOf: func(a netip.Addr) (string, bool) { return s.nameOf(pot, a) },
	})
	if err != nil {
		return nil, false
	}
	s.remember(pot, strings.ToLower(q.Name), q.Invented)
	protocol := "dns"
	if stream {
		protocol = "dns-tcp"
	}
	s.tell(pot, event.Egress{
		What: "name", Destination: to, Protocol: protocol, Name: event.Bytes(q.Name), Type: q.Type, Code: q.Code,
		Answer: q.Answer[:min(len(q.Answer), mostAnswers)],
	}, "name "+q.Type+" "+strings.ToLower(q.Name))
	return reply, true
}

// datagrams takes all others.
func (s *Sink) datagrams(ctx context.Context, c *net.UDPConn, calls *sync.WaitGroup) {
	buf, oob := make([]byte, maxDatagram), make([]byte, 256)
	for {
		n, no, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		to, ok := destinationOf(oob[:no])
		pot, known := s.pot(event.Canonical(from.Addr()))
		if !ok || !known {
			continue
		}
		s.datagram(pot, to, buf[:n])
		if file, ok := tftpFile(buf[:n]); ok && to.Port() == tftpPort && buf[1] == tftpRead {
			s.answerTFTP(ctx, pot, to, netip.AddrPortFrom(event.Canonical(from.Addr()), from.Port()), file, calls)
		}
	}
}

// datagram tells what was sent.
func (s *Sink) datagram(pot Pot, to netip.AddrPort, data []byte) {
	s.count(func(c *Counts) { c.Datagrams++ })
	e := event.Egress{What: "datagram", Destination: to, Protocol: datagramProtocol(to.Port()), Bytes: int64(len(data))}
	if name, ok := s.nameOf(pot, to.Addr()); ok {
		e.Name, e.Invented = event.Bytes(name), true
	}
	if e.Protocol == "tftp" {
		if file, ok := tftpFile(data); ok {
			e.What, e.Method = "request", event.Bytes(tftpMethod(data))
			e.URL = event.Bytes("tftp://" + hostOf(to, tftpPort, string(e.Name)) + "/" + strings.TrimPrefix(file, "/"))
			if data[1] == tftpRead {
				e.How = "sinkhole"
			}
		}
	}
	e.Data = event.Bytes(data[:min(len(data), keptDatagram)])
	once := fmt.Sprintf("datagram %s %s", to, e.URL)
	s.tell(pot, e, once)
}

func datagramProtocol(port uint16) string {
	return map[uint16]string{
		53: "dns", 67: "dhcp", 68: "dhcp", 69: "tftp", 123: "ntp", 137: "netbios", 161: "snmp", 443: "quic", 500: "ike", 514: "syslog",
		1900: "ssdp", 5060: "sip", 5353: "mdns", 11211: "memcached", 51820: "wireguard",
	}[port]
}

// hostOf is how a URL names a destination.
func hostOf(to netip.AddrPort, usual uint16, name string) string {
	host := name
	if host == "" {
		host = to.Addr().String()
		if to.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	if to.Port() != usual {
		host += fmt.Sprintf(":%d", to.Port())
	}
	return host
}

// infoOf reads where a datagram was sent to, and returns the control message by which the answer comes from there.
func infoOf(oob []byte) (to netip.Addr, answer []byte, ok bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return to, nil, false
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			to = netip.AddrFrom4([4]byte(m.Data[8:12])) // struct in_pktinfo: index, local, destination
			return to, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: to.As4()}), true
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16:
			to = netip.AddrFrom16([16]byte(m.Data[:16]))
			return to, unix.PktInfo6(&unix.Inet6Pktinfo{Addr: to.As16()}), true
		}
	}
	return to, nil, false
}

// destinationOf reads where a datagram was sent to that the packet filter led here.
func destinationOf(oob []byte) (to netip.AddrPort, ok bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return to, false
	}
	for _, m := range messages {
		sa, err := unix.ParseOrigDstAddr(&m)
		if err != nil {
			continue
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), true
		case *unix.SockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), true
		}
	}
	return to, false
}
