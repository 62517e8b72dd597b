package honeypot_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func TestMain(m *testing.M) {
	if os.Getenv("KOKKURI_TEST_NODE") != "" {
		os.Exit(childNode())
	}
	goleak.VerifyTestMain(m)
}

func TestAttackersHavePotsOfTheirOwn(t *testing.T) {
	f := newFixture(t)
	n, stop := f.run(t)
	one, two := f.grant(t, "203.0.113.66/32"), f.grant(t, "2001:db8:1:66::/64")
	assert.Equal(t, "198.51.100.20", one.Endpoint.Addr().String())
	assert.Equal(t, "2001:db8:2::20", two.Endpoint.Addr().String())

	out, err := f.shell(t.Context(), one.Endpoint, "hostname; whoami; echo mine > /root/mine; cat /root/mine")
	require.NoError(t, err, out)
	assert.Equal(t, "web\nroot\nmine\n", out)
	out, err = f.shell(t.Context(), two.Endpoint, "cat /root/mine; ps ax | grep -c '[s]shd:'")
	require.NoError(t, err, out)
	assert.Contains(t, out, "No such file")
	_, err = f.login(t.Context(), one.Endpoint, "wrong")
	require.ErrorContains(t, err, "unable to authenticate")

	require.Eventually(t, func() bool { return len(f.bus.ended()) == 3 }, time.Minute, 10*time.Millisecond)
	for _, s := range f.bus.ended() {
		assert.Equal(t, f.opts.Name, s.Node)
		assert.Positive(t, s.BytesIn)
		assert.Positive(t, s.BytesOut)
		assert.Equal(t, s.Account == "", s.PotID == "", "a pot for who got in, and nobody else")
		assert.Equal(t, 2, min(s.Guesses, 2))
		assert.FileExists(t, filepath.Join(f.opts.StateDir, "evidence", s.Recording[:2], s.Recording))
		assert.Empty(t, must(filepath.Glob(filepath.Join(f.opts.StateDir, "recordings", s.ID+"*"))))
	}
	require.Eventually(t, func() bool {
		f.bus.mu.Lock()
		defer f.bus.mu.Unlock()
		return len(f.bus.status.Pots) == 2 && len(f.bus.status.Services) == 1
	}, time.Minute, 10*time.Millisecond)
	assert.Empty(t, f.bus.status.Findings)
	assert.Equal(t, []event.Service{event.SSH}, f.bus.status.Services)
	assert.Equal(t, f.opts.Advertise, f.bus.status.Addresses)
	assert.Equal(t, uint64(3), n.Stats().Front.Accepted)

	// The node stops: nothing is exposed, the pots stay. It starts: lease, pot and files are as before.
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = f.dial(ctx, one.Endpoint)
	require.Error(t, err)
	assert.Empty(t, pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "list", "ruleset"))
	n, _ = f.run(t)
	out, err = f.shell(t.Context(), one.Endpoint, "cat /root/mine")
	require.NoError(t, err, out)
	assert.Equal(t, "mine\n", out)
	assert.Zero(t, n.Stats().Pots.Created, "no pot had to be made")
	assert.Equal(t, one.ID, f.grant(t, "203.0.113.66/32").ID)

	// Its lease ends: its session is cut, its pot goes; the other's stays.
	c, err := f.login(t.Context(), one.Endpoint, "123456")
	require.NoError(t, err)
	f.release(t, one)
	require.Error(t, c.Wait())
	require.Eventually(t, func() bool { return n.Stats().PotsHeld == 1 }, time.Minute, 10*time.Millisecond)
	_, err = f.shell(t.Context(), two.Endpoint, "true")
	require.NoError(t, err)
	reply := f.bus.request(t.Context(), event.LeaseRequest{Op: "dance"})
	assert.Contains(t, reply.Error, "grant or release")
}

// What an sshd does with a signal, the pot's does: it reaches what an account runs (not what root runs, to which
// no sshd sends any).
func TestSignalsReachWhatRuns(t *testing.T) {
	f := newFixture(t)
	_, _ = f.run(t)
	lease := f.grant(t, "203.0.113.66/32")
	c, err := f.loginAs(t.Context(), lease.Endpoint, "admin", "123456")
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // a test's connection
	for signal, want := range map[ssh.Signal]string{ssh.SIGUSR1: "USR1", ssh.SIGHUP: "HUP", ssh.SIGINT: "INT", ssh.SIGTERM: "TERM"} {
		s, err := c.NewSession()
		require.NoError(t, err)
		out, err := s.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, s.Start(`trap 'echo got `+want+`; exit 7' `+want+`; id -un; while :; do sleep 0.05; done`))
		lines := bufio.NewReader(out)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "admin\n", line)
		require.NoError(t, s.Signal(signal))
		line, err = lines.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "got "+want+"\n", line)
		var exit *ssh.ExitError
		require.ErrorAs(t, s.Wait(), &exit)
		assert.Equal(t, 7, exit.ExitStatus())
	}
	// One that nothing catches ends it, and that is what the client hears.
	s, err := c.NewSession()
	require.NoError(t, err)
	out, err := s.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.Start("echo ready; exec sleep 60"))
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, s.Signal(ssh.SIGKILL))
	var exit *ssh.ExitError
	require.ErrorAs(t, s.Wait(), &exit)
	assert.Equal(t, "KILL", exit.Signal())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestFiftyAttackersAtOnce(t *testing.T) {
	f := newFixture(t)
	f.opts.MaxPots = 64
	n, _ := f.run(t)
	const count = 50
	leases := make([]event.Lease, count)
	for i := range leases {
		leases[i] = f.grant(t, fmt.Sprintf("203.0.113.%d/32", i+1))
	}
	start := time.Now()
	var wg sync.WaitGroup
	banners := make([]string, count)
	for i, l := range leases {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			conn, err := f.dial(ctx, l.Endpoint)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close() //nolint:errcheck // a test's connection
			_ = conn.SetDeadline(time.Now().Add(3 * time.Minute))
			buf := make([]byte, 64)
			k, err := conn.Read(buf)
			if err != nil {
				t.Errorf("attacker %d: %v", i, err)
			}
			banners[i] = string(buf[:k])
		})
	}
	wg.Wait()
	t.Logf("%d attackers had an answer after %s", count, time.Since(start).Round(time.Millisecond))
	for _, b := range banners {
		assert.True(t, strings.HasPrefix(b, "SSH-2.0-OpenSSH"), b)
	}
	assert.Zero(t, n.Stats().Pots.Created, "nobody has a pot who has not got in")
	assert.Zero(t, n.Stats().PotsHeld)
	for i, l := range leases[:10] {
		wg.Go(func() {
			out, err := f.shell(t.Context(), l.Endpoint, "echo in")
			if assert.NoError(t, err, "attacker %d", i) {
				assert.Equal(t, "in\n", out)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 10, n.Stats().PotsHeld)
}

func TestTwoAttackersCannotReachEachOther(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	one, two := f.grant(t, "203.0.113.66/32"), f.grant(t, "203.0.113.67/32")
	address := func(l event.Lease) string {
		out, err := f.shell(t.Context(), l.Endpoint, "hostname -I")
		require.NoError(t, err, out)
		return out
	}
	_ = address(one)
	var tries strings.Builder
	tries.WriteString("exec 2>/dev/null; ")
	for a := range strings.FieldsSeq(address(two)) {
		fmt.Fprintf(&tries, "ping -c1 -W1 %s >/dev/null 2>&1 && echo pinged; busybox timeout 1 busybox nc %s 22 </dev/null >/dev/null 2>&1 && echo reached; ", a, a)
	}
	elsewhere := []string{"198.51.100.20", "198.51.100.10", "192.0.2.2"}
	for _, a := range elsewhere {
		fmt.Fprintf(&tries, "ping -c1 -W1 %s >/dev/null 2>&1; ", a)
	}
	tries.WriteString("echo done")
	out, err := f.shell(t.Context(), one.Endpoint, tries.String())
	require.NoError(t, err, out)
	assert.Equal(t, "done\n", out)
	// What answers for the rest of the world is the sinkhole.
	require.Eventually(t, func() bool {
		pinged := map[string]bool{}
		for _, s := range f.bus.ended() {
			for _, e := range f.bus.left(s.ID) {
				if e.Egress != nil && e.Egress.What == "ping" {
					pinged[e.Egress.Destination.Addr().String()] = true
				}
			}
		}
		return !slices.ContainsFunc(elsewhere, func(a string) bool { return !pinged[a] })
	}, time.Minute, 50*time.Millisecond)
}

func TestServerThatIsAway(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	f.bus.mu.Lock()
	f.bus.away = true
	f.bus.mu.Unlock()
	out, err := f.shell(t.Context(), l.Endpoint, "echo still here")
	require.NoError(t, err, out)
	assert.Empty(t, f.bus.ended())
	f.bus.mu.Lock()
	f.bus.away = false
	f.bus.mu.Unlock()
	require.Eventually(t, func() bool { return len(f.bus.ended()) == 1 }, time.Minute, 10*time.Millisecond)
}

func TestServersLeasesAreFollowed(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	stop()
	require.NoError(t, os.RemoveAll(f.opts.StateDir))
	n, _ := f.run(t)
	require.Eventually(t, func() bool { return n.Stats().Leases == 1 }, time.Minute, 10*time.Millisecond)
	out, err := f.shell(t.Context(), l.Endpoint, "echo here")
	require.NoError(t, err, out)
}

func TestEngineThatIsDownIsAFinding(t *testing.T) {
	f := newFixture(t)
	proxy := pottest.NewProxy(t)
	f.opts.Engine = proxy.Host()
	proxy.Down()
	n, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	_, err := f.shell(t.Context(), l.Endpoint, "true")
	require.Error(t, err)
	require.Eventually(t, func() bool { return len(f.bus.ended()) > 0 }, time.Minute, 10*time.Millisecond)
	assert.Contains(t, f.bus.ended()[0].Reason, "cannot reach the Docker engine")
	require.Eventually(t, func() bool {
		f.bus.mu.Lock()
		defer f.bus.mu.Unlock()
		return slices.ContainsFunc(f.bus.status.Findings, func(x event.Finding) bool {
			return x.Subject == "engine" && strings.Contains(x.Mend, "systemctl start docker")
		})
	}, time.Minute, 10*time.Millisecond)
	proxy.Up(t)
	require.Eventually(t, func() bool { return len(n.Findings()) == 0 }, 60*time.Second, 50*time.Millisecond)
	_, err = f.shell(t.Context(), l.Endpoint, "true")
	require.NoError(t, err)
	stop()
	f.opts.Engine = ""
}

func TestOptionsAreChecked(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		change func(*honeypot.Options)
		want   string
	}{
		"name":      {func(o *honeypot.Options) { o.Name = "No Good" }, "node name"},
		"state":     {func(o *honeypot.Options) { o.StateDir = "" }, "state folder"},
		"ephemeral": {func(o *honeypot.Options) { o.Ports = pool.Ports{First: 30000, Last: 40000} }, "ip_local_port_range"},
		"addresses": {func(o *honeypot.Options) { o.Advertise = nil }, "endpoint addresses"},
		"subnet":    {func(o *honeypot.Options) { o.Subnet = netip.MustParsePrefix("10.0.0.0/31") }, "/8 to /28"},
		"engine":    {func(o *honeypot.Options) { o.Engine = "nonsense" }, "engine address"},
	} {
		o := f.opts
		c.change(&o)
		n, err := honeypot.New(o)
		if err == nil {
			err = n.Run(t.Context())
		}
		require.ErrorContains(t, err, c.want, name)
	}

	l, err := f.Node.ListenTCP(netip.MustParseAddrPort("198.51.100.20:25565"))
	require.NoError(t, err)
	n, err := honeypot.New(f.opts)
	require.NoError(t, err)
	err = n.Run(t.Context())
	require.ErrorIs(t, err, honeypot.ErrPorts)
	require.ErrorContains(t, err, "something listens on port 25565")
	require.NoError(t, l.Close())

	f.run(t)
	second, err := honeypot.New(f.opts)
	require.NoError(t, err)
	require.ErrorContains(t, second.Run(t.Context()), "another node runs")
}

func TestAddressOfAnotherMachineIsAFinding(t *testing.T) {
	f := newFixture(t)
	f.opts.Advertise = []netip.Addr{netip.MustParseAddr("198.51.100.77")}
	n, _ := f.run(t)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(n.Findings(), func(x event.Finding) bool { return x.Subject == "advertise" })
	}, time.Minute, 10*time.Millisecond)
}

// child are the options of a node in a process of its own.
type child struct {
	Name      string       `json:"name"`
	StateDir  string       `json:"state_dir"`
	Advertise []netip.Addr `json:"advertise"`
	Namespace string       `json:"namespace"`
	Image     string       `json:"image"`
	NetNS     string       `json:"netns"`
}

// childNode is this test's binary as a node that is going to be killed.
func childNode() int {
	var c child
	if err := json.Unmarshal([]byte(os.Getenv("KOKKURI_TEST_NODE")), &c); err != nil {
		return 3
	}
	ns, err := netns.Open(c.NetNS)
	if err != nil {
		return 4
	}
	n, err := honeypot.New(honeypot.Options{
		Name: c.Name, StateDir: c.StateDir, Advertise: c.Advertise, Namespace: c.Namespace, Image: c.Image,
		NetNS: ns, Bus: newBus(), Least: 1, Most: 1, SSH: honeypot.SSH{FailDelay: time.Millisecond, Front: honeypot.FrontBuiltin},
	})
	if err != nil {
		return 5
	}
	if err := n.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 6
}

func TestKilledNodeLosesNothing(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	_, err := f.shell(t.Context(), l.Endpoint, "echo before > /root/before")
	require.NoError(t, err)
	stop()
	// Of the sessions some are the pot's own.
	visits := func(all []event.Session) int {
		return len(slices.DeleteFunc(slices.Clone(all), func(s event.Session) bool { return s.Service == event.ServicePot }))
	}
	before := visits(f.bus.ended())

	env, err := json.Marshal(child{
		Name: f.opts.Name, StateDir: f.opts.StateDir, Advertise: f.opts.Advertise,
		Namespace: f.opts.Namespace, Image: f.opts.Image, NetNS: f.NodeName,
	})
	require.NoError(t, err)
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), "KOKKURI_TEST_NODE="+string(env))
	process.Stderr = os.Stderr
	require.NoError(t, process.Start())
	const many = 20
	echoed := make([]string, many)
	var inside []*ssh.Client
	for len(inside) < many {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		c, err := f.login(ctx, l.Endpoint, "123456")
		cancel()
		if err == nil {
			inside = append(inside, c)
		}
	}
	for i, c := range inside {
		echoed[i] = acknowledged(t, c, i)
	}
	require.NoError(t, process.Process.Kill())
	_ = process.Wait()
	for _, c := range inside {
		require.Error(t, c.Wait(), "the connection died with the process")
	}

	f.run(t)
	require.Eventually(t, func() bool { return visits(f.bus.ended()) >= before+many }, time.Minute, 10*time.Millisecond)
	found := 0
	for _, s := range f.bus.ended() {
		if s.Reason != honeypot.NodeStopped {
			continue
		}
		assert.True(t, s.Truncated)
		data := must(os.ReadFile(filepath.Join(f.opts.StateDir, "evidence", s.Recording[:2], s.Recording)))
		for _, text := range echoed {
			if strings.Contains(string(data), text) {
				found++
			}
		}
		left := f.bus.left(s.ID)
		require.GreaterOrEqual(t, len(left), 2)
		assert.Equal(t, event.EvidenceTruncated, left[len(left)-2].Kind)
		assert.Equal(t, event.EvidenceClosed, left[len(left)-1].Kind)
	}
	assert.Equal(t, many, found, "what was answered is recorded, in each session")
	out, err := f.shell(t.Context(), l.Endpoint, "cat /root/before")
	require.NoError(t, err, out)
	assert.Equal(t, "before\n", out)
}

// acknowledged has a shell repeat a line, and returns it when it has come back.
func acknowledged(t *testing.T, c *ssh.Client, i int) string {
	t.Helper()
	s, err := c.NewSession()
	require.NoError(t, err)
	in := must(s.StdinPipe())
	out := must(s.StdoutPipe())
	require.NoError(t, s.Start("cat"))
	text := fmt.Sprintf("line %d of many, answered before the end\n", i)
	_, err = io.WriteString(in, text)
	require.NoError(t, err)
	back := make([]byte, len(text))
	_, err = io.ReadFull(out, back)
	require.NoError(t, err)
	require.Equal(t, text, string(back))
	return text
}
