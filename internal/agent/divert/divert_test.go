package divert

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestRedirectsTheSourceAndNoOneElse(t *testing.T) {
	t.Parallel()
	for _, routed := range []bool{false, true} {
		t.Run(fmt.Sprintf("forwarding before us %v", routed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if routed {
				w.routed()
			}
			d, _ := w.start(w.options())
			got, err := d.Set(t.Context(), desiredOf(
				redirectOf("a", attacker4+"/32", node4+":20001"),
				redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001"),
			))
			requireActive(t, got, err)

			assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"), "masqueraded to the node")
			assert.Equal(t, "node "+core6, w.attacker.meets("["+host6+"]:22"))
			c, err := w.attacker.dial("[2001:db8:1:66::67]:0", "["+host6+"]:22")
			require.NoError(t, err)
			assert.Equal(t, "node "+core6, c.greet, "the whole /64")
			_ = c.Close()
			c, err = w.attacker.dial("203.0.113.67:0", host4+":22")
			require.NoError(t, err)
			assert.Equal(t, "host 203.0.113.67", c.greet, "the attacker's other address")
			_ = c.Close()

			assert.Equal(t, "host "+attacker4, w.attacker.meets(host4+":23"), "another port")
			assert.Equal(t, "host "+user4, w.user.meets(host4+":22"))
			assert.Equal(t, "host "+user6, w.user.meets("["+host6+"]:22"))
			assert.Equal(t, "node "+core4, w.attacker.meets(core4+":22"), "every address of the host")

			if routed {
				assert.Equal(t, "behind "+attacker4, w.attacker.meets(behind4+":22"), "through the host")
				assert.Equal(t, "behind "+attacker6, w.attacker.meets("["+behind6+"]:22"))
				assert.Equal(t, "behind "+user4, w.user.meets(behind4+":22"))
			} else {
				for _, to := range []string{behind4 + ":22", "[" + behind6 + "]:22"} {
					err := w.user.probe(to)
					require.Error(t, err, "nothing else is forwarded: %s", to)
				}
			}
		})
	}
}

func TestHostPrefixGoesBeforeNetPrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, _ := w.start(w.options())
	got, err := d.Set(t.Context(), desiredOf(
		redirectOf("net", "2001:db8:1:66::/64", "["+node6+"]:20001"),
		redirectOf("one", attacker6+"/128", "["+node6+"]:20002"),
	))
	requireActive(t, got, err)
	ends := func(from string) string {
		c, err := w.attacker.dial(from, "["+host6+"]:22")
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		var flows strings.Builder
		for line := range strings.Lines(w.host.run("conntrack", "-L", "-f", "ipv6", "-p", "tcp")) {
			if strings.Contains(line, fmt.Sprintf("sport=%d ", c.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port())) {
				flows.WriteString(line)
			}
		}
		return flows.String()
	}
	assert.Contains(t, ends("["+attacker6+"]:0"), "sport=20002 ")
	assert.Contains(t, ends("[2001:db8:1:66::67]:0"), "sport=20001 ")
}

func TestCutsOpenConnectionsButSparesColleagues(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, from, spare, to, source, endpoint string }{
		{"IPv4 on an IPv6 listener", attacker4 + ":0", attacker4 + ":40022", host4 + ":22", attacker4 + "/32", node4 + ":20001"},
		{"IPv6", "[" + attacker6 + "]:0", "[" + attacker6 + "]:40022", "[" + host6 + "]:22", "2001:db8:1:66::/64", "[" + node6 + "]:20001"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			d, _ := w.start(w.options())
			// An earlier redirect, so that conntrack knows the connections that follow.
			got, err := d.Put(t.Context(), []event.Redirect{redirectOf("first", "203.0.113.99/32", node4+":20002")})
			requireActive(t, got, err)
			cutMe, err := w.attacker.dial(tc.from, tc.to)
			require.NoError(t, err)
			spared, err := w.attacker.dial(tc.spare, tc.to)
			require.NoError(t, err)
			users, err := w.user.dial("", tc.to)
			require.NoError(t, err)
			defer func() { _, _, _ = cutMe.Close(), spared.Close(), users.Close() }()
			require.True(t, strings.HasPrefix(cutMe.greet, "host "))

			r := redirectOf("a", tc.source, tc.endpoint)
			r.Spare = []netip.AddrPort{netip.MustParseAddrPort(tc.spare)}
			got, err = d.Put(t.Context(), []event.Redirect{r})
			requireActive(t, got, err)
			// The reset comes without the attacker sending anything.
			_ = cutMe.SetDeadline(time.Now().Add(patience))
			_, err = cutMe.in.ReadByte()
			require.ErrorContains(t, err, "reset")
			require.NoError(t, spared.alive())
			require.NoError(t, users.alive())
			again, err := w.attacker.dial(tc.from, tc.to)
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(again.greet, "node "), again.greet)
			require.NoError(t, again.alive())

			// Renewing and setting again cuts nothing.
			got, err = d.Set(t.Context(), desiredOf(r))
			requireActive(t, got, err)
			require.NoError(t, again.alive())
			require.NoError(t, spared.alive())
			_ = again.Close()
		})
	}
}

func TestSparedConnectionOlderThanConntrackStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spared, err := w.attacker.dial(attacker4+":40022", host4+":22") // before any table: conntrack does not see it
	require.NoError(t, err)
	defer func() { _ = spared.Close() }()
	d, _ := w.start(w.options())
	r := redirectOf("a", attacker4+"/32", node4+":20001")
	r.Spare = []netip.AddrPort{netip.MustParseAddrPort(attacker4 + ":40022")}
	got, err := d.Put(t.Context(), []event.Redirect{r})
	requireActive(t, got, err)
	require.NoError(t, spared.alive())
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
	require.NoError(t, spared.alive())
}

func TestLeavesOtherPortForwardsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	w.host.nft(`table ip docker {
		chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local tcp dport { 8080, 22 } dnat to ` + behind4 + `:8080; }
	}`)
	d, _ := w.start(w.options())
	got, err := d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
	requireActive(t, got, err)
	assert.Equal(t, "behind "+attacker4, w.attacker.meets(host4+":8080"), "not masqueraded")
	assert.Equal(t, "behind "+user4, w.user.meets(host4+":22"))
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"), "the redirect goes before the port forward")
}

func TestMendsWhatOthersDestroy(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	d, _ := w.start(w.options())
	got, err := d.Set(t.Context(), desiredOf(
		redirectOf("a", attacker4+"/32", node4+":20001"),
		redirectOf("b", "2001:db8:1:66::/64", "["+node6+"]:20001"),
	))
	requireActive(t, got, err)
	unmarked := func() string { return strings.ReplaceAll(w.table(), ` comment "new"`, "") }
	whole := unmarked()
	for _, destroy := range []string{
		"flush ruleset",
		"delete table inet kokkuri",
		"flush map inet kokkuri redirect4",
		"delete element inet kokkuri redirect6net { 2001:db8:1:66:: . 22 }",
		"flush set inet kokkuri endpoint4",
		"flush chain inet kokkuri prerouting",
		"insert rule inet kokkuri prerouting accept",
		"add rule inet kokkuri postrouting drop",
		"add chain inet kokkuri mine",
		"add element inet kokkuri redirect4 { 203.0.113.20 . 22 timeout 1h : 198.51.100.20 . 20001 }",
		"delete element inet kokkuri redirect4 { 203.0.113.66 . 22 }; add element inet kokkuri redirect4 { 203.0.113.66 . 22 : 198.51.100.20 . 9 }",
	} {
		w.host.nft(destroy)
		eventually(t, time.Second, func() error {
			if now := unmarked(); now != whole {
				return fmt.Errorf("after %q: %s", destroy, now)
			}
			return nil
		})
	}
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
	assert.Equal(t, "node "+core6, w.attacker.meets("["+host6+"]:22"))
}

func TestSuccessorAdoptsWhatAKilledAgentLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	d, stop := w.start(o)
	a, b := redirectOf("a", attacker4+"/32", node4+":20001"), redirectOf("b", "203.0.113.99/32", node4+":20002")
	got, err := d.Set(t.Context(), desiredOf(a, b))
	requireActive(t, got, err)
	open, err := w.attacker.dial("", host4+":22")
	require.NoError(t, err)
	defer func() { _ = open.Close() }()
	before := w.table()
	stop() // nothing is taken back: as after a SIGKILL

	d, stop = w.start(o)
	got, err = d.Set(t.Context(), desiredOf(a, b))
	requireActive(t, got, err)
	assert.Equal(t, before, w.table(), "as before, none doubled or lost")
	require.NoError(t, open.alive(), "nothing is cut again")
	got, err = d.Set(t.Context(), desiredOf(a))
	requireActive(t, got, err)
	assert.NotContains(t, w.table(), "203.0.113.99", "orphans go")
	stop()
	require.NoError(t, Release(t.Context(), o))
	require.NoError(t, Release(t.Context(), o), "twice is once")
	assert.Empty(t, w.host.run("nft", "list", "ruleset"))
	assert.NoFileExists(t, w.dir+"/"+stateFile)
}

func TestSuccessorCutsWhatAKilledAgentDidNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	d, err := New(o) // Run is not called: killed before it cut
	require.NoError(t, err)
	open, err := w.attacker.dial("", host4+":22")
	require.NoError(t, err)
	defer func() { _ = open.Close() }()
	r := redirectOf("a", attacker4+"/32", node4+":20001")
	got, err := d.Put(t.Context(), []event.Redirect{r})
	requireActive(t, got, err)
	require.NoError(t, open.alive())
	d.Close()

	d, _ = w.start(o)
	got, err = d.Set(t.Context(), desiredOf(r))
	requireActive(t, got, err)
	_ = open.SetDeadline(time.Now().Add(patience))
	_, err = open.in.ReadByte()
	require.ErrorContains(t, err, "reset")
}

func TestElementsExpireWithoutAnAgentAndLiveWithOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	o := w.options()
	o.Lifetime, o.Renew, o.Tick = time.Second, 300*time.Millisecond, 50*time.Millisecond
	d, stop := w.start(o)
	got, err := d.Set(t.Context(), desiredOf(redirectOf("a", attacker4+"/32", node4+":20001")))
	requireActive(t, got, err)
	until := time.Now().Add(2500 * time.Millisecond)
	eventually(t, patience, func() error {
		require.Contains(t, w.table(), attacker4)
		if time.Now().Before(until) {
			return fmt.Errorf("until %s", until)
		}
		return nil
	})
	assert.NotContains(t, w.table(), "comment", "renewed without the mark of a fresh one")
	stop()
	eventually(t, 2*time.Second, func() error {
		if now := w.table(); strings.Contains(now, attacker4) || strings.Contains(now, node4) {
			return fmt.Errorf("still there: %s", now)
		}
		return nil
	})
	assert.Equal(t, "host "+attacker4, w.attacker.meets(host4+":22"))
}

func TestNoElementOutlivesItsRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	o := w.options()
	o.Tick, o.Idle = 50*time.Millisecond, 100*time.Millisecond
	d, _ := w.start(o)
	r := redirectOf("a", attacker4+"/32", node4+":20001")
	r.ExpiresAt = time.Now().Add(700 * time.Millisecond)
	got, err := d.Set(t.Context(), desiredOf(r))
	requireActive(t, got, err)
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
	// The kernel's clock ticks in hundredths of a second and this machine may be busy; a lifetime that ignored the end is minutes.
	eventually(t, time.Until(r.ExpiresAt)+2*time.Second, func() error {
		if w.attacker.meets(host4+":22") != "host "+attacker4 {
			return fmt.Errorf("still redirected at %s", time.Now())
		}
		return nil
	})
	eventually(t, patience, func() error { // then nothing of ours stays
		if all := w.host.run("nft", "list", "ruleset"); all != "" {
			return fmt.Errorf("left: %s", all)
		}
		return nil
	})
	got, err = d.Set(t.Context(), desiredOf(r))
	require.NoError(t, err)
	assert.Equal(t, event.Released, got[0].State)
	assert.Equal(t, "expired", got[0].Reason)
}

// TestManyAtOnce: while the kernel resizes its tables, its lists are not whole.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	d, _ := w.start(w.options())
	rs := many(20_000)
	got, err := d.Set(t.Context(), desiredOf(rs...))
	requireActive(t, got, err)
	for i := range rs {
		rs[i].Endpoint = netip.MustParseAddrPort(node4 + ":20002")
	}
	got, err = d.Set(t.Context(), desiredOf(rs...))
	requireActive(t, got, err)
	require.Len(t, got, len(rs))
	_, err = d.Set(t.Context(), desiredOf(rs[:1]...))
	require.NoError(t, err)
	eventually(t, patience, func() error {
		c, err := d.table.read()
		require.NoError(t, err)
		if len(c.redirects) != 1 {
			return fmt.Errorf("%d elements", len(c.redirects))
		}
		return nil
	})
	assert.Equal(t, 1, strings.Count(w.table(), ": 198.51.100.20 . 20002"))
}

func TestRemoveAndChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	d, _ := w.start(w.options())
	r := redirectOf("a", attacker4+"/32", node4+":20001")
	got, err := d.Put(t.Context(), []event.Redirect{r, redirectOf("b", "203.0.113.99/32", node4+":20001")})
	requireActive(t, got, err)
	r.Endpoint = netip.MustParseAddrPort(node4 + ":20002")
	got, err = d.Put(t.Context(), []event.Redirect{r})
	requireActive(t, got, err)
	assert.Contains(t, w.table(), "203.0.113.66 . 22 timeout X expires X comment \"new\" : 198.51.100.20 . 20002")
	require.NoError(t, d.Remove(t.Context(), []string{"a", "no such"}))
	assert.Equal(t, "host "+attacker4, w.attacker.meets(host4+":22"))
	assert.Contains(t, w.table(), "203.0.113.99")
	require.NoError(t, d.Remove(t.Context(), []string{"b"}))
	assert.NotContains(t, w.table(), "203.0.113.99")
}

func TestOneRefusedRedirectDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t).routed()
	d, _ := w.start(w.options())
	older := redirectOf("older", attacker4+"/32", node4+":20002")
	older.CreatedAt = older.CreatedAt.Add(-time.Hour)
	wide := redirectOf("wide", "203.0.113.0/24", node4+":20001")
	nowhere := redirectOf("nowhere", "203.0.113.99/32", "192.0.2.1:20001")
	released := redirectOf("released", "203.0.113.98/32", node4+":20001")
	released.State = event.Released
	got, err := d.Set(t.Context(), desiredOf(redirectOf("good", attacker4+"/32", node4+":20001"), older, wide, nowhere, released))
	require.NoError(t, err)
	states := map[string]event.Applied{}
	for _, a := range got {
		states[a.ID] = a
	}
	assert.Equal(t, event.Active, states["good"].State)
	assert.Equal(t, event.Refused, states["older"].State)
	assert.Contains(t, states["older"].Reason, "good of the same source and port is newer")
	assert.Equal(t, event.Refused, states["wide"].State)
	assert.Equal(t, event.Refused, states["nowhere"].State)
	assert.Contains(t, states["nowhere"].Reason, "no route to endpoint 192.0.2.1: network is unreachable; mend: ")
	assert.Equal(t, event.Released, states["released"].State)
	assert.Equal(t, "node "+core4, w.attacker.meets(host4+":22"))
	require.NotEmpty(t, d.Findings())
	assert.Contains(t, d.Findings()[0].Text, "no route")
	addrs, err := d.Addresses()
	require.NoError(t, err)
	assert.Contains(t, addrs, netip.MustParseAddr(host4))
	assert.Contains(t, addrs, netip.MustParseAddr(core6))
	assert.NotContains(t, addrs, netip.MustParseAddr("127.0.0.1"))

	// A route appears: the next look takes it.
	w.host.route("192.0.2.0/24", node4)
	eventually(t, patience, func() error {
		got, err := d.Set(t.Context(), desiredOf(nowhere))
		if err != nil || got[0].State != event.Active {
			return fmt.Errorf("%v %w", got, err)
		}
		return nil
	})
}
