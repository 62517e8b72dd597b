package divert

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func verdictOf(rules string) bool {
	rs := &ruleset{chains: map[chainID]*filter{}}
	for _, f := range parseLegacy("ip", []byte(rules)) {
		rs.chains[f.id()] = f
	}
	c, _ := rs.blocks(flow{
		source: netip.MustParseAddr(attacker4), port: 22, endpoint: netip.MustParseAddrPort(node4 + ":20001"), in: "wan", out: "core",
	})
	return c == nil
}

func TestLegacyRules(t *testing.T) {
	t.Parallel()
	const drop = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N USER\n"
	answers := "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
	for rules, open := range map[string]bool{
		"-P FORWARD ACCEPT\n": true,
		"-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n": false,
		"-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.0/24 -j DROP\n":                      true,
		drop:           false,
		drop + answers: false,
		drop + answers + "-A FORWARD -i wan -o core -j ACCEPT\n":                                                                                   true,
		drop + answers + "-A FORWARD -i w+ -j ACCEPT\n":                                                                                            true,
		drop + answers + "-A FORWARD ! -i wan -j ACCEPT\n":                                                                                         false,
		drop + answers + "-A FORWARD -d 198.51.100.20/32 -p tcp -j ACCEPT\n":                                                                       true,
		drop + answers + "-A FORWARD -d 198.51.100.20/32 -p udp -j ACCEPT\n":                                                                       false,
		drop + answers + "-A FORWARD -m recent --rcheck -j ACCEPT\n":                                                                               false,
		drop + "-A FORWARD -j USER\n-A USER -p tcp -m conntrack --ctstate DNAT --ctreplsrc 198.51.100.20 -m comment --comment \"a b\" -j ACCEPT\n": true,
		drop + "-A FORWARD -j USER\n-A USER -p tcp -m conntrack --ctstate DNAT --ctreplsrc 198.51.100.0/255.255.255.0 -j ACCEPT\n":                 true,
		drop + "-A FORWARD -j USER\n-A USER -j RETURN\n-A FORWARD -g USER\n":                                                                       false,
		drop + "-A FORWARD -j LOG --log-prefix \"-j ACCEPT\"\n":                                                                                    false,
		drop + "-A FORWARD -j FORWARD\n":                                                                                                           false, // a loop ends
	} {
		assert.Equal(t, open, verdictOf(rules), rules)
	}
}

func FuzzLegacyRules(f *testing.F) {
	f.Add("-P FORWARD DROP\n-A FORWARD -i wan ! -o core -m comment --comment \"x\\\"y\" -j ACCEPT")
	f.Add("-A FORWARD -s\n-A FORWARD -j\n-P\n-A")
	f.Add("-A FORWARD --ctreplsrc 1.2.3.4/255.0.255.0 -j ACCEPT")
	f.Fuzz(func(_ *testing.T, rules string) { verdictOf(rules) })
}
