package pottest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

// Machines are a node and a host on one network, each a namespace: the node is 198.51.100.20 and
// 2001:db8:2::20; the host 198.51.100.10 and .11, 2001:db8:2::10 and ::11.
type Machines struct {
	Node, Host         *netns.NS
	NodeName, HostName string
}

// NewMachines makes them; they go when the test ends.
func NewMachines(t testing.TB) *Machines {
	t.Helper()
	m := &Machines{NodeName: Name(t, "kkn"), HostName: Name(t, "kkh")}
	for name, ns := range map[string]**netns.NS{m.NodeName: &m.Node, m.HostName: &m.Host} {
		opened, err := netns.Ensure(name)
		require.NoError(t, err)
		*ns = opened
		t.Cleanup(func() {
			assert.NoError(t, opened.Close())
			assert.NoError(t, netns.Delete(name))
		})
		Run(t, "ip", "-n", name, "link", "set", "lo", "up")
	}
	Run(t, "ip", "-n", m.NodeName, "link", "add", "core", "type", "veth", "peer", "name", "core", "netns", m.HostName)
	for name, addrs := range map[string][]string{
		m.NodeName: {"198.51.100.20/24", "2001:db8:2::20/64"},
		m.HostName: {"198.51.100.10/24", "198.51.100.11/24", "2001:db8:2::10/64", "2001:db8:2::11/64"},
	} {
		for _, a := range addrs {
			Run(t, "ip", "-n", name, "addr", "add", a, "dev", "core", "nodad")
		}
		Run(t, "ip", "-n", name, "link", "set", "core", "up")
	}
	return m
}
