package pool_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// patience is longer than a start may take: what fails says why itself.
const patience = 3 * time.Minute

type fixture struct {
	node   string
	file   string // where it is kept whose pots they are
	engine *engine.Docker
	net    *egress.Net
	wanted atomic.Pointer[map[event.PotKey]bool] // nil: all
}

func newFixture(t *testing.T, host string) *fixture {
	t.Helper()
	return newFixtureAt(t, host)
}

// newFixtureTB is newFixture for benchmarks.
func newFixtureTB(t testing.TB) *fixture {
	t.Helper()
	return newFixtureAt(t, "")
}

func newFixtureAt(t testing.TB, host string) *fixture {
	t.Helper()
	f := &fixture{node: pottest.Name(t, "pool"), file: filepath.Join(t.TempDir(), "pots.json")}
	f.engine = pottest.EngineAt(t, f.node, host)
	f.net, _ = pottest.Net(t)
	return f
}

// pots runs the node's pots; stop ends them as a node's process would.
func (f *fixture) pots(t testing.TB, change ...func(*pool.PotsOptions)) (p *pool.Pots, stop func()) {
	t.Helper()
	o := pool.PotsOptions{
		Node: f.node, Engine: f.engine, Network: f.net, Capacity: f.net.Capacity(), File: f.file,
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
		Image: func(context.Context) (string, error) { return pottest.Image, nil },
		Wanted: func(k event.PotKey) bool {
			w := f.wanted.Load()
			return w == nil || (*w)[k]
		},
	}
	for _, c := range change {
		c(&o)
	}
	p = pool.NewPots(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return p, stop
}

func leaseOf(n int) event.Lease {
	return event.Lease{
		ID: strconv.Itoa(n), Attacker: netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", n)),
		Host: "web", Service: event.SSH,
	}
}

// dial connects to a lease's service in its pot.
func dial(ctx context.Context, p *pool.Pots, l event.Lease) (net.Conn, event.Pot, error) {
	stay, err := p.Enter(ctx, l.PotKey())
	if err != nil {
		return nil, event.Pot{}, err
	}
	defer stay.Close()
	conn, err := stay.Dial(ctx, l.Service)
	return conn, stay.Pot(), err
}

func bannerOf(t *testing.T, p *pool.Pots, l event.Lease) event.Pot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, pot, err := dial(ctx, p, l)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(line, "SSH-2.0-OpenSSH"), line)
	return pot
}

func TestOneStartServesAllWhoWait(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			conn, pot, err := dial(t.Context(), p, leaseOf(1+i%2))
			if assert.NoError(t, err) {
				_ = conn.Close()
				ids[i] = pot.ID
			}
		})
	}
	wg.Wait()
	assert.NotEqual(t, ids[0], ids[1], "two attackers have two pots")
	for i := range ids {
		assert.Equal(t, ids[i%2], ids[i])
	}
	assert.Equal(t, uint64(2), p.Counts().Created)
	require.Len(t, p.List(), 2)
	for _, pot := range p.List() {
		assert.Equal(t, "running", pot.State)
	}
	assert.Empty(t, p.Findings())
}

func TestPotKeepsItsFilesThroughWhateverHappens(t *testing.T) {
	f := newFixture(t, "")
	p, stop := f.pots(t)
	pot := bannerOf(t, p, leaseOf(1))
	_, err := pottest.InPot(t, pot.ID, "echo treasure > /root/found")
	require.NoError(t, err)
	keeps := func(got event.Pot) {
		t.Helper()
		assert.Equal(t, pot.ID, got.ID)
		out, err := pottest.InPot(t, pot.ID, "cat /root/found")
		require.NoError(t, err)
		assert.Equal(t, "treasure\n", out)
	}
	keeps(bannerOf(t, p, leaseOf(1)))

	pottest.Run(t, "docker", "restart", "-t", "0", pot.ID)
	keeps(bannerOf(t, p, leaseOf(1)))

	pottest.Run(t, "docker", "kill", pot.ID)
	keeps(bannerOf(t, p, leaseOf(1)))

	// The attacker kills all that it can: the first process stays, and starts the rest anew.
	_, _ = pottest.InPot(t, pot.ID, "kill -9 1; kill -TERM 1; kill -HUP 1; old=$(pgrep -ox sshd); kill -9 -1; while kill -0 $old; do :; done")
	keeps(bannerOf(t, p, leaseOf(1)))
	assert.Equal(t, "running", p.List()[0].State)

	// A new process of ours finds it, running and wired.
	stop()
	q, _ := f.pots(t)
	keeps(bannerOf(t, q, leaseOf(1)))
	assert.Equal(t, pool.Counts{}, q.Counts(), "nothing had to be done")
}

func TestRestartedPotIsWiredWithoutAVisitor(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	pot := bannerOf(t, p, leaseOf(1))
	pottest.Run(t, "docker", "restart", "-t", "0", pot.ID)
	require.Eventually(t, func() bool {
		c, err := f.net.Dial(t.Context(), netip.AddrPortFrom(pot.Address, 22))
		if err == nil {
			_ = c.Close()
		}
		return err == nil && p.Counts().Wired == 2
	}, time.Minute, 50*time.Millisecond)
}

func TestRemovedPotIsReplaced(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	pot := bannerOf(t, p, leaseOf(1))
	pottest.Run(t, "docker", "rm", "-f", pot.ID)
	again := bannerOf(t, p, leaseOf(1))
	assert.NotEqual(t, pot.ID, again.ID)
}

func TestUnwantedPotsAreRemoved(t *testing.T) {
	f := newFixture(t, "")
	p, stop := f.pots(t)
	one, two := bannerOf(t, p, leaseOf(1)), bannerOf(t, p, leaseOf(2))
	f.wanted.Store(&map[event.PotKey]bool{{Attacker: two.Attacker, Host: "web"}: true})
	p.Tidy()
	require.Eventually(t, func() bool { return len(p.List()) == 1 }, time.Minute, 10*time.Millisecond)
	_, found, err := f.engine.Inspect(t.Context(), one.ID)
	require.NoError(t, err)
	assert.False(t, found)

	// What an earlier process left behind goes, too.
	stop()
	f.wanted.Store(&map[event.PotKey]bool{})
	q, _ := f.pots(t)
	require.Eventually(t, func() bool {
		left, err := f.engine.List(t.Context())
		return err == nil && len(left) == 0 && len(q.List()) == 0
	}, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		wired, err := f.net.Wired(egress.Port{Pot: two.Name})
		return err == nil && !wired
	}, time.Minute, 10*time.Millisecond)
}

func TestEngineGoesAndComesBack(t *testing.T) {
	proxy := pottest.NewProxy(t)
	f := newFixture(t, proxy.Host())
	p, _ := f.pots(t)
	one, two := bannerOf(t, p, leaseOf(1)), bannerOf(t, p, leaseOf(2))

	proxy.Down()
	require.Eventually(t, func() bool { return len(p.Findings()) > 0 }, time.Minute, 10*time.Millisecond)
	finding := p.Findings()[0]
	assert.Contains(t, finding.Text, "cannot reach the Docker engine at "+proxy.Host())
	assert.Contains(t, finding.Mend, "systemctl start docker")
	bannerOf(t, p, leaseOf(1)) // what runs goes on
	_, _, err := dial(t.Context(), p, leaseOf(3))
	require.ErrorIs(t, err, engine.ErrUnreachable)

	// An engine's restart without live-restore kills pots, and nobody is told.
	pottest.Run(t, "docker", "kill", one.ID)
	pottest.Run(t, "docker", "restart", "-t", "0", two.ID)
	proxy.Up(t)
	require.Eventually(t, func() bool { return len(p.Findings()) == 0 }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, one.ID, bannerOf(t, p, leaseOf(1)).ID)
	assert.Equal(t, two.ID, bannerOf(t, p, leaseOf(2)).ID)
	bannerOf(t, p, leaseOf(3))
}

func TestEngineThatIsDownAtStart(t *testing.T) {
	proxy := pottest.NewProxy(t)
	f := newFixture(t, proxy.Host())
	proxy.Down()
	p, _ := f.pots(t)
	_, _, err := dial(t.Context(), p, leaseOf(1))
	require.ErrorIs(t, err, engine.ErrUnreachable)
	require.NotEmpty(t, p.Findings())
	proxy.Up(t)
	require.Eventually(t, func() bool { return len(p.Findings()) == 0 }, time.Minute, 10*time.Millisecond)
	bannerOf(t, p, leaseOf(1))
}

func TestPausedPotSaysSo(t *testing.T) {
	f := newFixture(t, "")
	p, stop := f.pots(t)
	pot := bannerOf(t, p, leaseOf(1))
	stop()
	pottest.Run(t, "docker", "pause", pot.ID)
	q, _ := f.pots(t)
	_, _, err := dial(t.Context(), q, leaseOf(1))
	require.ErrorContains(t, err, "docker unpause")
	pottest.Run(t, "docker", "unpause", pot.ID)
	bannerOf(t, q, leaseOf(1))
}

func TestServiceThatThePotLacks(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	l := leaseOf(1)
	l.Service = "gopher"
	_, _, err := dial(t.Context(), p, l)
	require.ErrorIs(t, err, pool.ErrNoService)
}

func TestFullNode(t *testing.T) {
	f := newFixture(t, "")
	p := pool.NewPots(pool.PotsOptions{
		Node: f.node, Engine: f.engine, Network: f.net, Capacity: f.net.Capacity(), MaxPots: 1,
		Image:  func(context.Context) (string, error) { return pottest.Image, nil },
		Wanted: func(event.PotKey) bool { return true },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	require.False(t, p.Full(leaseOf(1).PotKey()))
	bannerOf(t, p, leaseOf(1))
	require.False(t, p.Full(leaseOf(1).PotKey()), "it has a pot")
	require.True(t, p.Full(leaseOf(2).PotKey()))
	_, _, err := dial(t.Context(), p, leaseOf(2))
	require.ErrorIs(t, err, pool.ErrFull)
	require.Len(t, p.Findings(), 1)
}

func TestPotThatFillsTheDiskIsEnded(t *testing.T) {
	f := newFixture(t, "")
	p := pool.NewPots(pool.PotsOptions{
		Node: f.node, Engine: f.engine, Disk: f.engine, MaxDisk: 20 << 20, Network: f.net, Capacity: f.net.Capacity(),
		Image:  func(context.Context) (string, error) { return pottest.Image, nil },
		Wanted: func(event.PotKey) bool { return true },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	bad := bannerOf(t, p, leaseOf(1))
	bannerOf(t, p, leaseOf(2))
	// The pot may be ended before the command is.
	_, err := pottest.InPot(t, bad.ID, "head -c 30M /dev/zero > /root/fill")
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		c, _, err := f.engine.Inspect(t.Context(), bad.ID)
		return err == nil && c.State == engine.Stopped && len(p.Findings()) == 1
	}, time.Minute, 50*time.Millisecond)
	_, _, err = dial(t.Context(), p, leaseOf(1))
	require.ErrorIs(t, err, pool.ErrDisk)
	bannerOf(t, p, leaseOf(2))
}

func TestForkBombAndMemoryHogHarmNothing(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	bad, good := bannerOf(t, p, leaseOf(1)), bannerOf(t, p, leaseOf(2))
	for _, script := range []string{
		`bomb() { bomb | bomb & }; bomb`,
		`exec python3 -c 'x = bytearray(4 << 30)'`,
		`dd if=/dev/zero of=/dev/shm/fill bs=1M count=4096`,
	} {
		done := make(chan struct{})
		go func() {
			_, _ = pottest.InPot(t, bad.ID, "timeout -s KILL 4 sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'")
			close(done)
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			bannerOf(t, p, leaseOf(2))
		}
	}
	out := pottest.Run(t, "docker", "inspect", "-f", "{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NetworkMode}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}", good.ID)
	assert.Equal(t, "128 268435456 268435456 none [ALL] [no-new-privileges]\n", out)
	pottest.Run(t, "docker", "kill", bad.ID)
	bannerOf(t, p, leaseOf(1))
}
