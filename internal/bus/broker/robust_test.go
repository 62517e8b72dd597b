package broker_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/pki"
)

func TestGarbageDisturbsNobody(t *testing.T) {
	s := newSite(t)
	var lost atomic.Int32
	web := s.dial(t, pki.RoleHost, "web", func(o *bus.Options) { o.OnDisconnect = func(error) { lost.Add(1) } })
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise)
	hello := append([]byte{0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0x00, 0x3f, 0xfc}, noise[:500]...)
	payloads := map[string][]byte{
		"http": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "nats": []byte("CONNECT {}\r\nPING\r\nPUB logs.web 1\r\nx\r\n"), "noise": noise,
		"half a hello": hello, "zeros": make([]byte, 4096), "newlines": []byte("\r\n\r\n\r\n"), "ssh": []byte("SSH-2.0-x\r\n"), "nothing": nil,
	}
	var conns []net.Conn
	var wg sync.WaitGroup
	d := net.Dialer{Timeout: 5 * time.Second}
	for range 20 {
		for _, p := range payloads {
			c, err := d.DialContext(t.Context(), "tcp", s.broker.ClientURL())
			require.NoError(t, err)
			conns = append(conns, c)
			wg.Go(func() {
				_, _ = c.Write(p)
				_, _ = io.Copy(io.Discard, c)
			})
		}
	}
	for range 20 { // TLS is fine, what follows is not
		c, err := tls.DialWithDialer(&d, "tcp", s.broker.ClientURL(), s.noCertificate())
		require.NoError(t, err)
		conns = append(conns, c)
		wg.Go(func() {
			_, _ = c.Write(noise)
			_, _ = io.Copy(io.Discard, c)
		})
	}
	for i := range 200 {
		require.NoError(t, web.PublishBatch(deadline(t), batch("web", strconv.Itoa(i), "line")))
	}
	_, err := tls.DialWithDialer(&d, "tcp", s.broker.ClientURL(), &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	require.ErrorContains(t, err, "protocol version")
	for _, c := range conns {
		_ = c.Close()
	}
	wg.Wait()
	assert.Zero(t, lost.Load())
	ids, _ := collect(t, s.server(t), 0, "199")
	assert.Len(t, ids, 200)
}

func TestSilentConnectionsAreEnded(t *testing.T) {
	s := newSite(t)
	d := net.Dialer{}
	c, err := d.DialContext(t.Context(), "tcp", s.broker.ClientURL())
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.ReadAll(c)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server hangs up by itself")
}

func TestTakenPort(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	ca, err := pki.OpenCA(pki.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	cfg, err := ca.ServerTLS(nil, nil)
	require.NoError(t, err)
	start := func(listen string) error {
		b, err := broker.New(broker.Options{Listen: netip.MustParseAddrPort(listen), TLS: cfg, StoreDir: t.TempDir(), Log: testLog(t)})
		require.NoError(t, err)
		err = b.Start(t.Context())
		require.NoError(t, b.Stop(t.Context()))
		return err
	}
	err = start(fmt.Sprintf("0.0.0.0:%d", port))
	require.ErrorIs(t, err, broker.ErrPortTaken)
	require.ErrorContains(t, err, fmt.Sprintf("port %d on 0.0.0.0 is already in use by ", port))
	require.ErrorContains(t, err, fmt.Sprintf("(process %d)", os.Getpid()))
	require.ErrorContains(t, err, "stop that program or set server.bus.listen")
	require.ErrorContains(t, start("192.0.2.1:12666"), "this machine has no address 192.0.2.1")
	assert.Equal(t, "another program", broker.PortOwner(1))
}

func TestStoreThatCanNotBeWritten(t *testing.T) {
	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	b, err := broker.New(broker.Options{StoreDir: file + "/bus"})
	require.NoError(t, err)
	require.ErrorContains(t, b.Start(t.Context()), "not a directory")
}

// The client outlives its server: what it was about to publish arrives when the server is back.
func TestReconnect(t *testing.T) {
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
	require.NoError(t, b.Stop(t.Context()))

	require.NoError(t, ca.IssueIdentity(dir+"/web", pki.RoleHost, "web", []string{opts.Listen.String()}))
	id, err := pki.LoadClient(dir + "/web")
	require.NoError(t, err)
	connected, lost := make(chan struct{}, 64), make(chan error, 64)
	web, err := bus.Dial(t.Context(), bus.Options{
		URLs: id.Servers, TLS: id.TLS, Log: testLog(t), OnReconnect: func() { connected <- struct{}{} },
		OnDisconnect: func(err error) {
			select {
			case lost <- err:
			default:
			}
		},
	})
	require.NoError(t, err, "a server that does not run yet is no error")
	defer web.Close()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, web.PublishBatch(short, batch("web", "0", "x")), context.DeadlineExceeded)
	require.Error(t, receive(t, lost), "the failed attempts are reported")

	for i := range 3 {
		published := make(chan error, 1)
		go func() { published <- web.PublishBatch(deadline(t), batch("web", strconv.Itoa(i), "x")) }()
		b := start()
		receive(t, connected)
		require.NoError(t, receive(t, published))
		require.NoError(t, b.Stop(t.Context()))
	}
	b = start()
	defer func() { require.NoError(t, b.Stop(context.Background())) }()
	require.NoError(t, web.PublishBatch(deadline(t), batch("web", "end", "x")))
	server, err := b.Dial(t.Context(), bus.Options{})
	require.NoError(t, err)
	defer server.Close()
	ids, _ := collect(t, server, 0, "end")
	assert.Equal(t, []string{"0", "1", "2", "end"}, ids)

	web.Close()
	require.ErrorIs(t, web.PublishBatch(t.Context(), batch("web", "late", "x")), bus.ErrClosed)
	web.Close()
}

func TestInProcessOnly(t *testing.T) {
	_, err := broker.New(broker.Options{})
	require.ErrorContains(t, err, "no store directory")
	_, err = broker.New(broker.Options{StoreDir: t.TempDir(), Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	require.ErrorContains(t, err, "no TLS configuration")

	b, err := broker.New(broker.Options{StoreDir: t.TempDir()})
	require.NoError(t, err)
	_, err = b.Dial(t.Context(), bus.Options{})
	require.ErrorContains(t, err, "does not run")
	_, err = b.Stats(t.Context())
	require.ErrorContains(t, err, "does not run")
	require.NoError(t, b.Start(t.Context()))
	require.ErrorContains(t, b.Start(t.Context()), "runs already")
	assert.Empty(t, b.ClientURL())
	c, err := b.Dial(t.Context(), bus.Options{})
	require.NoError(t, err)
	require.NoError(t, c.PublishBatch(deadline(t), batch("web", "1", "x")))
	c.Close()
	assert.Zero(t, b.Disconnect(pki.RoleHost, "web"))
	require.NoError(t, b.Stop(t.Context()))
	require.NoError(t, b.Stop(t.Context()))
}
