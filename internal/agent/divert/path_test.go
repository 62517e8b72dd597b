package divert

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// docker sets up what Docker's start leaves in a host's forward chain, by iptables itself.
func (w *world) docker(program string) {
	w.host.run(program, "-N", "DOCKER-USER")
	w.host.run(program, "-A", "DOCKER-USER", "-j", "RETURN")
	w.host.run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
	w.host.run(program, "-A", "FORWARD", "-o", "docker0", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT")
	w.host.run(program, "-A", "FORWARD", "-i", "docker0", "!", "-o", "docker0", "-j", "ACCEPT")
	w.host.run(program, "-P", "FORWARD", "DROP")
}

// TestPathVerdicts compares what is said of a path with what real packets meet on it.
func TestPathVerdicts(t *testing.T) {
	t.Parallel()
	chain := func(rules string) string {
		return "table inet fw { set nodes { type ipv4_addr; flags interval; elements = { 198.51.100.16/28 } }\n" +
			"chain zone { ct status dnat accept; }\n" +
			"chain forward { type filter hook forward priority 0; " + rules + "\n}\n}"
	}
	for _, tc := range []struct {
		name, rules string
		open        bool
	}{
		{"no firewall", "", true},
		{"policy accept", chain("policy accept; tcp dport 25 drop;"), true},
		{"policy drop", chain("policy drop;"), false},
		{"policy drop, answers only", chain("policy drop; ct state established,related accept;"), false},
		{"one direction only", chain(`policy drop; iifname "wan" oifname "core" accept;`), false},
		{"both directions by interface", chain(`policy drop; iifname "wan" oifname "core" accept; iifname "core" accept;`), true},
		{"wrong interface", chain(`policy drop; ct state established accept; iifname "lan" accept;`), false},
		{"dnat accepted, as firewalld does", chain("policy drop; ct state { established, related } accept; ct status dnat accept;"), true},
		{"state map", chain("policy drop; ct state vmap { established : accept, related : accept, new : jump zone, invalid : drop };"), true},
		{"reject at the end", chain("policy accept; ct state established accept; reject with icmpx admin-prohibited;"), false},
		{"goto", chain("policy drop; goto zone;"), true},
		{"endpoint in a named set", chain("policy drop; ct state established accept; ip daddr @nodes accept;"), true},
		{"not in the set", chain("policy drop; ct state established accept; ip daddr != @nodes accept;"), false},
		{"endpoint in an anonymous set", chain("policy drop; ct state established accept; ip daddr { 10.0.0.0/8, 198.51.100.20 } tcp dport { 80, 20000-29999 } accept;"), true},
		{"port range", chain("policy drop; ct state established accept; tcp dport 20000-29999 accept;"), true},
		{"other port range", chain("policy drop; ct state established accept; tcp dport 30000-39999 accept;"), false},
		{"not the port", chain("policy drop; ct state established accept; tcp dport != 22 accept;"), true},
		{"prefix of the source", chain("policy drop; ct state established accept; ip saddr 203.0.113.64/26 accept;"), true},
		{"another source", chain("policy drop; ct state established accept; ip saddr 203.0.113.0/26 accept;"), false},
		{"original direction", chain("policy drop; ct state established accept; meta l4proto tcp ct original proto-dst 22 ct direction original accept;"), true},
		{"family of another kind", "table ip6 fw { chain forward { type filter hook forward priority 0; policy drop;\n}\n}", true},
		{"reply source", chain("policy drop; ct status dnat ct reply ip saddr 198.51.100.20 accept;"), true},
		{"syn only", chain("policy drop; ct state established accept; tcp flags & (fin|syn|rst|ack) == syn accept;"), true},
		{"arriving closed is no matter", "table inet fw { chain input { type filter hook input priority 0; policy drop;\n}\n}", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).routed()
			w.host.nft(tc.rules)
			d, _ := w.start(w.options())
			got, err := d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
			require.NoError(t, err)
			if tc.open {
				requireActive(t, got, err)
				assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
				return
			}
			require.Equal(t, event.Refused, got[0].State)
			_, mend, ok := strings.Cut(got[0].Reason, "; mend: ")
			require.True(t, ok, got[0].Reason)
			assert.Contains(t, got[0].Reason, "chain forward of table inet fw")
			assert.NotContains(t, w.table(), attacker4)
			require.NotEmpty(t, d.Findings())
			assert.Equal(t, mend, d.Findings()[0].Mend)

			w.host.run("sh", "-c", mend) // what it says helps
			got, err = d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
			requireActive(t, got, err)
			assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
			assert.Empty(t, d.Findings())
		})
	}
}

// TestUndecidableRulesAreNoOpenDoor: real packets may pass or not, so the operator must say.
func TestUndecidableRulesAreNoOpenDoor(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{
		"mark":                   "meta mark 7 accept;",
		"limit":                  "limit rate 5/second accept;",
		"unknown to the library": "rt ip nexthop 192.0.2.1 accept;",
		"length":                 "meta length 0-100 accept;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).routed()
			w.host.nft("table inet fw { chain forward { type filter hook forward priority 0; policy drop; ct state established accept; " + rule + "\n}\n}")
			d, _ := w.start(w.options())
			got, err := d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
			require.NoError(t, err)
			assert.Equal(t, event.Refused, got[0].State)
		})
	}
}

func TestDockersPolicyDropIsReportedOrOpened(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ program, source, endpoint, to, want, behind, mend string }{
		{"iptables-nft", attacker4 + "/32", node4, host4 + ":22", "node " + core4, behind4 + ":22", "iptables -I DOCKER-USER"},
		{"ip6tables-nft", "2001:db8:1:66::/64", node6, "[" + host6 + "]:22", "node " + core6, "[" + behind6 + "]:22", "ip6tables -I DOCKER-USER"},
		{"iptables-legacy", attacker4 + "/32", node4, host4 + ":22", "node " + core4, behind4 + ":22", "iptables-legacy -I DOCKER-USER"},
		{"ip6tables-legacy", "2001:db8:1:66::/64", node6, "[" + host6 + "]:22", "node " + core6, "[" + behind6 + "]:22", "ip6tables-legacy -I DOCKER-USER"},
	} {
		t.Run(tc.program, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).routed()
			w.docker(tc.program)
			r := redirectOf("a", tc.source, netip.AddrPortFrom(netip.MustParseAddr(tc.endpoint), 20001).String())
			o := w.options()
			d, stop := w.start(o)
			got, err := d.Set(t.Context(), desiredOf(r))
			require.NoError(t, err)
			require.Equal(t, event.Refused, got[0].State)
			_, mend, _ := strings.Cut(got[0].Reason, "; mend: ")
			assert.True(t, strings.HasPrefix(mend, tc.mend+" "), got[0].Reason)
			assert.Contains(t, got[0].Reason, "(policy drop)")
			stop()

			o.DockerUser = true
			d, stop = w.start(o)
			got, err = d.Set(t.Context(), desiredOf(r))
			requireActive(t, got, err)
			rule := "--comment kokkuri"
			assert.Equal(t, 1, strings.Count(w.host.run(tc.program, "-S", "DOCKER-USER"), rule))
			assert.Equal(t, tc.want, w.attacker.meets(tc.to))
			require.Error(t, w.user.probe(tc.behind), "nothing else passes")
			stop()

			d, stop = w.start(o) // a successor adds no second
			got, err = d.Set(t.Context(), desiredOf(r))
			requireActive(t, got, err)
			assert.Equal(t, 1, strings.Count(w.host.run(tc.program, "-S", "DOCKER-USER"), rule))
			stop()
			require.NoError(t, Release(t.Context(), o))
			assert.Equal(t, "-N DOCKER-USER\n-A DOCKER-USER -j RETURN\n", w.host.run(tc.program, "-S", "DOCKER-USER"))

			o.DockerUser = false // what the operator is told to run helps, too
			d, _ = w.start(o)
			w.host.run("sh", "-c", strings.Replace(mend, strings.Fields(mend)[0], tc.program, 1))
			got, err = d.Set(t.Context(), desiredOf(r))
			requireActive(t, got, err)
			assert.Equal(t, tc.want, w.attacker.meets(tc.to))
		})
	}
}

func TestChangedFirewallIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	o, told := w.options(), make(chan struct{}, 8)
	o.Changed = func() { told <- struct{}{} }
	d, _ := w.start(o)
	got, err := d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
	requireActive(t, got, err)
	w.docker("iptables-nft")
	eventually(t, patience, func() error {
		if len(d.Findings()) == 0 {
			return assert.AnError
		}
		return nil
	})
	assert.NotContains(t, w.table(), attacker4)
	assert.Equal(t, "host "+attacker4, w.attacker.meets(host4+":22"), "better the real host than a black hole that shows something is up")
	<-told
	w.host.run("iptables-nft", "-P", "FORWARD", "ACCEPT")
	<-told
	assert.Contains(t, w.table(), attacker4)
}

func TestUFWIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	w.host.run("iptables-nft", "-N", "ufw-user-forward")
	w.host.run("iptables-nft", "-A", "FORWARD", "-j", "ufw-user-forward")
	w.host.run("iptables-nft", "-P", "FORWARD", "DROP")
	d, _ := w.start(w.options())
	got, err := d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
	require.NoError(t, err)
	assert.Contains(t, got[0].Reason, "; mend: ufw route allow proto tcp to 198.51.100.20")
}

func TestEndpointOnTheHostItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.conf()
	w.host.serve(20001)
	d, _ := w.start(w.options())
	want := desiredOf(redirectOf("a", attacker4+"/32", core4+":20001"))
	got, err := d.Set(t.Context(), want)
	requireActive(t, got, err)
	assert.Equal(t, before, w.conf(), "nothing has to be forwarded")
	c, err := w.attacker.dial("", host4+":22")
	require.NoError(t, err)
	assert.Equal(t, core4, endOf(t, w, c), "answered by the port that was redirected to")
	_ = c.Close()

	w.host.nft("table inet fw { chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept;\n}\n}")
	got, err = d.Set(t.Context(), want)
	require.NoError(t, err)
	require.Equal(t, event.Refused, got[0].State)
	_, mend, _ := strings.Cut(got[0].Reason, "; mend: ")
	w.host.run("sh", "-c", mend)
	got, err = d.Set(t.Context(), want)
	requireActive(t, got, err)
}

// endOf returns where conntrack sends a connection.
func endOf(t *testing.T, w *world, c *conn) string {
	t.Helper()
	port := netip.MustParseAddrPort(c.LocalAddr().String()).Port()
	for line := range strings.Lines(w.host.run("conntrack", "-L", "-p", "tcp", "--orig-port-src", strconv.Itoa(int(port)))) {
		f := strings.Fields(line)
		for i, w := range f {
			if i > 6 && strings.HasPrefix(w, "src=") && strings.Contains(line, "sport=20001") {
				return strings.TrimPrefix(w, "src=")
			}
		}
	}
	return ""
}
