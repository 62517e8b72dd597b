package divert

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
)

// key is what a packet is looked up by: who sends it, and to which port.
type key struct {
	source netip.Prefix // /32, /64 or /128
	port   uint16
}

func (k key) String() string { return fmt.Sprintf("%s port %d", k.source, k.port) }

// The maps and sets of the table.
const (
	map4     = "redirect4"
	map6host = "redirect6host"
	map6net  = "redirect6net"
	set4     = "endpoint4"
	set6     = "endpoint6"
)

func (k key) mapName() string {
	switch {
	case k.source.Addr().Is4():
		return map4
	case k.source.Bits() == 128:
		return map6host
	default:
		return map6net
	}
}

// fresh marks, in the kernel, an element whose source's earlier connections may not be cut yet: an agent
// that is killed in between leaves the mark, and its successor cuts.
const fresh = "new"

// element is one redirect as the kernel holds it.
type element struct {
	key      key
	endpoint netip.AddrPort
	left     time.Duration // life left
	fresh    bool
}

func (e element) encode() nftables.SetElement {
	out := nftables.SetElement{
		Key:     concat(e.key.source.Addr(), e.key.port),
		Val:     concat(e.endpoint.Addr(), e.endpoint.Port()),
		Timeout: e.left,
	}
	if e.fresh {
		out.Comment = fresh
	}
	return out
}

// concat writes address . port as nftables keeps concatenations: each part padded to four bytes.
func concat(a netip.Addr, port uint16) []byte {
	b := append(make([]byte, 0, 20), a.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, 0, 0)
}

func split(b []byte) (netip.AddrPort, bool) {
	if len(b) != 8 && len(b) != 20 {
		return netip.AddrPort{}, false
	}
	a, ok := netip.AddrFromSlice(b[:len(b)-4])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[len(b)-4:])), ok
}

// change is one step of a map: an element is taken out, put in, or both at once.
type change struct {
	element

	del, add bool
}

// contents are the elements that the table holds.
type contents struct {
	redirects map[key]element
	endpoints map[netip.Addr]time.Duration // life left
}

// chunk is how many changes one batch takes: a netlink attribute holds 64 KiB.
const chunk = 400

// write makes up to chunk changes in one batch: all of them or none.
func (t *table) write(changes []change, endpoints []change) error {
	conn, err := t.open()
	if err != nil {
		return err
	}
	type batch struct{ del, add []nftables.SetElement }
	byMap := map[string]*batch{}
	for _, c := range changes {
		b := byMap[c.key.mapName()]
		if b == nil {
			b = &batch{}
			byMap[c.key.mapName()] = b
		}
		if c.del {
			b.del = append(b.del, nftables.SetElement{Key: concat(c.key.source.Addr(), c.key.port)})
		}
		if c.add {
			b.add = append(b.add, c.encode())
		}
	}
	for _, c := range endpoints {
		name := set6
		if c.endpoint.Addr().Is4() {
			name = set4
		}
		b := byMap[name]
		if b == nil {
			b = &batch{}
			byMap[name] = b
		}
		if c.del {
			b.del = append(b.del, nftables.SetElement{Key: c.endpoint.Addr().AsSlice()})
		}
		b.add = append(b.add, nftables.SetElement{Key: c.endpoint.Addr().AsSlice(), Timeout: c.left})
	}
	for _, s := range t.sets() {
		b := byMap[s.Name]
		if b == nil {
			continue
		}
		if len(b.del) > 0 {
			err = conn.SetDeleteElements(s, b.del)
		}
		if err == nil && len(b.add) > 0 {
			err = conn.SetAddElements(s, b.add)
		}
		if err != nil {
			t.close()
			return fmt.Errorf("change %s of table %s: %w", s.Name, t.name, err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.close()
		return fmt.Errorf("change elements of table %s: %w", t.name, err)
	}
	return nil
}
