package divert

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attempts is how often a list is read that others change meanwhile.
const attempts = 5

// read lists the elements that the kernel holds. It streams them through one large buffer: the kernel starts from
// the set's begin for each bufferful, and the library's small ones take seconds for 100,000 elements.
//
// A list is not always whole: while the kernel resizes a map, just after many elements came in, some are passed
// over. So what is missing may still be there, and whoever writes must expect it.
func (t *table) read() (contents, error) {
	var c contents
	sock, done, err := t.space.socket(unix.NETLINK_NETFILTER)
	if err != nil {
		return c, err
	}
	defer done()
	for range attempts {
		c = contents{redirects: map[key]element{}, endpoints: map[netip.Addr]time.Duration{}}
		for _, s := range t.sets() {
			if err = c.list(sock, s); err != nil {
				break
			}
		}
		if !interrupted(err) {
			return c, err
		}
	}
	return c, err
}

func (c contents) list(sock map[int]*nl.SocketHandle, s *nftables.Set) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(s.Table.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(s.Name + "\x00")},
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", s.Name, err)
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP)
	req.Sockets = sock
	req.AddRawData(append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attrs...))
	var bad error
	err = req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(m []byte) bool {
		bad = c.add(s, m)
		return bad == nil
	})
	if err = errors.Join(bad, err); err != nil {
		return fmt.Errorf("list %s of table %s: %w", s.Name, s.Table.Name, err)
	}
	return nil
}

// add takes in one message of a list.
func (c contents) add(s *nftables.Set, m []byte) error {
	if len(m) < 4 {
		return errors.New("short message")
	}
	ad, err := netlink.NewAttributeDecoder(m[4:])
	if err != nil {
		return fmt.Errorf("decode elements: %w", err)
	}
	for ad.Next() {
		if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		ad.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				list.Nested(func(e *netlink.AttributeDecoder) error { return c.element(s, e) })
			}
			return nil
		})
	}
	if err := ad.Err(); err != nil {
		return fmt.Errorf("decode elements: %w", err)
	}
	return nil
}

func (c contents) element(s *nftables.Set, ad *netlink.AttributeDecoder) error {
	var from, to []byte
	var left time.Duration
	mark := ""
	value := func(into *[]byte) {
		ad.Nested(func(v *netlink.AttributeDecoder) error {
			for v.Next() {
				if v.Type() == unix.NFTA_DATA_VALUE {
					*into = v.Bytes()
				}
			}
			return nil
		})
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			value(&from)
		case unix.NFTA_SET_ELEM_DATA:
			value(&to)
		case unix.NFTA_SET_ELEM_EXPIRATION:
			if b := ad.Bytes(); len(b) == 8 {
				left = time.Duration(min(binary.BigEndian.Uint64(b), 1<<40)) * time.Millisecond
			}
		case unix.NFTA_SET_ELEM_USERDATA:
			mark, _ = userdata.GetString(ad.Bytes(), userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		}
	}
	if !s.IsMap {
		if a, ok := netip.AddrFromSlice(from); ok {
			c.endpoints[a] = left
		}
		return nil
	}
	source, ok := split(from)
	endpoint, ok2 := split(to)
	if !ok || !ok2 {
		return fmt.Errorf("element of %d and %d bytes", len(from), len(to))
	}
	bits := source.Addr().BitLen()
	if s.Name == map6net {
		bits = 64
	}
	e := element{
		key: key{netip.PrefixFrom(source.Addr(), bits), source.Port()}, endpoint: endpoint, left: left, fresh: mark == fresh,
	}
	c.redirects[e.key] = e
	return nil
}
