package parse

import (
	"bytes"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// peerForm says what a message that may have names in the place of addresses has there.
type peerForm uint8

const (
	peerSure    peerForm = iota // an address, whatever the software is told
	peerAddress                 // what looks like an address
	peerName                    // a name
)

// formOf says what a word in the place of an address is.
func formOf(b []byte, isAddress bool) peerForm {
	if isAddress {
		return peerAddress
	}
	if bytes.HasPrefix(b, []byte("unix:")) || string(b) == "unknown" {
		return peerSure
	}
	for _, c := range b {
		if c|0x20 >= 'a' && c|0x20 <= 'z' {
			return peerName
		}
	}
	return peerSure
}

// maxNaming bounds the hosts that are remembered.
const maxNaming = 4096

// naming knows of the hosts whose software writes names for addresses: Pure-FTPd does unless it is told -H, Apache where
// HostnameLookups is on. Who owns an address chooses its name, and may choose one that looks like another's address
// (seen with Pure-FTPd 1.0.49 and 1.0.50 and Apache 2.4), so that from the first name on, what looks like an
// address there is nobody's. Where there are too many such hosts, all are forgotten.
type naming struct {
	hosts map[namingHost]struct{}
}

type namingHost struct {
	host    string
	service event.Service
}

// settle takes the source from e where it may be a name.
func (n *naming) settle(e *event.Event, form peerForm) {
	k := namingHost{e.Host, e.Service}
	switch form {
	case peerName:
		if n.hosts == nil || len(n.hosts) >= maxNaming {
			n.hosts = make(map[namingHost]struct{})
		}
		n.hosts[k] = struct{}{}
	case peerAddress:
		if _, ok := n.hosts[k]; ok {
			e.Source = netip.Addr{}
		}
	case peerSure:
	}
}
