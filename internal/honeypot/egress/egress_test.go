package egress_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startPot(t *testing.T, d *engine.Docker, n *egress.Net, index int) (string, egress.Port) {
	t.Helper()
	name := fmt.Sprintf("%s-%d", pottest.Name(t, "kktest"), index)
	id, err := d.Create(t.Context(), engine.Spec{
		Name: name, Image: pottest.Image, Hostname: "web", Index: index, Resolver: n.Gateway(),
	})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context(), id))
	c, found, err := d.Inspect(t.Context(), id)
	require.NoError(t, err)
	require.True(t, found)
	port := egress.Port{Pot: name, Run: c.Run, Index: index, PID: c.PID}
	require.NoError(t, n.Wire(port))
	return id, port
}

func banner(ctx context.Context, n *egress.Net, addr netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := n.Dial(ctx, netip.AddrPortFrom(addr, 22))
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // a test's connection
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	return line, err
}

func eventuallyBanner(t *testing.T, n *egress.Net, addr netip.Addr) {
	t.Helper()
	require.Eventually(t, func() bool {
		line, err := banner(t.Context(), n, addr)
		return err == nil && strings.HasPrefix(line, "SSH-2.0-OpenSSH")
	}, time.Minute, 50*time.Millisecond)
}

func TestPotIsReachedAndReachesNothing(t *testing.T) {
	d := pottest.Engine(t, "egress-test-1")
	n, ns := pottest.Net(t)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { n.Run(ctx); close(ran) }()
	defer func() { stop(); <-ran }()

	a, _ := startPot(t, d, n, 0)
	b, _ := startPot(t, d, n, 1)
	eventuallyBanner(t, n, n.Address(0))
	eventuallyBanner(t, n, n.Address(1))

	out, err := pottest.InPot(t, a, "ip -br addr; ip route; ip -6 route; cat /etc/resolv.conf; cat /proc/sys/net/ipv6/conf/all/disable_ipv6")
	require.NoError(t, err)
	assert.Contains(t, out, "eth0")
	assert.NotContains(t, out, "02:42")
	assert.Contains(t, out, "default via "+n.Gateway().String()+" dev eth0")
	assert.Contains(t, out, "default via fd12:3456:789a::1 dev eth0")
	assert.Contains(t, out, "nameserver "+n.Gateway().String())

	// What a pot may try: the node by every address it has, other pots, the outside.
	l, err := net.Listen("tcp", "[::]:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test's listener
	port := l.Addr().(*net.TCPAddr).Port
	targets := []string{
		fmt.Sprintf("%s %d", n.Gateway(), port),
		fmt.Sprintf("%s 22", n.Address(1)),
		"fd12:3456:789a::b 22", "1.1.1.1 53", "2606:4700:4700::1111 53",
	}
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, ad := range addrs {
		if p := netip.MustParsePrefix(ad.String()); !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			targets = append(targets, fmt.Sprintf("%s %d", p.Addr(), port))
		}
	}
	tryAll := func() {
		t.Helper()
		var script strings.Builder
		for _, target := range targets {
			fmt.Fprintf(&script, "busybox timeout 1 busybox nc %s </dev/null >/dev/null 2>&1 && echo reached %s &\n", target, target)
			host, _, _ := strings.Cut(target, " ")
			fmt.Fprintf(&script, "ping -c1 -W1 %s >/dev/null 2>&1 && echo pinged %s &\n", host, host)
		}
		script.WriteString("wait; echo done")
		out, err := pottest.InPot(t, a, script.String())
		require.NoError(t, err, out)
		assert.Equal(t, "done\n", out)
	}
	tryAll()
	eventuallyBanner(t, n, n.Address(1))

	// With the namespace's rules flushed there is still no way out, and they come back.
	require.NoError(t, exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, "nft", "flush", "ruleset").Run())
	tryAll()
	require.Eventually(t, func() bool {
		out, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, "nft", "list", "table", "inet", "kokkuri_pots").Output()
		return err == nil && strings.Contains(string(out), "policy drop")
	}, time.Minute, 20*time.Millisecond)
	tryAll()
	_ = b
}

func TestToolsOfPotCanFail(t *testing.T) {
	// The same commands reach what there is to reach: a pot's own server.
	d := pottest.Engine(t, "egress-test-2")
	n, _ := pottest.Net(t)
	a, _ := startPot(t, d, n, 0)
	eventuallyBanner(t, n, n.Address(0))
	out, err := pottest.InPot(t, a, fmt.Sprintf("busybox timeout 20 busybox nc %s 22 </dev/null >/dev/null 2>&1 && echo reached; ping -c1 -W20 %s >/dev/null 2>&1 && echo pinged", n.Address(0), n.Address(0)))
	require.NoError(t, err, out)
	assert.Equal(t, "reached\npinged\n", out)
}

func TestPotsCannotTakeEachOthersAddress(t *testing.T) {
	d := pottest.Engine(t, "egress-test-3")
	n, ns := pottest.Net(t)
	startPot(t, d, n, 0)
	startPot(t, d, n, 1)
	for _, q := range []string{"neigh", "link"} {
		out, err := exec.CommandContext(t.Context(), "ip", "-n", ns, "-d", q, "show").CombinedOutput()
		require.NoError(t, err, string(out))
		switch q {
		case "neigh":
			assert.Equal(t, 4, strings.Count(string(out), "PERMANENT"), string(out))
		case "link":
			assert.Equal(t, 2, strings.Count(string(out), "isolated on"), string(out))
			assert.Equal(t, 2, strings.Count(string(out), "learning off"), string(out))
		}
	}
}

func TestRestartedPotIsWiredAgain(t *testing.T) {
	d := pottest.Engine(t, "egress-test-4")
	n, ns := pottest.Net(t)
	id, port := startPot(t, d, n, 0)
	eventuallyBanner(t, n, n.Address(0))
	wired, err := n.Wired(port)
	require.NoError(t, err)
	require.True(t, wired)

	require.NoError(t, exec.CommandContext(t.Context(), "docker", "restart", "-t", "0", id).Run())
	require.Eventually(t, func() bool {
		wired, err := n.Wired(port)
		return err == nil && !wired
	}, time.Minute, 20*time.Millisecond)
	c, found, err := d.Inspect(t.Context(), id)
	require.NoError(t, err)
	require.True(t, found)
	port.Run, port.PID = c.Run, c.PID
	require.NoError(t, n.Wire(port))
	eventuallyBanner(t, n, n.Address(0))

	require.NoError(t, n.Wire(port), "again, without a restart")
	eventuallyBanner(t, n, n.Address(0))
	out, err := exec.CommandContext(t.Context(), "ip", "-n", ns, "-br", "link", "show", "type", "veth").Output()
	require.NoError(t, err)
	assert.Len(t, strings.Split(strings.TrimSpace(string(out)), "\n"), 1, string(out))

	require.NoError(t, n.Sweep(func(string) bool { return false }))
	wired, err = n.Wired(port)
	require.NoError(t, err)
	assert.False(t, wired)
}

func TestMachineItselfIsNeverWired(t *testing.T) {
	n, _ := pottest.Net(t)
	err := n.Wire(egress.Port{Pot: "me", Run: "1", Index: 0, PID: os.Getpid()})
	require.ErrorContains(t, err, "not in a network namespace of its own")
	err = n.Wire(egress.Port{Pot: "me", Run: "1", Index: n.Capacity(), PID: os.Getpid()})
	require.ErrorContains(t, err, "out of the network")
}

func TestOpenTwiceAdopts(t *testing.T) {
	d := pottest.Engine(t, "egress-test-5")
	n, name := pottest.Net(t)
	_, port := startPot(t, d, n, 3)
	again, err := egress.Open(egress.Options{Name: name, Subnet6: pottest.Subnet6()})
	require.NoError(t, err)
	wired, err := again.Wired(port)
	require.NoError(t, err)
	assert.True(t, wired)
	eventuallyBanner(t, again, again.Address(3))
	require.NoError(t, again.Close())
}

func TestDialOnlyPots(t *testing.T) {
	n, _ := pottest.Net(t)
	_, err := n.Dial(t.Context(), netip.MustParseAddrPort("192.0.2.1:22"))
	require.ErrorContains(t, err, "not an address of a pot")
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := egress.Open(egress.Options{Name: "kk-never", Subnet: netip.MustParsePrefix("10.0.0.0/30"), Subnet6: netip.MustParsePrefix("fd00::/64")})
	require.ErrorContains(t, err, "/8 to /28")
	_, err = egress.Open(egress.Options{Name: "kk-never"})
	require.ErrorContains(t, err, "IPv6 /64")
}
