package egress_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// Whatever a pot that may call out calls ends in the sockets, which know where it was meant to go.
func TestCallsEndInTheSockets(t *testing.T) {
	d := pottest.Engine(t, "egress-test-6")
	n, ns := pottest.Net(t)
	a, _ := startPot(t, d, n, 0)
	b, _ := startPot(t, d, n, 1)
	s, err := n.OpenSockets()
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, n.Sink(map[int]bool{0: true}))
	call := func() {
		t.Helper()
		for i, target := range []netip.AddrPort{netip.MustParseAddrPort("1.2.3.4:81"), netip.MustParseAddrPort("[2606:4700::1]:82")} {
			go func() {
				_, _ = pottest.InPot(t, a, "busybox timeout 10 busybox nc "+target.Addr().String()+" "+target.String()[len(target.String())-2:]+" </dev/null")
			}()
			require.NoError(t, s.TCP[i].SetDeadline(time.Now().Add(time.Minute)))
			c, err := s.TCP[i].AcceptTCP()
			require.NoError(t, err)
			assert.Equal(t, target.String(), c.LocalAddr().String())
			place, ok := n.Place(netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
			assert.True(t, ok)
			assert.Zero(t, place)
			require.NoError(t, c.Close())
		}
	}
	call()

	// The other pot may not: it is as if there were no network.
	out, err := pottest.InPot(t, b, "busybox timeout 1 busybox nc 1.2.3.4 81 </dev/null && echo reached; busybox timeout 2 busybox nslookup a.com; ping -c1 -W1 8.8.8.8 && echo pinged; echo done")
	require.NoError(t, err)
	assert.NotContains(t, out, "reached")
	assert.NotContains(t, out, "pinged")
	dropped, err := n.Dropped()
	require.NoError(t, err)
	assert.Positive(t, dropped.Refused)
	assert.Zero(t, dropped.Forged, "what machines send by themselves is no forgery")

	// Docker loads br_netfilter, which has the packet filter see packets while they cross the bridge, in every namespace.
	if exec.Command("ip", "netns", "exec", ns, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1").Run() == nil {
		require.NoError(t, n.Ensure())
		call()
	}
}

// A pot as root can't take another's address, neither by its interface nor by socket options.
func TestAddressesAreNotForged(t *testing.T) {
	d := pottest.Engine(t, "egress-test-7")
	n, _ := pottest.Net(t)
	a, _ := startPot(t, d, n, 0)
	startPot(t, d, n, 1)
	s, err := n.OpenSockets()
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, n.Sink(map[int]bool{0: true, 1: true}))
	// IP_FREEBIND (15) and IPV6_FREEBIND (78) bind to any address, without a capability.
	out, err := pottest.InPot(t, a, `ip addr add `+n.Address(1).String()+`/16 dev eth0 2>&1 | grep -o 'not permitted'
python3 - <<'P'
import socket
for family, level, option, own, to in ((socket.AF_INET, 0, 15, "`+n.Address(1).String()+`", "9.9.9.9"), (socket.AF_INET6, 41, 78, "`+n.Addresses(1)[1].String()+`", "2620:fe::fe")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(level, option, 1)
    s.bind((own, 4000))
    try:
        s.sendto(b"forged", (to, 4001))
        print("sent")
    except OSError as e:
        print(e.strerror)
    t = socket.socket(family, socket.SOCK_DGRAM)
    t.sendto(b"honest", (to, 4001))
P`)
	require.NoError(t, err, out)
	assert.Contains(t, out, "not permitted")
	for i, c := range s.UDP {
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		buf := make([]byte, 64)
		size, _, err := c.ReadFromUDPAddrPort(buf)
		require.NoError(t, err)
		assert.Equal(t, "honest", string(buf[:size]), "family %d", i)
	}
	dropped, err := n.Dropped()
	require.NoError(t, err)
	assert.Equal(t, uint64(strings.Count(out, "sent")), dropped.Forged, "%s: Linux sends from any IPv6 address for who asks", out)
}

func TestPlaces(t *testing.T) {
	n, _ := pottest.Net(t)
	for _, i := range []int{0, 1, 244, 245, 246, 1000, n.Capacity() - 1} {
		for _, a := range n.Addresses(i) {
			place, ok := n.Place(a)
			assert.True(t, ok, a)
			assert.Equal(t, i, place, a)
		}
	}
	for _, a := range []string{"172.31.0.1", "172.31.0.0", "172.30.0.11", "fd12:3456:789a::1", "fd12:3456:789a:0:1::b", "fd12:3456:789a:0:ffff:ffff:ffff:ffff", "fd12:3456:789b::b", "8.8.8.8"} {
		_, ok := n.Place(netip.MustParseAddr(a))
		assert.False(t, ok, a)
	}
}
