package divert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is a network namespace of its own that plays a machine.
type box struct {
	t    testing.TB
	name string
	fd   int
}

func newBox(tb testing.TB, name string) *box {
	tb.Helper()
	type made struct {
		ns  netns.NsHandle
		err error
	}
	c := make(chan made, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := netns.New()
		c <- made{ns, err}
	}()
	m := <-c
	require.NoError(tb, m.err)
	b := &box{tb, name, int(m.ns)}
	tb.Cleanup(func() { _ = unix.Close(b.fd) })
	b.sysctl("net/ipv4/ip_forward", "0")
	b.sysctl("net/ipv6/conf/all/disable_ipv6", "0")
	b.sysctl("net/ipv6/conf/default/disable_ipv6", "0")
	// Until an interface's link-local address has proved unique, a router asks for no neighbour through it.
	b.sysctl("net/ipv6/conf/default/accept_dad", "0")
	b.links(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		return errors.Join(err, h.LinkSetUp(lo))
	})
	return b
}

func (b *box) space() space { return space{b.fd} }

func (b *box) do(fn func() error) {
	b.t.Helper()
	require.NoError(b.t, b.space().do(fn), b.name)
}

func (b *box) sysctl(name, value string) {
	b.t.Helper()
	b.do(func() error { return put("/proc/sys/"+name, value) })
}

func (b *box) value(name string) (v string) {
	b.t.Helper()
	b.do(func() (err error) { v, err = get("/proc/sys/" + name); return err })
	return v
}

func (b *box) links(fn func(*netlink.Handle) error) {
	b.t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(b.fd), unix.NETLINK_ROUTE)
	require.NoError(b.t, err)
	defer h.Close()
	require.NoError(b.t, fn(h), b.name)
}

// run runs a program in the box and returns what it writes.
func (b *box) run(program string, args ...string) string {
	b.t.Helper()
	var out []byte
	b.do(func() error {
		var err error
		out, err = exec.CommandContext(b.t.Context(), program, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// nft loads rules.
func (b *box) nft(rules string) {
	b.t.Helper()
	b.do(func() error {
		cmd := exec.CommandContext(b.t.Context(), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}

// wire joins two boxes by a cable.
func wire(a *box, nameA string, b *box, nameB string) {
	a.t.Helper()
	a.links(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.fd),
		})
	})
	for _, end := range []struct {
		*box
		name string
	}{{a, nameA}, {b, nameB}} {
		end.links(func(h *netlink.Handle) error {
			l, err := h.LinkByName(end.name)
			return errors.Join(err, h.LinkSetUp(l))
		})
	}
}

// address gives an interface addresses that work at once.
func (b *box) address(iface string, prefixes ...string) {
	b.t.Helper()
	b.links(func(h *netlink.Handle) error {
		l, err := h.LinkByName(iface)
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			a, err := netlink.ParseAddr(p)
			if err != nil {
				return err
			}
			a.Flags |= unix.IFA_F_NODAD
			if err := h.AddrAdd(l, a); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		return nil
	})
}

func (b *box) route(to, via string) {
	b.t.Helper()
	b.links(func(h *netlink.Handle) error {
		_, dst, err := net.ParseCIDR(to)
		if err != nil {
			return err
		}
		return h.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
	})
}

// bridge makes the box a switch for its cables.
func (b *box) bridge(ports ...string) {
	b.t.Helper()
	b.links(func(h *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := errors.Join(h.LinkAdd(br), h.LinkSetUp(br)); err != nil {
			return err
		}
		for _, p := range ports {
			l, err := h.LinkByName(p)
			if err := errors.Join(err, h.LinkSetMaster(l, br)); err != nil {
				return err
			}
		}
		return nil
	})
}

// serve answers on TCP ports: each connection is greeted with the box's name and the caller's address, then
// gets back each line that it sends.
func (b *box) serve(ports ...uint16) {
	b.t.Helper()
	for _, port := range ports {
		b.do(func() error {
			l, err := new(net.ListenConfig).Listen(b.t.Context(), "tcp", fmt.Sprintf("[::]:%d", port))
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { b.accept(ctx, &wg, l) })
			b.t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
			return nil
		})
	}
}

func (b *box) accept(ctx context.Context, wg *sync.WaitGroup, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer func() { stop(); _ = c.Close() }()
			peer := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			_, _ = fmt.Fprintf(c, "%s %s\n", b.name, peer)
			_, _ = io.Copy(c, c)
		})
	}
}

// conn is a client's connection.
type conn struct {
	net.Conn
	in    *bufio.Reader
	greet string
}

const patience = 5 * time.Second

// dial connects from one of the box's addresses (empty: any) and reads the greeting.
func (b *box) dial(from, to string) (*conn, error) {
	var c *conn
	err := b.space().do(func() error {
		d := net.Dialer{Timeout: patience}
		if from != "" {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
		}
		raw, err := d.DialContext(context.Background(), "tcp", to)
		if err != nil {
			return err
		}
		c = &conn{Conn: raw, in: bufio.NewReader(raw)}
		_ = c.SetDeadline(time.Now().Add(patience))
		line, err := c.in.ReadString('\n')
		c.greet = strings.TrimSpace(line)
		if err != nil {
			_ = raw.Close()
		}
		return err
	})
	return c, err
}

// meets returns who answers, as "name caller".
func (b *box) meets(to string) string {
	b.t.Helper()
	c, err := b.dial("", to)
	require.NoError(b.t, err, "%s calls %s", b.name, to)
	_ = c.Close()
	return c.greet
}

// alive says whether the connection still carries.
func (c *conn) alive() error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	got, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	if got != "hello\n" {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

// Addresses of the world, as in the lab.
const (
	attacker4, attacker6 = "203.0.113.66", "2001:db8:1:66::66"
	user4, user6         = "203.0.113.20", "2001:db8:1:20::20"
	host4, host6         = "203.0.113.10", "2001:db8:1:10::10"
	core4, core6         = "198.51.100.10", "2001:db8:2::10"
	node4, node6         = "198.51.100.20", "2001:db8:2::20"
	behind4, behind6     = "198.51.100.30", "2001:db8:2::30"
)

// world is an attacker and a user who reach a host over one network, and, over the host's other network, a
// node and a machine behind the host.
type world struct {
	t                                  testing.TB
	attacker, user, host, node, behind *box
	dir                                string
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{
		t: tb, attacker: newBox(tb, "attacker"), user: newBox(tb, "user"), host: newBox(tb, "host"),
		node: newBox(tb, "node"), behind: newBox(tb, "behind"), dir: tb.TempDir(),
	}
	wan, core := newBox(tb, "wan"), newBox(tb, "core")
	for i, b := range []*box{w.attacker, w.user, w.host} {
		wire(b, "wan", wan, fmt.Sprintf("p%d", i))
	}
	for i, b := range []*box{w.host, w.node, w.behind} {
		wire(b, "core", core, fmt.Sprintf("p%d", i))
	}
	wan.bridge("p0", "p1", "p2")
	core.bridge("p0", "p1", "p2")
	w.attacker.address("wan", attacker4+"/24", "203.0.113.67/24", "2001:db8:1:66::67/48", attacker6+"/48") // the last IPv6 address is the preferred one
	w.user.address("wan", user4+"/24", user6+"/48")
	w.host.address("wan", host4+"/24", host6+"/48")
	w.host.address("core", core4+"/24", core6+"/64")
	w.node.address("core", node4+"/24", node6+"/64")
	w.behind.address("core", behind4+"/24", behind6+"/64")
	for _, b := range []*box{w.attacker, w.user} {
		b.route("198.51.100.0/24", host4)
		b.route("2001:db8:2::/64", host6)
	}
	w.behind.route("203.0.113.0/24", core4)
	w.behind.route("2001:db8:1::/48", core6)
	// The node has no route to the attacker: answers must come by the host.
	w.host.serve(22, 23)
	w.node.serve(20001, 20002)
	w.behind.serve(22, 8080)
	return w
}

// forwarding is on at the host before us.
func (w *world) routed() *world {
	w.host.sysctl("net/ipv4/ip_forward", "1")
	w.host.sysctl("net/ipv6/conf/all/forwarding", "1")
	return w
}

func (w *world) options() Options {
	return Options{
		Services: []event.HostPort{{Service: event.SSH, Port: 22}},
		StateDir: w.dir, NetNS: w.host.fd,
		Log: slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if os.Getenv("DIVERT_LOG") != "" {
		_, _ = os.Stderr.Write(b)
	}
	return len(b), nil
}

// start makes a Divert and runs it; stop ends it as SIGTERM does, and leaves the kernel as it is.
func (w *world) start(o Options) (d *Divert, stop func()) {
	w.t.Helper()
	d, err := New(o)
	require.NoError(w.t, err)
	return d, w.running(d)
}

func (w *world) running(d *Divert) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			d.Close()
		}
	}
	w.t.Cleanup(stop)
	return stop
}

func redirectOf(id, source, endpoint string) event.Redirect {
	now := time.Now()
	return event.Redirect{
		ID: id, Source: netip.MustParsePrefix(source), Host: "web", Service: event.SSH, Port: 22,
		Endpoint: netip.MustParseAddrPort(endpoint), State: event.Pending, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour),
	}
}

func desiredOf(rs ...event.Redirect) event.Desired {
	return event.Desired{
		Nodes:     []netip.Addr{netip.MustParseAddr(node4), netip.MustParseAddr(node6)},
		Servers:   []netip.Addr{netip.MustParseAddr("198.51.100.2")},
		Redirects: rs,
	}
}

// eventually waits until check returns nil.
func eventually(tb testing.TB, within time.Duration, check func() error) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(tb, err, "after %s", within)
		}
		<-tick.C
	}
}

func requireActive(tb testing.TB, got []event.Applied, err error) {
	tb.Helper()
	require.NoError(tb, err)
	require.NotEmpty(tb, got)
	for _, a := range got {
		require.Equal(tb, event.Active, a.State, a.Reason)
	}
}

var volatile = regexp.MustCompile(`(timeout|expires) \S+`)

// table lists our table without what changes from one moment to the next.
func (w *world) table() string {
	var out string
	_ = w.host.space().do(func() error {
		b, err := exec.CommandContext(context.Background(), "nft", "list", "table", "inet", "kokkuri").CombinedOutput()
		out = string(b)
		return err
	})
	return volatile.ReplaceAllString(out, "$1 X")
}

// probe is a dial that gives up soon: where packets are dropped nothing answers.
func (b *box) probe(to string) error {
	return b.space().do(func() error {
		c, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(context.Background(), "tcp", to)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
