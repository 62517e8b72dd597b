package pki_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// site is a bus that enrols.
type site struct {
	ca     *pki.CA
	broker *broker.Broker
	tokens *pki.MemoryTokens
	clock  *clock
	addr   string
	conn   *bus.Conn
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{tokens: pki.NewMemoryTokens(), clock: newClock()}
	dir := t.TempDir()
	s.ca = openCA(t, filepath.Join(dir, "pki"), s.clock)
	cfg, err := s.ca.ServerTLS(nil, nil)
	require.NoError(t, err)
	s.broker, err = broker.New(broker.Options{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), TLS: cfg, StoreDir: filepath.Join(dir, "bus"), Revoked: s.ca.Revoked,
	})
	require.NoError(t, err)
	require.NoError(t, s.broker.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.broker.Stop(context.Background())) })
	s.conn, err = s.broker.Dial(t.Context(), bus.Options{})
	require.NoError(t, err)
	t.Cleanup(s.conn.Close)
	stop, err := s.ca.Serve(pki.ServeOptions{Conn: s.conn, Tokens: s.tokens})
	require.NoError(t, err)
	t.Cleanup(stop)
	s.addr = s.broker.ClientURL()
	return s
}

func (s *site) token(t *testing.T, role pki.Role, name string) string {
	t.Helper()
	token, err := s.ca.NewToken(t.Context(), s.tokens, role, name, time.Hour)
	require.NoError(t, err)
	return token.String()
}

func (s *site) dial(t *testing.T, dir string) (*pki.Client, *bus.Conn) {
	t.Helper()
	id, err := pki.LoadClient(dir)
	require.NoError(t, err)
	c, err := bus.Dial(t.Context(), id.BusOptions(nil))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, c.WaitConnected(ctx))
	return id, c
}

func TestEnrol(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "id")
	token := s.token(t, pki.RoleHost, "web")
	require.NoError(t, pki.Enroll(t.Context(), s.addr, token, dir))
	id, _ := s.dial(t, dir)
	assert.Equal(t, pki.RoleHost, id.Role)
	assert.Equal(t, "web", id.Name)
	assert.Equal(t, []string{s.addr}, id.Servers)

	// The answer may have been lost: the same machine may ask again with the same token, another may not.
	require.NoError(t, pki.Enroll(t.Context(), s.addr, token, dir))
	err := pki.Enroll(t.Context(), s.addr, token, filepath.Join(t.TempDir(), "id"))
	require.ErrorIs(t, err, pki.ErrTokenUsed)
	require.ErrorContains(t, err, "kokkuri enroll web")
}

func TestEnrolErrors(t *testing.T) {
	s, other := newSite(t), newSite(t)
	dir := filepath.Join(t.TempDir(), "id")
	good := s.token(t, pki.RoleHost, "web")

	err := pki.Enroll(t.Context(), other.addr, good, dir)
	require.ErrorIs(t, err, pki.ErrWrongServer)
	require.ErrorContains(t, err, "check the address")

	unknown, err := s.ca.NewToken(t.Context(), pki.NewMemoryTokens(), pki.RoleHost, "web", time.Hour)
	require.NoError(t, err)
	err = pki.Enroll(t.Context(), s.addr, unknown.String(), dir)
	require.ErrorIs(t, err, pki.ErrTokenUnknown)
	require.ErrorContains(t, err, "kokkuri enroll web")

	s.clock.add(time.Hour + time.Second)
	err = pki.Enroll(t.Context(), s.addr, good, dir)
	require.ErrorIs(t, err, pki.ErrTokenExpired)
	require.ErrorContains(t, err, "this token expired on ")

	for _, bad := range []string{"", "kk2_abc", good[:len(good)-3], good + "aa", "kk1_", "kk1_!!"} {
		err = pki.Enroll(t.Context(), s.addr, bad, dir)
		require.ErrorIs(t, err, pki.ErrTokenMalformed, bad)
		require.ErrorContains(t, err, "kokkuri enroll")
	}

	err = pki.Enroll(t.Context(), "127.0.0.1", good, dir)
	require.ErrorContains(t, err, "want ADDRESS:PORT")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	err = pki.Enroll(t.Context(), addr, good, dir)
	require.ErrorContains(t, err, "nothing listens there")

	_, err = pki.LoadClient(dir)
	require.ErrorIs(t, err, pki.ErrNotEnrolled, "nothing that failed left an identity")
}

func TestEnrolAtSomethingElse(t *testing.T) {
	s := newSite(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2p1\r\n"))
		_ = conn.Close()
	}()
	err = pki.Enroll(t.Context(), l.Addr().String(), s.token(t, pki.RoleHost, "web"), filepath.Join(t.TempDir(), "id"))
	require.ErrorContains(t, err, "not Kokkuri's bus")
	require.NoError(t, l.Close())
	<-served
}

// A server whose chain contains the pinned CA but whose own certificate is not of it must be refused.
func TestEnrolRefusesForeignLeafWithPinnedCA(t *testing.T) {
	s := newSite(t)
	evil := openCA(t, t.TempDir(), newClock())
	cfg, err := evil.ServerTLS(nil, nil)
	require.NoError(t, err)
	cert, err := cfg.GetCertificate(nil)
	require.NoError(t, err)
	block, _ := pem.Decode(s.ca.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Certificate[0], block.Bytes}, PrivateKey: cert.PrivateKey}},
	})
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).HandshakeContext(context.Background())
			_ = conn.Close()
		}
	}()
	err = pki.Enroll(t.Context(), l.Addr().String(), s.token(t, pki.RoleHost, "web"), filepath.Join(t.TempDir(), "id"))
	require.ErrorIs(t, err, pki.ErrWrongServer)
	require.NoError(t, l.Close())
	<-served
}

func TestRenew(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "id")
	require.NoError(t, pki.Enroll(t.Context(), s.addr, s.token(t, pki.RoleNode, "n1"), dir))
	id, conn := s.dial(t, dir)
	before, err := id.TLS.GetClientCertificate(nil)
	require.NoError(t, err)
	require.NoError(t, id.Renew(t.Context(), conn))
	after, err := id.TLS.GetClientCertificate(nil)
	require.NoError(t, err)
	assert.NotEqual(t, before.Leaf.SerialNumber, after.Leaf.SerialNumber)
	role, name, err := pki.Identity(after.Leaf)
	require.NoError(t, err)
	assert.Equal(t, pki.RoleNode, role)
	assert.Equal(t, "n1", name)
}

func TestKeepRenewed(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "id")
	require.NoError(t, s.ca.IssueIdentity(dir, pki.RoleHost, "web", []string{s.addr}))
	serial := func() string {
		id, err := pki.LoadClientAt(dir, s.clock.now)
		require.NoError(t, err)
		cert, err := id.TLS.GetClientCertificate(nil)
		require.NoError(t, err)
		return cert.Leaf.SerialNumber.Text(16)
	}
	id, err := pki.LoadClientAt(dir, s.clock.now)
	require.NoError(t, err)
	connected := make(chan struct{}, 8)
	opts := id.BusOptions(nil)
	opts.OnReconnect = func() { connected <- struct{}{} }
	conn, err := bus.Dial(t.Context(), opts)
	require.NoError(t, err)
	defer conn.Close()
	<-connected

	first := serial()
	s.clock.add(59 * 24 * time.Hour)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	id.KeepRenewed(ctx, conn, nil) // looks once
	assert.Equal(t, first, serial(), "not due")

	s.clock.add(2 * 24 * time.Hour)
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	ended := make(chan struct{})
	go func() { defer close(ended); id.KeepRenewed(ctx, conn, nil) }()
	<-connected // anew, with the renewed certificate
	assert.NotEqual(t, first, serial())
	stop()
	<-ended

	s.clock.add(91 * 24 * time.Hour)
	_, err = pki.LoadClientAt(dir, s.clock.now)
	require.ErrorContains(t, err, "expired on")
	require.ErrorContains(t, err, "enrol this machine again")
}

func TestRevokedIsKickedAndStaysOut(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "id")
	require.NoError(t, s.ca.IssueIdentity(dir, pki.RoleHost, "web", []string{s.addr}))
	id, err := pki.LoadClient(dir)
	require.NoError(t, err)
	lost := make(chan error, 16)
	conn, err := bus.Dial(t.Context(), bus.Options{URLs: id.Servers, TLS: id.TLS, OnDisconnect: func(err error) {
		select {
		case lost <- err:
		default:
		}
	}})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.WaitConnected(t.Context()))

	n, err := s.ca.Revoke(pki.RoleHost, "web")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 1, s.broker.Disconnect(pki.RoleHost, "web"))
	require.Error(t, <-lost)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, conn.WaitConnected(ctx), context.DeadlineExceeded)
	stats, err := s.broker.Stats(t.Context())
	require.NoError(t, err)
	assert.NotZero(t, stats.Refused)
}
