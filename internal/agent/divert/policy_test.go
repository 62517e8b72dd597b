package divert

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	p := policy{
		services:  []event.HostPort{{Service: event.SSH, Port: 22}},
		allow:     []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:a::1/128")},
		endpoints: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:2::/64")},
	}
	own := map[netip.Addr]struct{}{netip.MustParseAddr("203.0.113.10"): {}, netip.MustParseAddr("2001:db8:1:10::10"): {}}
	others := map[netip.Addr]string{netip.MustParseAddr("198.51.100.20"): "node", netip.MustParseAddr("2001:db8:2::2"): "server"}
	for _, tc := range []struct {
		source, endpoint, want string
		change                 func(*event.Redirect)
	}{
		{source: "203.0.113.66/32", endpoint: "198.51.100.20:20001"},
		{source: "2001:db8:66::/64", endpoint: "[2001:db8:2::20]:20001"},
		{source: "2001:db8:66::1/128", endpoint: "[2001:db8:2::20]:20001"},
		{source: "::ffff:203.0.113.66/128", endpoint: "198.51.100.20:20001"}, // IPv4-mapped is IPv4
		{source: "203.0.113.0/24", endpoint: "198.51.100.20:20001", want: "source 203.0.113.0/24 is no single address: only /32 can be redirected for IPv4"},
		{source: "203.0.113.66/24", endpoint: "198.51.100.20:20001", want: "source 203.0.113.66/24 has host bits: did you mean 203.0.113.0/24?"},
		{source: "2001:db8:66::/48", endpoint: "[2001:db8:2::20]:20001", want: "source 2001:db8:66::/48 is neither /64 nor /128, which alone can be redirected for IPv6"},
		{source: "2001:db8:66::1/64", endpoint: "[2001:db8:2::20]:20001", want: "source 2001:db8:66::1/64 has host bits: did you mean 2001:db8:66::/64?"},
		{source: "::ffff:203.0.113.0/120", endpoint: "198.51.100.20:20001", want: "source 203.0.113.0/24 is no single address: only /32 can be redirected for IPv4"},
		{source: "0.0.0.0/0", endpoint: "198.51.100.20:20001", want: "source 0.0.0.0/0 is no single address: only /32 can be redirected for IPv4"},
		{source: "127.0.0.9/32", endpoint: "198.51.100.20:20001", want: "source 127.0.0.9/32 is loopback"},
		{source: "::1/128", endpoint: "[2001:db8:2::20]:20001", want: "source ::1/128 is loopback"},
		{source: "::/64", endpoint: "[2001:db8:2::20]:20001", want: "source ::/64 is loopback"},
		{source: "0.0.0.0/32", endpoint: "198.51.100.20:20001", want: "source 0.0.0.0/32 is the unspecified address"},
		{source: "224.0.0.1/32", endpoint: "198.51.100.20:20001", want: "source 224.0.0.1/32 is multicast"},
		{source: "fe80::/64", endpoint: "[2001:db8:2::20]:20001", want: "source fe80::/64 is link-local: routers and neighbours of this host"},
		{source: "203.0.113.10/32", endpoint: "198.51.100.20:20001", want: "source 203.0.113.10/32 holds this host's own address 203.0.113.10"},
		{source: "2001:db8:1:10::/64", endpoint: "[2001:db8:2::20]:20001", want: "source 2001:db8:1:10::/64 holds this host's own address 2001:db8:1:10::10"},
		{source: "198.51.100.20/32", endpoint: "198.51.100.20:20001", want: "source 198.51.100.20/32 holds the address 198.51.100.20 of a node"},
		{source: "2001:db8:2::/64", endpoint: "[2001:db8:2::20]:20001", want: "source 2001:db8:2::/64 holds the address 2001:db8:2::2 of a server"},
		{source: "192.0.2.7/32", endpoint: "198.51.100.20:20001", want: "source 192.0.2.7/32 is on this agent's allow list (192.0.2.0/24)"},
		{source: "2001:db8:a::/64", endpoint: "[2001:db8:2::20]:20001", want: "source 2001:db8:a::/64 is on this agent's allow list (2001:db8:a::1/128)"},
		{source: "203.0.113.66/32", endpoint: "192.0.2.99:20001", want: "endpoint 192.0.2.99:20001 is not in this agent's list of endpoints"},
		{source: "203.0.113.66/32", endpoint: "[2001:db8:2::20]:20001", want: "endpoint [2001:db8:2::20]:20001 and source 203.0.113.66/32 are of different IP versions"},
		{source: "203.0.113.66/32", endpoint: "127.0.0.1:20001", want: "endpoint 127.0.0.1:20001 is no global unicast address"},
		{source: "203.0.113.66/32", endpoint: "198.51.100.20:0", want: `endpoint "198.51.100.20:0" is no address and port`},
		{source: "2001:db8:66::/64", endpoint: "[fe80::1%eth0]:20001", want: "endpoint [fe80::1%eth0]:20001 is IPv4-mapped or has a zone"},
		{source: "203.0.113.66/32", endpoint: "198.51.100.20:20001", want: "source is no prefix", change: func(r *event.Redirect) { r.Source = netip.Prefix{} }},
		{source: "203.0.113.66/32", endpoint: "198.51.100.20:20001", want: "ssh on port 2222 is not in this agent's list of services", change: func(r *event.Redirect) { r.Port = 2222 }},
		{source: "203.0.113.66/32", endpoint: "198.51.100.20:20001", want: "redis on port 22 is not in this agent's list of services", change: func(r *event.Redirect) { r.Service = "redis" }},
	} {
		t.Run(tc.source+" "+tc.endpoint+" "+tc.want, func(t *testing.T) {
			t.Parallel()
			r := event.Redirect{
				Source: netip.MustParsePrefix(tc.source), Service: event.SSH, Port: 22,
				Endpoint: netip.MustParseAddrPort(tc.endpoint),
			}
			if tc.change != nil {
				tc.change(&r)
			}
			assert.Equal(t, tc.want, p.refuse(r, own, others))
		})
	}
	assert.Contains(t, policy{}.refuse(event.Redirect{
		Source: netip.MustParsePrefix("203.0.113.66/32"), Service: event.SSH, Port: 22,
	}, nil, nil), "not in this agent's list of services", "nothing is allowed by default")
}
