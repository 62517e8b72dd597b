package broker_test

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// TestSendBatchKeepsTheOrder: batches that are under way at the same time are stored in the order in which they were sent, once.
func TestSendBatchKeepsTheOrder(t *testing.T) {
	s := newSite(t)
	server, web := s.server(t), s.dial(t, pki.RoleHost, "web")
	var want []string
	for _, c := range []*bus.Conn{web, server} { // over TLS and in process
		var waiting []*bus.Pending
		for range 500 {
			id := strconv.Itoa(len(want))
			want = append(want, id)
			p, err := c.SendBatch(batch("web", id, "line"))
			require.NoError(t, err)
			waiting = append(waiting, p)
		}
		for _, p := range waiting {
			require.NoError(t, p.Wait(deadline(t)))
		}
	}
	last, err := server.SendBatch(batch("web", "end", "line"))
	require.NoError(t, err)
	require.NoError(t, last.Wait(deadline(t)))
	require.NoError(t, last.Wait(deadline(t)), "once more is no harm")
	got, _ := collect(t, server, 0, "end")
	assert.Equal(t, append(want, "end"), got)
	_, err = server.SendBatch(batch("web", "", "line"))
	require.ErrorIs(t, err, bus.ErrBatch)
}

// TestSendBatchOutlivesTheServer: what was under way when the server stopped, or was sent while there was none, is stored once.
func TestSendBatchOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.OpenCA(pki.Options{Dir: dir + "/pki"})
	require.NoError(t, err)
	cfg, err := ca.ServerTLS(nil, nil)
	require.NoError(t, err)
	opts := broker.Options{Listen: netip.MustParseAddrPort("127.0.0.1:0"), TLS: cfg, StoreDir: dir + "/bus", Log: testLog(t)}
	start := func() *broker.Broker {
		b, err := broker.New(opts)
		require.NoError(t, err)
		require.NoError(t, b.Start(t.Context()))
		return b
	}
	b := start()
	opts.Listen = netip.MustParseAddrPort(b.ClientURL())
	require.NoError(t, ca.IssueIdentity(dir+"/web", pki.RoleHost, "web", []string{opts.Listen.String()}))
	id, err := pki.LoadClient(dir + "/web")
	require.NoError(t, err)
	web, err := bus.Dial(t.Context(), bus.Options{URLs: id.Servers, TLS: id.TLS, Log: testLog(t)})
	require.NoError(t, err)
	defer web.Close()
	require.NoError(t, web.WaitConnected(deadline(t)))
	var waiting []*bus.Pending
	var want []string
	for round := range 3 {
		for i := range 100 {
			if i == 50 {
				require.NoError(t, b.Stop(t.Context()))
			}
			id := strconv.Itoa(100*round + i)
			p, err := web.SendBatch(batch("web", id, "line"))
			require.NoError(t, err)
			waiting, want = append(waiting, p), append(want, id)
		}
		if round == 0 {
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, waiting[99].Wait(gone), context.Canceled)
		}
		b = start()
		for _, p := range waiting {
			require.NoError(t, p.Wait(deadline(t)))
		}
		waiting = nil
	}
	defer func() { require.NoError(t, b.Stop(context.Background())) }()
	server, err := b.Dial(t.Context(), bus.Options{})
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.PublishBatch(deadline(t), batch("web", "end", "line")))
	got, _ := collect(t, server, 0, "end")
	slices.Sort(got) // across a lost connection the order may differ
	want = append(want, "end")
	slices.Sort(want)
	assert.Equal(t, want, got)
}
