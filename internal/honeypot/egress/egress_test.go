package egress_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
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

	"github.com/kokkuri/kokkuri/images"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const image = "kokkuri/ssh:test"

func newEngine(t *testing.T, node string) *engine.Docker {
	t.Helper()
	d, err := engine.New(engine.Options{Node: node})
	require.NoError(t, err)
	t.Cleanup(func() {
		pots, err := d.List(context.Background())
		assert.NoError(t, err)
		for _, p := range pots {
			assert.NoError(t, d.Remove(context.Background(), p.ID))
		}
		assert.NoError(t, d.Close())
	})
	base, err := d.EnsureBase(t.Context(), t.Output())
	require.NoError(t, err)
	files, err := fs.Sub(images.Files, "ssh")
	require.NoError(t, err)
	require.NoError(t, d.BuildImage(t.Context(), image, files, map[string]string{"BASE": base}, t.Output()))
	return d
}

func openNet(t *testing.T) (*egress.Net, string) {
	t.Helper()
	name := fmt.Sprintf("kkpots-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	n, err := egress.Open(egress.Options{Name: name, Subnet6: netip.MustParsePrefix("fd12:3456:789a::/64")})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, n.Close())
		assert.NoError(t, egress.Remove(name))
		assert.NoFileExists(t, "/run/netns/"+name)
	})
	return n, name
}

func startPot(t *testing.T, d *engine.Docker, n *egress.Net, index int) (string, egress.Port) {
	t.Helper()
	name := fmt.Sprintf("kktest-%d-%s-%d", os.Getpid(), strings.ToLower(t.Name()), index)
	id, err := d.Create(t.Context(), engine.Spec{
		Name: name, Image: image, Hostname: "web", Host: "web",
		Attacker: netip.MustParsePrefix("203.0.113.66/32"), Index: index, Resolver: n.Gateway(),
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

// inPot runs a shell command in a pot and gives what it printed.
func inPot(t *testing.T, id, script string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", "exec", id, "sh", "-c", script).CombinedOutput()
	return string(out), err
}

func banner(ctx context.Context, n *egress.Net, addr netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := n.Dial(ctx, netip.AddrPortFrom(addr, 22))
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // a test's connection
	_ = c.SetDeadline(time.Now().Add(time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	return line, err
}

func eventuallyBanner(t *testing.T, n *egress.Net, addr netip.Addr) {
	t.Helper()
	require.Eventually(t, func() bool {
		line, err := banner(t.Context(), n, addr)
		return err == nil && strings.HasPrefix(line, "SSH-2.0-OpenSSH")
	}, 20*time.Second, 50*time.Millisecond)
}

func TestPotIsReachedAndReachesNothing(t *testing.T) {
	d := newEngine(t, "egress-test-1")
	n, ns := openNet(t)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { n.Run(ctx); close(ran) }()
	defer func() { stop(); <-ran }()

	a, _ := startPot(t, d, n, 0)
	b, _ := startPot(t, d, n, 1)
	eventuallyBanner(t, n, n.Address(0))
	eventuallyBanner(t, n, n.Address(1))

	out, err := inPot(t, a, "ip -br addr; ip route; ip -6 route; cat /etc/resolv.conf; cat /proc/sys/net/ipv6/conf/all/disable_ipv6")
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
		out, err := inPot(t, a, script.String())
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
	}, time.Second, 20*time.Millisecond)
	tryAll()
	_ = b
}

func TestToolsOfPotCanFail(t *testing.T) {
	// The same commands reach what there is to reach: a pot's own server.
	d := newEngine(t, "egress-test-2")
	n, _ := openNet(t)
	a, _ := startPot(t, d, n, 0)
	eventuallyBanner(t, n, n.Address(0))
	out, err := inPot(t, a, fmt.Sprintf("busybox timeout 1 busybox nc %s 22 </dev/null >/dev/null 2>&1 && echo reached; ping -c1 -W1 %s >/dev/null 2>&1 && echo pinged", n.Address(0), n.Address(0)))
	require.NoError(t, err, out)
	assert.Equal(t, "reached\npinged\n", out)
}

func TestPotsCannotTakeEachOthersAddress(t *testing.T) {
	d := newEngine(t, "egress-test-3")
	n, ns := openNet(t)
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
	d := newEngine(t, "egress-test-4")
	n, ns := openNet(t)
	id, port := startPot(t, d, n, 0)
	eventuallyBanner(t, n, n.Address(0))
	wired, err := n.Wired(port)
	require.NoError(t, err)
	require.True(t, wired)

	require.NoError(t, exec.CommandContext(t.Context(), "docker", "restart", "-t", "0", id).Run())
	require.Eventually(t, func() bool {
		wired, err := n.Wired(port)
		return err == nil && !wired
	}, 10*time.Second, 20*time.Millisecond)
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
	n, _ := openNet(t)
	err := n.Wire(egress.Port{Pot: "me", Run: "1", Index: 0, PID: os.Getpid()})
	require.ErrorContains(t, err, "not in a network namespace of its own")
	err = n.Wire(egress.Port{Pot: "me", Run: "1", Index: n.Capacity(), PID: os.Getpid()})
	require.ErrorContains(t, err, "out of the network")
}

func TestOpenTwiceAdopts(t *testing.T) {
	d := newEngine(t, "egress-test-5")
	n, name := openNet(t)
	_, port := startPot(t, d, n, 3)
	again, err := egress.Open(egress.Options{Name: name, Subnet6: netip.MustParsePrefix("fd12:3456:789a::/64")})
	require.NoError(t, err)
	wired, err := again.Wired(port)
	require.NoError(t, err)
	assert.True(t, wired)
	eventuallyBanner(t, again, again.Address(3))
	require.NoError(t, again.Close())
}

func TestDialOnlyPots(t *testing.T) {
	n, _ := openNet(t)
	_, err := n.Dial(t.Context(), netip.MustParseAddrPort("192.0.2.1:22"))
	require.ErrorContains(t, err, "not an address of a pot")
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := egress.Open(egress.Options{Name: "kk-never", Subnet: netip.MustParsePrefix("10.0.0.0/30"), Subnet6: netip.MustParsePrefix("fd00::/64")})
	require.ErrorContains(t, err, "/8 to /28")
	_, err = egress.Open(egress.Options{Name: "kk-never"})
	require.ErrorContains(t, err, "IPv6 /64")
}
