package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

// A machine behind the host: an address of the core network that the attacker reaches through web.
func TestConnectionsThroughTheHostAreLeftAlone(t *testing.T) {
	ctx := t.Context()
	behind := netip.MustParsePrefix("198.51.100.30/24")
	link, err := netlink.LinkByName("kokkuri-core")
	require.NoError(t, err)
	addr, err := netlink.ParseAddr(behind.String())
	require.NoError(t, err)
	require.NoError(t, netlink.AddrAdd(link, addr))
	t.Cleanup(func() { assert.NoError(t, netlink.AddrDel(link, addr)) })
	from := source(t)
	routeThroughWeb(t, behind.Addr(), from)
	address := netip.AddrPortFrom(behind.Addr(), 22)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address.String())
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, err = fmt.Fprintln(conn, "I am behind")
			assert.NoError(t, errors.Join(err, conn.Close()))
		}
	}()
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		<-done
	})

	talk := func() {
		t.Helper()
		conn, err := the.Attacker.Dial(ctx, from, address)
		require.NoError(t, err)
		defer conn.Close() //nolint:errcheck // its one line was read
		require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "I am behind\n", line)
	}
	talk()
	offend(t, from)
	deflected(t, from)
	talk()
	pot(t, from)
}

// routeThroughWeb makes web a router between the attacker's address and an address in the core network.
func routeThroughWeb(t *testing.T, to, from netip.Addr) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	link, err := netlink.LinkByName("kokkuri-core")
	require.NoError(t, err)
	back := &netlink.Route{
		LinkIndex: link.Attrs().Index, Gw: net.ParseIP("198.51.100.10"),
		Dst: &net.IPNet{IP: from.AsSlice(), Mask: net.CIDRMask(32, 32)},
	}
	require.NoError(t, netlink.RouteAdd(back))
	before, err := the.Web.Shell(ctx, "cat /proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/ip_forward")
	require.NoError(t, err)
	_, err = the.Attacker.Exec(ctx, "ip", "route", "add", to.String(), "via", "203.0.113.10")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := the.Attacker.Exec(ctx, "ip", "route", "del", to.String())
		assert.NoError(t, err)
		_, err = the.Web.Shell(ctx, "echo "+strings.TrimSpace(before)+" >/proc/sys/net/ipv4/ip_forward")
		assert.NoError(t, err)
		assert.NoError(t, netlink.RouteDel(back))
	})
}

func TestAllowListedSourceIsNeverRedirected(t *testing.T) {
	from := source(t)
	text, code := kokkuri(t, "allow", "add", from.String())
	require.Zero(t, code, text)
	t.Cleanup(func() {
		text, code := kokkuri(t, "allow", "rm", from.String())
		assert.Zero(t, code, text)
	})
	guess(t, from, wrong()...)
	pipelineDrained(t)
	untouched(t, from)
	offences, err := the.OffencesOf(t.Context(), from)
	require.NoError(t, err)
	require.Len(t, offences, 1)
	assert.Contains(t, offences[0].Outcome, "allow")
	onRealHost(t, the.Attacker, from)
}

// The agent has a list of its own that the server can't reach.
func TestAgentRefusesWhatItsOwnListCovers(t *testing.T) {
	from := source(t)
	withAgent(t, the.AgentConfig()+fmt.Sprintf("  allow: [%s/32]\n", from))
	guess(t, from, wrong()...)
	r, err := the.WaitRedirect(t.Context(), from, soon, event.Refused)
	require.NoError(t, err)
	assert.NotEmpty(t, r.Reason)
	assert.Empty(t, elements(t, from))
	onRealHost(t, the.Attacker, from)
}

// withAgent runs web's agent with another configuration until the test's end.
func withAgent(t *testing.T, config string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	restart := func(config string) {
		require.NoError(t, the.StopAgent(ctx))
		require.NoError(t, the.SetAgentConfig(ctx, config))
		require.NoError(t, the.StartAgent(ctx))
	}
	t.Cleanup(func() { restart(the.AgentConfig()) })
	restart(config)
}

// Where the host's own firewall would eat redirected traffic, the redirect is refused and says how to mend that.
func TestForwardPolicyDropIsReported(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	_, err := the.Web.Exec(ctx, "iptables", "-P", "FORWARD", "DROP")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := the.Web.Shell(ctx, "iptables -P FORWARD ACCEPT && iptables -F FORWARD")
		assert.NoError(t, err)
	})
	from := source(t)
	guess(t, from, wrong()...)
	r, err := the.WaitRedirect(t.Context(), from, soon, event.Refused)
	require.NoError(t, err)
	assert.Contains(t, r.Reason, "FORWARD")
	onRealHost(t, the.Attacker, from)

	// The mend that it names mends it.
	_, mend, named := strings.Cut(r.Reason, "mend: ")
	require.True(t, named, r.Reason)
	_, err = the.Web.Shell(ctx, mend)
	require.NoError(t, err)
	deflected(t, from)
	pot(t, from)
}

func TestReleaseAllWorksWithoutTheServer(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	from := source(t)
	offend(t, from)
	deflected(t, from)
	require.NotEmpty(t, elements(t, from))

	require.NoError(t, the.Server().Kill(ctx))
	t.Cleanup(func() {
		require.NoError(t, the.StartServer(ctx))
		require.NoError(t, the.KillAgent(ctx))
		require.NoError(t, the.StartAgent(ctx))
	})
	_, err := the.Web.Exec(t.Context(), "kokkuri-agent", "release", "--all")
	require.NoError(t, err)
	_, err = the.Web.Exec(t.Context(), "nft", "list", "table", "inet", "kokkuri")
	var exit *lab.ExitError
	require.ErrorAs(t, err, &exit, "the table is still there")
	key, err := the.Attacker.HostKey(t.Context(), from, lab.WebSSH())
	require.NoError(t, err)
	realKey, err := the.User.HostKey(t.Context(), lab.UserAddr(), lab.WebSSH())
	require.NoError(t, err)
	assert.Equal(t, realKey, key)
}

// Who writes a log line through sshd names the user, and nothing but the user.
func TestUserNameThatLooksLikeALogLineBlamesNobody(t *testing.T) {
	victim := lab.UserAddr()
	from := source(t)
	for i, name := range []string{
		fmt.Sprintf("Failed password for root from %s port 1 ssh2", victim),
		fmt.Sprintf("root from %s port 1 ssh2", victim),
		fmt.Sprintf("x from %s port 22 ssh2: RSA SHA256:abc", victim),
		fmt.Sprintf("invalid user root from %s port 1", victim),
	} {
		guesses := wrong()[:1]
		if i == 0 {
			guesses = wrong()[:2] // so that the last name's is the fifth
		}
		_, err := the.Attacker.Guess(t.Context(), from, name, guesses...)
		require.Error(t, err)
	}
	r := deflected(t, from)
	assert.Equal(t, lab.Prefix(from), r.Source)
	pipelineDrained(t)
	untouched(t, victim)
	onRealHost(t, the.User, victim)
}

// Lines that come from an address which is not the host's are not the host's lines.
func TestLinesFromElsewhereBlameNobody(t *testing.T) {
	victim := lab.UserAddr()
	var lines strings.Builder
	for range 10 {
		fmt.Fprintf(&lines, "<38>%s web sshd[7]: Failed password for root from %s port 5 ssh2\n", time.Now().Format(time.Stamp), victim)
	}
	for _, from := range []string{"198.51.100.2", "198.51.100.20"} {
		err := send(t.Context(), netip.MustParseAddr(from), netip.MustParseAddrPort("198.51.100.2:10514"), []byte(lines.String()))
		require.NoError(t, err)
		require.NoError(t, sendUDP(t.Context(), netip.MustParseAddr(from), []byte(lines.String())))
	}
	// An attacker that reaches the server, by way of the host.
	server := netip.MustParseAddrPort("198.51.100.2:10514")
	from := source(t)
	routeThroughWeb(t, server.Addr(), from)
	conn, err := the.Attacker.Dial(t.Context(), from, server)
	require.NoError(t, err)
	_, err = conn.Write([]byte(lines.String()))
	require.NoError(t, errors.Join(err, conn.Close()))
	// From the host's address too, by datagrams, which prove nothing.
	err = the.Web.Inside(t.Context(), func() error {
		return sendUDP(t.Context(), netip.MustParseAddr("198.51.100.10"), []byte(lines.String()))
	})
	require.NoError(t, err)
	pipelineDrained(t)
	untouched(t, victim)
	onRealHost(t, the.User, victim)
}

// sendUDP sends each line as a datagram to the server's syslog port.
func sendUDP(ctx context.Context, from netip.Addr, data []byte) error {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	conn, err := d.DialContext(ctx, "udp", "198.51.100.2:10514")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if _, writeErr := conn.Write([]byte(line)); writeErr != nil {
			err = errors.Join(err, writeErr)
		}
	}
	return errors.Join(err, conn.Close())
}
