package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a server with a host and a node that speak to it over its real bus.
type site struct {
	t    *testing.T
	dir  string
	conf config.Server
	// has the rules read again
	reload <-chan struct{}

	server *Server
	api    *api.Client
	stop   func()
	host   *bus.Conn

	mu      sync.Mutex
	changes []event.Change
	leases  int
	sent    int
}

func newSite(t *testing.T, change ...func(*config.Server)) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.conf = config.Server{Common: config.Common{StateDir: s.dir, Socket: filepath.Join(s.dir, "server.sock")}}
	s.conf.Bus.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	s.conf.Bus.LogBudget, s.conf.ExemptDays, s.conf.KeepDays = 64<<20, 30, 90
	for _, c := range change {
		c(&s.conf)
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *site) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ready, ended := make(chan *Server, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: s.conf, Version: "test", Log: slog.New(slog.DiscardHandler), Reload: s.reload, Ready: func(x *Server) { ready <- x }})
	}()
	select {
	case s.server = <-ready:
	case err := <-ended:
		cancel()
		require.NoError(s.t, err)
	}
	s.api = api.NewClient(s.conf.Socket)
	host := s.dial(pki.RoleHost, "web")
	unsubscribe, err := bus.Subscribe(host, bus.RedirectsSubject("web"), func(c event.Change) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changes = append(s.changes, c)
	})
	require.NoError(s.t, err)
	node := s.dial(pki.RoleNode, "node1")
	unserve, err := bus.Serve(node, bus.LeaseSubject("node1"), s.lease)
	require.NoError(s.t, err)
	_, err = bus.Request[event.NodeStatus, event.NodeDesired](ctx, node, bus.NodesSubject("node1"), event.NodeStatus{
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.20")}, Services: []event.Service{event.SSH},
	})
	require.NoError(s.t, err)
	s.host = host
	s.stop = sync.OnceFunc(func() {
		unsubscribe()
		unserve()
		host.Close()
		node.Close()
		cancel()
		assert.NoError(s.t, <-ended)
	})
}

func (s *site) dial(role pki.Role, name string) *bus.Conn {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "identity")
	require.NoError(s.t, s.server.IssueIdentity(s.t.Context(), dir, role, name))
	id, err := pki.LoadClient(dir)
	require.NoError(s.t, err)
	c, err := bus.Dial(s.t.Context(), id.BusOptions(slog.New(slog.DiscardHandler)))
	require.NoError(s.t, err)
	require.NoError(s.t, c.WaitConnected(s.t.Context()))
	return c
}

func (s *site) lease(_ context.Context, _ string, r event.LeaseRequest) (event.LeaseReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases++
	return event.LeaseReply{Lease: event.Lease{
		ID: "l", Attacker: r.Attacker, Node: "node1", Endpoint: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.20"), uint16(20000+s.leases)),
	}}, nil
}

// fail sends n failed logins of a source by the host's own road.
func (s *site) fail(source string, n int) {
	s.t.Helper()
	b := event.Batch{Host: "web", Road: event.RoadAgent, Origin: "/var/log/auth.log", Received: time.Now()}
	for range n {
		s.sent++
		b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web sshd[%d]: Failed password for root from %s port %d ssh2",
			time.Now().Format(time.RFC3339Nano), s.sent, source, 1024+s.sent))
	}
	b.ID = fmt.Sprint("batch-", s.sent)
	require.NoError(s.t, s.host.PublishBatch(s.t.Context(), b))
}

func (s *site) got() []event.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Change(nil), s.changes...)
}

// evaluated waits until the pipeline has read all that was sent.
func (s *site) evaluated() {
	s.t.Helper()
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		st, err := s.api.Status(s.t.Context())
		require.NoError(c, err)
		assert.Zero(c, st.Stream.Lag)
	}, time.Minute, 2*time.Millisecond)
	require.NoError(s.t, s.server.decider.Flush())
}

func TestFifthGuessRedirects(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fail("192.0.2.66", 4)
	s.evaluated()
	require.Empty(t, s.got(), "four guesses are no offence")
	s.fail("192.0.2.67", 4)
	s.fail("192.0.2.66", 1)
	s.evaluated()
	require.Eventually(t, func() bool { return len(s.got()) == 1 }, time.Minute, time.Millisecond)
	r := s.got()[0].Put[0]
	require.Equal(t, netip.MustParsePrefix("192.0.2.66/32"), r.Source)
	require.Equal(t, uint16(22), r.Port)
	require.Equal(t, netip.MustParseAddr("198.51.100.20"), r.Endpoint.Addr())

	d, err := bus.Request[struct{}, event.Desired](t.Context(), s.host, bus.DesiredSubject("web"), struct{}{})
	require.NoError(t, err)
	require.Len(t, d.Redirects, 1)
	require.Contains(t, d.Nodes, netip.MustParseAddr("198.51.100.20"))

	_, err = bus.Request[event.HostStatus, struct{}](t.Context(), s.host, bus.StatusSubject("web"), event.HostStatus{
		Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, Applied: []event.Applied{{ID: r.ID, State: event.Active, At: time.Now()}},
	})
	require.NoError(t, err)
	stored, err := api.Show[event.Redirect](t.Context(), s.api, api.PathRedirects, r.ID)
	require.NoError(t, err)
	require.Equal(t, event.Active, stored.State)
	o, err := api.Show[event.Offence](t.Context(), s.api, api.PathOffences, r.OffenceID)
	require.NoError(t, err)
	require.Len(t, o.Proof, 5)
	require.Contains(t, o.Proof[4].Line, "Failed password for root from 192.0.2.66")

	s.fail("203.0.113.10", 9)
	s.fail("198.51.100.20", 9)
	s.evaluated()
	require.Len(t, s.got(), 1, "a host's and a node's own addresses are never redirected")
}

func TestOffenceFiresOnceWhateverStops(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fail("192.0.2.66", 4)
	s.evaluated()
	s.stop()
	s.start()
	s.fail("192.0.2.66", 1)
	s.evaluated()
	require.Eventually(t, func() bool { return len(s.got()) == 1 }, time.Minute, time.Millisecond, "the window outlived the restart")
	s.stop()
	// A crash before the checkpoint: everything is read again.
	s.start()
	s.stop()
	forget(t, s)
	s.start()
	s.evaluated()
	offences, err := api.List[event.Offence](t.Context(), s.api, api.PathOffences, api.Filter{Source: netip.MustParsePrefix("192.0.2.66/32")})
	require.NoError(t, err)
	require.Len(t, offences, 1)
	require.Len(t, s.got(), 1)
	require.Len(t, s.server.decider.Board().Desired("web").Redirects, 1)

	released, err := s.api.Release(t.Context(), "192.0.2.66")
	require.NoError(t, err)
	require.Len(t, released, 1)
	s.stop()
	forget(t, s)
	s.start()
	s.evaluated()
	require.Empty(t, s.server.decider.Board().Desired("web").Redirects, "what was released isn't redirected again by old lines")
	s.fail("192.0.2.66", 5)
	s.evaluated()
	require.Len(t, s.server.decider.Board().Desired("web").Redirects, 1, "but by new ones")
}

// forget throws the checkpoint away, as if the server had crashed before it made any.
func forget(t *testing.T, s *site) {
	t.Helper()
	st := openStore(t, s)
	require.NoError(t, st.SaveCheckpoint(t.Context(), checkpointZero()))
	require.NoError(t, st.Close())
}

func TestSecondRoadIsNotEvaluated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fail("192.0.2.66", 3)
	b := event.Batch{Host: "web", Road: event.RoadSyslogTCP, Origin: "203.0.113.10", Received: time.Now(), ID: "second"}
	for i := range 9 {
		b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web sshd[%d]: Failed password for root from 192.0.2.66 port 9 ssh2", time.Now().Format(time.RFC3339), i))
	}
	require.NoError(t, s.server.conn.PublishBatch(t.Context(), b))
	b.Road, b.ID, b.Host = event.RoadSyslogUDP, "third", "db"
	require.NoError(t, s.server.conn.PublishBatch(t.Context(), b))
	s.evaluated()
	require.Empty(t, s.got())
	st, err := s.api.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(9), st.Counters["events_second_road"]["web syslog-tcp"])
	require.Equal(t, int64(9), st.Counters["events_untrusted"]["db"])
}

func TestOperator(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	_, err := s.api.AllowAdd(ctx, netip.MustParsePrefix("192.0.2.0/25"), "ours")
	require.NoError(t, err)
	s.fail("192.0.2.66", 6)
	s.fail("192.0.2.166", 6)
	s.evaluated()
	require.Len(t, s.server.decider.Board().Live(nil), 1)
	released, err := s.api.AllowAdd(ctx, netip.MustParsePrefix("192.0.2.160/28"), "")
	require.NoError(t, err)
	require.Len(t, released, 1, "who comes on the allow-list is released")

	added, err := s.api.AddRedirects(ctx, api.AddRedirect{Source: netip.MustParsePrefix("192.0.2.200/32"), Service: event.SSH, Host: "web", TTL: time.Hour})
	require.NoError(t, err)
	require.Len(t, added, 1)
	_, err = s.api.Pause(ctx)
	require.NoError(t, err)
	s.stop()
	s.start()
	st, err := s.api.Status(ctx)
	require.NoError(t, err)
	require.True(t, st.Paused, "a restart resumes nothing")
	require.Zero(t, st.LiveRedirects)
	s.fail("192.0.2.210", 5)
	s.evaluated()
	require.Empty(t, s.server.decider.Board().Live(nil))
	require.NoError(t, s.api.Resume(ctx))
	s.fail("192.0.2.210", 5)
	s.evaluated()
	require.Len(t, s.server.decider.Board().Live(nil), 1, "who offended during the pause is no safer than others after it")

	require.NoError(t, s.api.Remove(ctx, api.PathHosts, "web"))
	require.Empty(t, s.server.decider.Board().Live(nil), "a host that is removed is released")
	require.Eventually(t, func() bool { return !s.host.Connected() }, time.Minute, time.Millisecond, "and its agent is cut off")
}
