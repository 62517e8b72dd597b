package broker_test

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

func TestMain(m *testing.M) {
	if runChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// site is a bus with its authority, on a free loopback port.
type site struct {
	ca     *pki.CA
	broker *broker.Broker
	dir    string
	log    *slog.Logger
}

func testLog(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newSite(tb testing.TB, change ...func(*broker.Options)) *site {
	tb.Helper()
	s := &site{dir: tb.TempDir(), log: testLog(tb)}
	var err error
	s.ca, err = pki.OpenCA(pki.Options{Dir: filepath.Join(s.dir, "pki"), Log: s.log})
	require.NoError(tb, err)
	tlsConfig, err := s.ca.ServerTLS(nil, nil)
	require.NoError(tb, err)
	opts := broker.Options{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), TLS: tlsConfig, StoreDir: filepath.Join(s.dir, "bus"), Revoked: s.ca.Revoked, Log: s.log,
	}
	for _, f := range change {
		f(&opts)
	}
	s.broker, err = broker.New(opts)
	require.NoError(tb, err)
	require.NoError(tb, s.broker.Start(tb.Context()))
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(tb, s.broker.Stop(ctx))
	})
	return s
}

func (s *site) server(tb testing.TB) *bus.Conn {
	tb.Helper()
	c, err := s.broker.Dial(tb.Context(), bus.Options{Log: s.log})
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	return c
}

func (s *site) identity(tb testing.TB, role pki.Role, name string) *pki.Client {
	tb.Helper()
	dir := filepath.Join(s.dir, string(role)+"-"+name)
	require.NoError(tb, s.ca.IssueIdentity(dir, role, name, []string{s.broker.ClientURL()}))
	c, err := pki.LoadClient(dir)
	require.NoError(tb, err)
	return c
}

func (s *site) dial(tb testing.TB, role pki.Role, name string, change ...func(*bus.Options)) *bus.Conn {
	tb.Helper()
	id := s.identity(tb, role, name)
	opts := bus.Options{URLs: id.Servers, TLS: id.TLS, Name: name, Log: s.log}
	for _, f := range change {
		f(&opts)
	}
	c, err := bus.Dial(tb.Context(), opts)
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	require.NoError(tb, c.WaitConnected(ctx))
	return c
}

func batch(host, id string, lines ...string) event.Batch {
	b := event.Batch{Host: host, Road: event.RoadAgent, Origin: "/var/log/auth.log", Received: time.Now().UTC(), ID: id}
	for _, l := range lines {
		b.Lines = append(b.Lines, []byte(l))
	}
	return b
}

func TestRoundTrips(t *testing.T) {
	s := newSite(t)
	server, host, node := s.server(t), s.dial(t, pki.RoleHost, "web"), s.dial(t, pki.RoleNode, "n1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	want := batch("web", "web/1/0", "one", "", "three \xff\x00")
	require.NoError(t, host.PublishBatch(ctx, want))
	stopConsume, consumed := context.WithCancel(ctx)
	defer consumed()
	var got event.Batch
	require.NoError(t, server.ConsumeBatches(stopConsume, "detector", 0, func(_ context.Context, seq uint64, b event.Batch) error {
		require.EqualValues(t, 1, seq)
		got = b
		consumed()
		return nil
	}))
	require.Equal(t, want, got)

	changes := make(chan event.Change, 1)
	stop, err := bus.Subscribe(host, bus.RedirectsSubject("web"), func(c event.Change) { changes <- c })
	require.NoError(t, err)
	defer stop()
	require.NoError(t, bus.Publish(server, bus.RedirectsSubject("web"), event.Change{Revision: 7, Epoch: "e"}))
	require.EqualValues(t, 7, (<-changes).Revision)

	stopDesired, err := bus.Serve(server, bus.DesiredSubject("*"), func(_ context.Context, host string, _ struct{}) (event.Desired, error) {
		return event.Desired{Revision: 3, Epoch: host}, nil
	})
	require.NoError(t, err)
	defer stopDesired()
	desired, err := bus.Request[struct{}, event.Desired](ctx, host, bus.DesiredSubject("web"), struct{}{})
	require.NoError(t, err)
	require.Equal(t, event.Desired{Revision: 3, Epoch: "web"}, desired)

	stopLease, err := bus.Serve(node, bus.LeaseSubject("n1"), func(_ context.Context, name string, in event.LeaseRequest) (event.LeaseReply, error) {
		if in.Op != "grant" {
			return event.LeaseReply{}, &bus.RemoteError{Code: "op", Text: "unknown op"}
		}
		return event.LeaseReply{Lease: event.Lease{Node: name}}, nil
	})
	require.NoError(t, err)
	defer stopLease()
	for range 3 { // each request earns the node the right to one answer
		reply, err := bus.Request[event.LeaseRequest, event.LeaseReply](ctx, server, bus.LeaseSubject("n1"), event.LeaseRequest{Op: "grant"})
		require.NoError(t, err)
		require.Equal(t, "n1", reply.Lease.Node)
	}
	_, err = bus.Request[event.LeaseRequest, event.LeaseReply](ctx, server, bus.LeaseSubject("n1"), event.LeaseRequest{Op: "x"})
	var remote *bus.RemoteError
	require.ErrorAs(t, err, &remote)
	require.Equal(t, "op", remote.Code)

	require.NoError(t, node.PublishSession(ctx, event.SessionReport{Session: event.Session{ID: "aa", Node: "n1", StartedAt: time.Now().UTC()}}))
	stopSessions, done := context.WithCancel(ctx)
	defer done()
	var sessions []event.Session
	require.NoError(t, server.ConsumeSessions(stopSessions, "store", func(_ context.Context, r event.SessionReport) error {
		sessions = append(sessions, r.Session)
		done()
		return nil
	}))
	require.Len(t, sessions, 1)
	require.Equal(t, "n1", sessions[0].Node)
}
