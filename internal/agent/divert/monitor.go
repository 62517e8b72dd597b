package divert

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// watch hears what the kernel tells the groups of a netlink protocol until ctx ends; lost says that some of it
// did not fit into the socket's buffer.
func watch(ctx context.Context, sp space, protocol int, groups []uint32, heard func(netlink.Message), lost func()) error {
	conn, err := netlink.Dial(protocol, &netlink.Config{NetNS: sp.fd})
	if err != nil {
		return fmt.Errorf("watch netlink: %w", err)
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(); close(closed) })
	defer func() {
		if stop() {
			_ = conn.Close()
			return
		}
		<-closed
	}()
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return fmt.Errorf("watch netlink: %w", err)
		}
	}
	lost() // what happened before is not told
	for {
		msgs, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case err != nil:
			return fmt.Errorf("watch netlink: %w", err)
		}
		for _, m := range msgs {
			heard(m)
		}
	}
}

// concerns says whether a notification of nftables is about our table, or about rules of others.
func (t *table) concerns(m netlink.Message) (ours, foreign bool) {
	const tableAttr = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
		return false, false
	}
	kind := m.Header.Type & 0xff
	if kind == unix.NFT_MSG_NEWGEN {
		return false, false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return false, false
	}
	name := ""
	for ad.Next() {
		if ad.Type() == tableAttr {
			name = ad.String()
			break
		}
	}
	if m.Data[0] == unix.NFPROTO_INET && name == t.name {
		return !t.did(m.Header.PID), false
	}
	switch uint16(kind) {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN,
		unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return false, true
	}
	return false, false
}
