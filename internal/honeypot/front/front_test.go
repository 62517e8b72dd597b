package front_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/gate"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	*pottest.Machines
	front *front.Front
	gate  *gate.Gate
	vault *record.Vault
	stop  func()

	mu       sync.Mutex
	sessions []event.Session
	leases   map[string]event.Lease // by address and port
	potErr   error
}

// newFixture runs a front and its gate in the node's namespace; its pots echo lines.
func newFixture(t *testing.T, change func(*front.Options)) *fixture {
	t.Helper()
	f := &fixture{Machines: pottest.NewMachines(t), leases: make(map[string]event.Lease)}
	var err error
	f.vault, err = record.OpenVault(record.VaultOptions{Dir: t.TempDir(), MinFree: 1})
	require.NoError(t, err)
	o := front.Options{
		Node: "node", NetNS: f.Node, Vault: f.vault,
		Lookup: func(peer netip.Addr, port uint16) (event.Lease, bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			l, ok := f.leases[netip.AddrPortFrom(peer, port).String()]
			return l, ok
		},
		Raw: front.Raw{Reach: front.Reach{Enter: func(_ context.Context, k event.PotKey) (front.Stay, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.potErr != nil {
				return nil, f.potErr
			}
			for _, l := range f.leases {
				if l.PotKey() == k {
					return stay{t: t, name: l.ID}, nil
				}
			}
			return nil, errors.New("no lease")
		}}},
		Session: func(s event.Session) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.sessions = append(f.sessions, s)
			return nil
		},
	}
	if change != nil {
		change(&o)
	}
	f.front, err = front.New(o)
	require.NoError(t, err)
	v4, v6 := f.front.Ports()
	f.gate, err = gate.Open(gate.Options{
		NetNS: f.Node, First: 20000, Last: 29999, Listener4: v4, Listener6: v6,
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:2::20")},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.front.Run(ctx) })
	wg.Go(func() { f.gate.Run(ctx) })
	f.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		require.NoError(t, f.gate.Close())
	})
	t.Cleanup(f.stop)
	return f
}

// stay is a pot that echoes.
type stay struct {
	t    *testing.T
	name string
}

func (s stay) Pot() event.Pot                                 { return event.Pot{ID: "pot-" + s.name} }
func (s stay) Login(event.Service) (account, password string) { return "", "" }
func (s stay) PID() int                                       { return 0 }
func (s stay) Close()                                         {}

func (s stay) Dial(context.Context, event.Service) (net.Conn, error) { return echo(s.t, s.name), nil }

// echo is a pot that greets with a name and gives lines back.
func echo(t *testing.T, name string) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return nil
	}
	go func() {
		defer l.Close() //nolint:errcheck // a test's listener; closed earlier, it would drop who was not accepted yet
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close() //nolint:errcheck // a test's connection
		_, _ = fmt.Fprintf(c, "pot %s\n", name)
		_, _ = io.Copy(c, c)
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		_ = l.Close()
		t.Error(err)
	}
	return c
}

func (f *fixture) lease(t *testing.T, id, seen string, port uint16) event.Lease {
	t.Helper()
	a := netip.MustParseAddr(seen)
	endpoint := netip.MustParseAddr("198.51.100.20")
	if a.Is6() {
		endpoint = netip.MustParseAddr("2001:db8:2::20")
	}
	l := event.Lease{
		ID: id, Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: id, Service: event.SSH,
		Seen: []netip.Addr{a}, Endpoint: netip.AddrPortFrom(endpoint, port),
	}
	f.mu.Lock()
	f.leases[netip.AddrPortFrom(a, port).String()] = l
	f.mu.Unlock()
	require.NoError(t, f.gate.Put(gate.Element{Prefix: netip.PrefixFrom(a, a.BitLen()), Port: port}))
	return l
}

// visit connects from an address of the host, says hello and returns the greeting.
func (f *fixture) visit(t *testing.T, from string, to netip.AddrPort) (string, error) {
	t.Helper()
	return f.visitWithin(t, 10*time.Second, from, to)
}

func (f *fixture) visitWithin(t *testing.T, within time.Duration, from string, to netip.AddrPort) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, err := dialFrom(ctx, f.Host, netip.MustParseAddr(from), to)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // a test's connection
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return "", err
	}
	if back, err := r.ReadString('\n'); err != nil || back != "hello\n" {
		return "", fmt.Errorf("echo %q: %w", back, err)
	}
	return strings.TrimSpace(line), nil
}

// connect does not wait long: most who use it are to be left without an answer.
func (f *fixture) connect(t *testing.T, from string, to netip.AddrPort) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	return dialFrom(ctx, f.Host, netip.MustParseAddr(from), to)
}

// dialFrom dials inside a namespace from one of its addresses.
func dialFrom(ctx context.Context, ns *netns.NS, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := ns.Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		var err error
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return conn, err
}

func requireTimeout(t *testing.T, err error, msg ...any) {
	t.Helper()
	var netErr net.Error
	require.ErrorAs(t, err, &netErr, msg...)
	require.True(t, netErr.Timeout(), err)
}

func (f *fixture) ended(t *testing.T, n int) []event.Session {
	t.Helper()
	var out []event.Session
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		out = nil
		for _, s := range f.sessions {
			if !s.EndedAt.IsZero() {
				out = append(out, s)
			}
		}
		return len(out) >= n
	}, time.Minute, 5*time.Millisecond)
	return out
}

func TestOnlyTheAttackerReachesItsEndpoint(t *testing.T) {
	f := newFixture(t, nil)
	one := f.lease(t, "one", "198.51.100.10", 20001)
	two := f.lease(t, "two", "2001:db8:2::10", 20002)
	three := f.lease(t, "three", "198.51.100.10", 20003)
	try := func() {
		t.Helper()
		for _, l := range []event.Lease{one, two, three} {
			got, err := f.visit(t, l.Seen[0].String(), l.Endpoint)
			require.NoError(t, err)
			assert.Equal(t, "pot "+l.ID, got)
		}
		for from, to := range map[string]string{
			"198.51.100.11":  "198.51.100.20:20001",    // another address
			"2001:db8:2::11": "[2001:db8:2::20]:20002", // the same with IPv6
			"198.51.100.10":  "198.51.100.20:20009",    // an endpoint of nobody
		} {
			_, err := f.connect(t, from, netip.MustParseAddrPort(to))
			requireTimeout(t, err, "dropped, not refused: %s to %s", from, to)
		}
		v4, v6 := f.front.Ports()
		for from, to := range map[string]netip.AddrPort{
			"198.51.100.10": netip.AddrPortFrom(one.Endpoint.Addr(), v4), "2001:db8:2::10": netip.AddrPortFrom(two.Endpoint.Addr(), v6),
		} {
			_, err := f.connect(t, from, to)
			requireTimeout(t, err, "the listener itself is not there for anyone")
		}
	}
	try()

	// Somebody flushes the rules: nobody gets anywhere, and soon all is as before.
	pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "flush", "ruleset")
	v4, _ := f.front.Ports()
	if c, err := f.connect(t, "198.51.100.11", netip.AddrPortFrom(one.Endpoint.Addr(), v4)); err == nil {
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err, "a stranger gets nothing from the listener, even while it is bare")
		_ = c.Close()
	}
	require.Eventually(t, func() bool {
		got, err := f.visitWithin(t, 300*time.Millisecond, "198.51.100.10", one.Endpoint)
		return err == nil && got == "pot one"
	}, time.Minute, 10*time.Millisecond)
	try()
	assert.Equal(t, uint64(1), f.gate.Mended())

	// Somebody deletes one element, or one rule.
	pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "delete element inet kokkuri_node from4 { 198.51.100.10 . 20001 }")
	require.Eventually(t, func() bool { return f.gate.Mended() == 2 }, time.Minute, 10*time.Millisecond)
	pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "flush chain inet kokkuri_node members")
	require.Eventually(t, func() bool { return f.gate.Mended() == 3 }, time.Minute, 10*time.Millisecond)
	try()

	// The same table by name, emptied under our feet, takes a new element at once.
	pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "delete table inet kokkuri_node")
	four := f.lease(t, "four", "198.51.100.11", 20004)
	got, err := f.visit(t, "198.51.100.11", four.Endpoint)
	require.NoError(t, err)
	assert.Equal(t, "pot four", got)
	try()

	require.NoError(t, f.gate.Drop(gate.Element{Prefix: netip.MustParsePrefix("198.51.100.11/32"), Port: 20004}))
	_, err = f.connect(t, "198.51.100.11", four.Endpoint)
	requireTimeout(t, err)

	f.stop()
	out := pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "list", "ruleset")
	assert.Empty(t, out, "nothing stays behind")
	require.NoError(t, gate.Remove(f.Node, ""), "twice is no error")
}

func TestSessionsAreRecorded(t *testing.T) {
	f := newFixture(t, nil)
	l := f.lease(t, "one", "198.51.100.10", 20001)
	_, err := f.visit(t, "198.51.100.10", l.Endpoint)
	require.NoError(t, err)
	s := f.ended(t, 1)[0]
	assert.Len(t, s.ID, 12)
	assert.Equal(t, "pot-one", s.PotID)
	assert.Equal(t, "one", s.LeaseID)
	assert.Equal(t, l.Attacker, s.Attacker)
	assert.Equal(t, "198.51.100.10", s.Peer.Addr().String())
	assert.Equal(t, int64(6), s.BytesIn)
	assert.Equal(t, int64(len("pot one\nhello\n")), s.BytesOut)
	assert.Equal(t, "attacker closed", s.Reason)
	assert.False(t, s.FirstByte.Before(s.StartedAt))
	assert.False(t, s.EndedAt.Before(s.FirstByte))
	assert.False(t, s.Truncated)
	assert.Equal(t, s.ID, f.sessions[0].ID)
	assert.True(t, f.sessions[0].EndedAt.IsZero(), "told at its start, too")

	file, err := os.Open(f.vault.Path(s.Recording))
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // read-only
	r, err := recording.NewReader(file)
	require.NoError(t, err)
	assert.Equal(t, s.ID, r.Header().Session)
	var in, out strings.Builder
	for {
		fr, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch fr.Kind {
		case recording.In:
			in.Write(fr.Payload)
		case recording.Out:
			out.Write(fr.Payload)
		case recording.End, recording.Truncated, recording.Note, recording.Err:
		}
	}
	assert.Equal(t, "hello\n", in.String())
	assert.Equal(t, "pot one\nhello\n", out.String())
}

func TestConnectionsAreLimited(t *testing.T) {
	f := newFixture(t, func(o *front.Options) { o.PerLease, o.Total = 2, 3 })
	one := f.lease(t, "one", "198.51.100.10", 20001)
	two := f.lease(t, "two", "198.51.100.10", 20002)
	open := func(to netip.AddrPort) error {
		c, err := f.connect(t, "198.51.100.10", to)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		_, err = c.Read(make([]byte, 1))
		return err
	}
	require.NoError(t, open(one.Endpoint))
	require.NoError(t, open(one.Endpoint))
	require.Error(t, open(one.Endpoint), "over the lease's limit")
	require.NoError(t, open(two.Endpoint))
	require.Error(t, open(two.Endpoint), "over the total limit")
	counts, now := f.front.Counts()
	assert.Equal(t, 3, now)
	assert.Equal(t, front.Counts{Accepted: 3, OverLease: 1, OverTotal: 1}, counts)
}

func TestLeaseThatEndsEndsItsSessions(t *testing.T) {
	f := newFixture(t, nil)
	one := f.lease(t, "one", "198.51.100.10", 20001)
	two := f.lease(t, "two", "198.51.100.10", 20002)
	c, err := f.connect(t, "198.51.100.10", one.Endpoint)
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // a test's connection
	d, err := f.connect(t, "198.51.100.10", two.Endpoint)
	require.NoError(t, err)
	defer d.Close() //nolint:errcheck // a test's connection
	_, err = bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	f.front.CloseLease("one")
	s := f.ended(t, 1)
	assert.Equal(t, front.LeaseEnded, s[0].Reason)
	assert.NotEmpty(t, s[0].Recording)
	_, open := f.front.Counts()
	assert.Equal(t, 1, open)

	f.stop()
	s = f.ended(t, 2)
	assert.Equal(t, front.NodeStopping, s[1].Reason)
}

func TestPotThatDoesNotStart(t *testing.T) {
	f := newFixture(t, nil)
	l := f.lease(t, "one", "198.51.100.10", 20001)
	f.mu.Lock()
	f.potErr = errors.New("the engine is away")
	f.mu.Unlock()
	_, err := f.visit(t, "198.51.100.10", l.Endpoint)
	require.Error(t, err)
	s := f.ended(t, 1)[0]
	assert.Equal(t, "no pot: the engine is away", s.Reason)
	assert.True(t, s.FirstByte.IsZero())
	counts, _ := f.front.Counts()
	assert.Equal(t, uint64(1), counts.NoPot)
}

func TestStrangerOnAnEndpointOfItsOwnPort(t *testing.T) {
	// The element is in the kernel, the lease is gone: the front itself turns it away.
	f := newFixture(t, nil)
	l := f.lease(t, "one", "198.51.100.10", 20001)
	f.mu.Lock()
	clear(f.leases)
	f.mu.Unlock()
	_, err := f.visit(t, "198.51.100.10", l.Endpoint)
	require.Error(t, err)
	require.Eventually(t, func() bool { c, _ := f.front.Counts(); return c.Strangers == 1 }, time.Minute, time.Millisecond)
	assert.Empty(t, f.sessions)
}

func TestEndpointOfAHostOnTheSameMachine(t *testing.T) {
	f := newFixture(t, nil)
	// The machine is host and node at once: the host's own redirect has changed the destination already.
	l := f.lease(t, "one", "198.51.100.10", 20001)
	require.NoError(t, f.front.OpenEndpoint(l))
	require.NoError(t, f.front.OpenEndpoint(l), "twice is no error")
	pottest.Run(t, "ip", "netns", "exec", f.NodeName, "nft", "-f", writeRules(t, `
		table inet host {
			chain prerouting { type nat hook prerouting priority dstnat - 1; policy accept;
				ip saddr 198.51.100.10 tcp dport 22 dnat ip to 198.51.100.20:20001
			}
		}`))
	got, err := f.visit(t, "198.51.100.10", netip.MustParseAddrPort("198.51.100.20:22"))
	require.NoError(t, err)
	assert.Equal(t, "pot one", got)
	_, err = f.connect(t, "198.51.100.11", l.Endpoint)
	requireTimeout(t, err)
	f.front.CloseLease("one")
	_, err = f.connect(t, "198.51.100.10", netip.MustParseAddrPort("198.51.100.20:22"))
	require.Error(t, err)
}

func writeRules(t *testing.T, rules string) string {
	t.Helper()
	path := t.TempDir() + "/rules"
	require.NoError(t, os.WriteFile(path, []byte(rules), 0o600))
	return path
}
