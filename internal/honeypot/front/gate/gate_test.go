package gate_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/gate"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func open(t *testing.T) (*gate.Gate, *pottest.Machines) {
	t.Helper()
	m := pottest.NewMachines(t)
	g, err := gate.Open(gate.Options{
		NetNS: m.Node, First: 20000, Last: 29999, Listener4: 12001, Listener6: 12002,
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:2::20")},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, g.Close()) })
	return g, m
}

func list(t *testing.T, m *pottest.Machines) string {
	t.Helper()
	return pottest.Run(t, "ip", "netns", "exec", m.NodeName, "nft", "--stateless", "list", "ruleset")
}

func TestTable(t *testing.T) {
	g, m := open(t)
	require.NoError(t, g.Put(
		gate.Element{Prefix: netip.MustParsePrefix("198.51.100.10/32"), Port: 20001},
		gate.Element{Prefix: netip.MustParsePrefix("2001:db8:2::10/128"), Port: 20002},
		gate.Element{Prefix: netip.MustParsePrefix("2001:db8:1:66::/64"), Port: 20003},
	))
	want, err := os.ReadFile("testdata/table.nft")
	require.NoError(t, err)
	assert.Equal(t, string(want), list(t, m))
}

func TestElementsThatAreNone(t *testing.T) {
	g, _ := open(t)
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8::1/64")} {
		require.Error(t, g.Put(gate.Element{Prefix: p, Port: 1}), p.String())
	}
	require.NoError(t, g.Drop(gate.Element{Prefix: netip.MustParsePrefix("198.51.100.10/32"), Port: 9}), "what is not there is no error")
}

func TestManyElementsComeBackAfterAFlush(t *testing.T) {
	g, m := open(t)
	const n = 10000
	for i := range n {
		require.NoError(t, g.Put(gate.Element{Prefix: netip.MustParsePrefix("198.51.100.10/32"), Port: uint16(20000 + i)}))
	}
	require.Equal(t, n, strings.Count(list(t, m), "198.51.100.10 ."))
	pottest.Run(t, "ip", "netns", "exec", m.NodeName, "nft", "flush", "ruleset")
	start := time.Now()
	require.NoError(t, g.Put(gate.Element{Prefix: netip.MustParsePrefix("198.51.100.11/32"), Port: 20000}))
	assert.Less(t, time.Since(start), time.Second)
	assert.Equal(t, n, strings.Count(list(t, m), "198.51.100.10 ."))
}

func BenchmarkPut(b *testing.B) {
	g, err := gate.Open(gate.Options{Table: fmt.Sprintf("kkbench%d", os.Getpid()), First: 1, Last: 1, Listener4: 1, Listener6: 1})
	require.NoError(b, err)
	defer g.Close() //nolint:errcheck // a benchmark's table
	i := 0
	for b.Loop() {
		i++
		require.NoError(b, g.Put(gate.Element{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Port: 1}))
	}
}
