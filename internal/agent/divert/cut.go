package divert

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// cutter ends the connections that redirected sources had to the host's services before.
type cutter struct{ space space }

// cuts are the sources and ports to cut, each with the connections to spare.
type cuts map[key][]netip.AddrPort

// covers says whether a connection is to be cut.
func (c cuts) covers(remote netip.AddrPort, port uint16) bool {
	a := remote.Addr()
	for _, bits := range []int{a.BitLen(), 64} {
		p, err := a.Prefix(bits)
		if err != nil {
			continue
		}
		if spare, ok := c[key{p, port}]; ok && !slices.Contains(spare, remote) {
			return true
		}
	}
	return false
}

// families are those of the sources; v6 sockets may also hold IPv4 connections.
func (c cuts) families() (v4, v6 bool) {
	for k := range c {
		if k.source.Addr().Is4() {
			v4 = true
		} else {
			v6 = true
		}
	}
	return v4, v6
}

// port returns the port of all jobs where it is the same, else 0.
func (c cuts) port() uint16 {
	var port uint16
	for k := range c {
		if port != 0 && port != k.port {
			return 0
		}
		port = k.port
	}
	return port
}

// cut destroys the sockets, then deletes the conntrack entries; in this order, for a connection whose entry
// alone is gone goes on. own are the host's addresses, endpoints those that are redirected to: what goes there is
// redirected already.
func (c *cutter) cut(jobs cuts, own map[netip.Addr]struct{}, endpoints map[netip.Addr]struct{}) (sockets, flows int, err error) {
	sockets, errS := c.sockets(jobs)
	flows, errF := c.flows(jobs, own, endpoints)
	return sockets, flows, errors.Join(errS, errF)
}

const (
	diagSize  = 56 // struct inet_diag_req_v2, linux/inet_diag.h; the socket's id is its last 48 bytes
	diagID    = 48
	notListen = 0xfff &^ (1<<10 | 1<<7) // TCP states without LISTEN and CLOSE
)

// diagRequest is a struct inet_diag_req_v2.
func diagRequest(family byte, states uint32, id []byte) []byte {
	b := make([]byte, diagSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], states)
	copy(b[8:], id)
	return b
}

func (c *cutter) sockets(jobs cuts) (n int, err error) {
	sock, done, err := c.space.socket(unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, err
	}
	defer done()
	families := []byte{unix.AF_INET6}
	if v4, _ := jobs.families(); v4 {
		families = append(families, unix.AF_INET)
	}
	var errs []error
	for _, family := range families {
		id := make([]byte, diagID)
		binary.BigEndian.PutUint16(id, jobs.port())
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.Sockets = sock
		req.AddRawData(diagRequest(family, notListen, id))
		var ids [][]byte
		err := req.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(m []byte) bool {
			if local, remote, ok := socketEnds(m); ok {
				if jobs.covers(remote, local) {
					ids = append(ids, bytes.Clone(m[4:4+diagID]))
				}
			}
			return true
		})
		if err != nil && !interrupted(err) {
			errs = append(errs, fmt.Errorf("list sockets: %w", err))
		}
		for _, id := range ids {
			kill := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
			kill.Sockets = sock
			kill.AddRawData(diagRequest(family, 0, id))
			switch _, err := kill.Execute(unix.NETLINK_INET_DIAG, 0); {
			case err == nil:
				n++
			case errors.Is(err, unix.ENOENT): // it ended by itself
			default:
				errs = append(errs, fmt.Errorf("destroy socket: %w", err))
			}
		}
	}
	return n, errors.Join(errs...)
}

// socketEnds reads a struct inet_diag_msg: the local port, and the peer with an IPv4-mapped address unmapped.
func socketEnds(m []byte) (local uint16, remote netip.AddrPort, ok bool) {
	if len(m) < 4+diagID {
		return 0, netip.AddrPort{}, false
	}
	var a netip.Addr
	if m[0] == unix.AF_INET {
		a = netip.AddrFrom4([4]byte(m[24:28]))
	} else {
		a = netip.AddrFrom16([16]byte(m[24:40])).Unmap()
	}
	return binary.BigEndian.Uint16(m[4:]), netip.AddrPortFrom(a, binary.BigEndian.Uint16(m[6:])), true
}

// Attributes of conntrack messages (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctTupleOrig  = 1
	ctTupleReply = 2
	ctID         = 12
	ctZone       = 18
	ctFilter     = 25
	ctTupleIP    = 1
	ctTupleProto = 2
	ctFilterOrig = 1
	ctByProto    = 1<<3 | 1<<5 // CTA_FILTER_FLAG of the protocol and the destination port

	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | nl.IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | nl.IPCTNL_MSG_CT_DELETE
)

func (c *cutter) flows(jobs cuts, own, endpoints map[netip.Addr]struct{}) (n int, err error) {
	sock, done, err := c.space.socket(unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, err
	}
	defer done()
	var errs []error
	v4, v6 := jobs.families()
	for _, f := range []struct {
		family byte
		on     bool
	}{{unix.AF_INET, v4}, {unix.AF_INET6, v6}} {
		if !f.on {
			continue
		}
		var ids [][]byte
		pick := func(m []byte) bool {
			if id := flowID(m, jobs, own, endpoints); id != nil {
				ids = append(ids, id)
			}
			return true
		}
		err := listFlows(sock, f.family, portFilter(jobs.port()), pick)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // a kernel before 5.8 filters nothing
			ids = nil
			err = listFlows(sock, f.family, nil, pick)
		}
		if err != nil && !interrupted(err) {
			errs = append(errs, fmt.Errorf("list connections: %w", err))
		}
		for _, id := range ids {
			req := nl.NewNetlinkRequest(ctDelete, unix.NLM_F_ACK)
			req.Sockets = sock
			req.AddRawData(append([]byte{f.family, unix.NFNETLINK_V0, 0, 0}, id...))
			switch _, err := req.Execute(unix.NETLINK_NETFILTER, 0); {
			case err == nil:
				n++
			case errors.Is(err, unix.ENOENT):
			default:
				errs = append(errs, fmt.Errorf("delete connection: %w", err))
			}
		}
	}
	return n, errors.Join(errs...)
}

// interrupted: the list changed while it was read; what is missing of it is newer than the redirect.
func interrupted(err error) bool {
	return errors.Is(err, unix.EINTR) || errors.Is(err, nl.ErrDumpInterrupted)
}

func listFlows(sock map[int]*nl.SocketHandle, family byte, filter []byte, fn func([]byte) bool) error {
	req := nl.NewNetlinkRequest(ctGet, unix.NLM_F_DUMP)
	req.Sockets = sock
	req.AddRawData(append([]byte{family, unix.NFNETLINK_V0, 0, 0}, filter...))
	return req.ExecuteIter(unix.NETLINK_NETFILTER, 0, fn) //nolint:wrapcheck // wrapped by the caller
}

// portFilter lets the kernel list only TCP connections to one port.
func portFilter(port uint16) []byte {
	if port == 0 {
		return nil
	}
	e := netlink.NewAttributeEncoder()
	e.Nested(ctTupleOrig, func(t *netlink.AttributeEncoder) error {
		t.Nested(ctTupleProto, func(p *netlink.AttributeEncoder) error {
			p.Uint8(nl.CTA_PROTO_NUM, unix.IPPROTO_TCP)
			p.Bytes(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, port))
			return nil
		})
		return nil
	})
	e.Nested(ctFilter, func(f *netlink.AttributeEncoder) error {
		f.Uint32(ctFilterOrig, ctByProto)
		f.Uint32(ctFilterOrig+1, 0)
		return nil
	})
	b, err := e.Encode()
	if err != nil {
		return nil
	}
	return b
}

// tuple is one direction of a connection.
type tuple struct{ src, dst netip.AddrPort }

func readTuple(b []byte) (t tuple, tcp bool) {
	a, err := attributes(b)
	if err != nil {
		return t, false
	}
	ip, err := attributes(a[ctTupleIP])
	if err != nil {
		return t, false
	}
	proto, err := attributes(a[ctTupleProto])
	if err != nil || !bytes.Equal(proto[nl.CTA_PROTO_NUM], []byte{unix.IPPROTO_TCP}) {
		return t, false
	}
	end := func(v4, v6, port uint16) (netip.AddrPort, bool) {
		raw := ip[v4]
		if raw == nil {
			raw = ip[v6]
		}
		addr, ok := netip.AddrFromSlice(raw)
		if !ok || len(proto[port]) != 2 {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(proto[port])), true
	}
	var ok, ok2 bool
	t.src, ok = end(nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC, nl.CTA_PROTO_SRC_PORT)
	t.dst, ok2 = end(nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST, nl.CTA_PROTO_DST_PORT)
	return t, ok && ok2
}

// flowID returns the attributes that name a conntrack entry, where it is one to cut.
func flowID(m []byte, jobs cuts, own, endpoints map[netip.Addr]struct{}) []byte {
	if len(m) < 4 {
		return nil
	}
	a, err := attributes(m[4:])
	if err != nil {
		return nil
	}
	orig, ok := readTuple(a[ctTupleOrig])
	reply, ok2 := readTuple(a[ctTupleReply])
	if !ok || !ok2 {
		return nil
	}
	if _, ours := own[orig.dst.Addr()]; !ours {
		return nil // it goes through the host to another machine
	}
	if _, redirected := endpoints[reply.src.Addr()]; redirected && reply.src != orig.dst {
		return nil
	}
	if !jobs.covers(orig.src, orig.dst.Port()) {
		return nil
	}
	attrs := []netlink.Attribute{{Type: ctTupleOrig | netlink.Nested, Data: a[ctTupleOrig]}}
	for _, t := range []uint16{ctID, ctZone} {
		if a[t] != nil {
			attrs = append(attrs, netlink.Attribute{Type: t, Data: a[t]})
		}
	}
	id, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil
	}
	return id
}
