package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that the test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openCA(t *testing.T, dir string, c *clock) *pki.CA {
	t.Helper()
	ca, err := pki.OpenCA(pki.Options{Dir: dir, Now: c.now})
	require.NoError(t, err)
	return ca
}

func TestAuthorityIsMadeOnceAndKeptPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	c := newClock()
	ca := openCA(t, dir, c)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(dir, "ca.pem"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Equal(t, ca.Fingerprint(), openCA(t, dir, c).Fingerprint())

	block, _ := pem.Decode(ca.Certificate())
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	assert.True(t, cert.IsCA)
	assert.WithinDuration(t, c.now().AddDate(10, 0, 0), cert.NotAfter, 4*24*time.Hour)

	// Losing the key must not silently begin another authority.
	require.NoError(t, ca.IssueIdentity(filepath.Join(t.TempDir(), "id"), pki.RoleHost, "web", []string{"a:1"}))
	require.NoError(t, os.Remove(filepath.Join(dir, "ca.pem")))
	_, err = pki.OpenCA(pki.Options{Dir: dir})
	require.ErrorContains(t, err, "restore it from your backup")
}

func TestDamagedLedgerIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	ca := openCA(t, dir, newClock())
	require.NoError(t, ca.IssueIdentity(filepath.Join(t.TempDir(), "id"), pki.RoleHost, "web", nil))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "issued.json"), []byte("[{"), 0o600))
	_, err := pki.OpenCA(pki.Options{Dir: dir})
	require.ErrorContains(t, err, "is damaged")
}

func TestServerCertificate(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	ca := openCA(t, dir, c)
	get := func(names []string, addrs ...netip.Addr) func() *x509.Certificate {
		cfg, err := ca.ServerTLS(names, addrs)
		require.NoError(t, err)
		return func() *x509.Certificate {
			cert, err := cfg.GetCertificate(nil)
			require.NoError(t, err)
			require.Len(t, cert.Certificate, 2, "the CA's certificate is presented too")
			leaf, err := x509.ParseCertificate(cert.Certificate[0])
			require.NoError(t, err)
			return leaf
		}
	}
	cert := get([]string{"kokkuri.example"}, netip.MustParseAddr("::ffff:198.51.100.2"), netip.MustParseAddr("2001:db8:2::2"))
	first := cert()
	for _, name := range []string{pki.ServerName, "kokkuri.example", "198.51.100.2", "2001:db8:2::2"} {
		require.NoError(t, first.VerifyHostname(name))
	}
	require.Error(t, get(nil)().VerifyHostname("kokkuri.example"), "other names, other certificate")

	c.add(59 * 24 * time.Hour)
	assert.Equal(t, first.SerialNumber, cert().SerialNumber)
	c.add(2 * 24 * time.Hour)
	second := cert()
	assert.NotEqual(t, first.SerialNumber, second.SerialNumber, "renewed when two thirds are over")
	assert.True(t, second.NotAfter.After(c.now().AddDate(0, 0, 89)))
}

func TestIdentity(t *testing.T) {
	c := newClock()
	ca := openCA(t, t.TempDir(), c)
	dir := filepath.Join(t.TempDir(), "id")
	_, err := pki.LoadClient(dir)
	require.ErrorIs(t, err, pki.ErrNotEnrolled)
	require.ErrorContains(t, err, "kokkuri-agent enroll --server")

	require.NoError(t, ca.IssueIdentity(dir, pki.RoleHost, "web", []string{"198.51.100.2:12666", "[2001:db8:2::2]:12666"}))
	id, err := pki.LoadClient(dir)
	require.NoError(t, err)
	assert.Equal(t, pki.RoleHost, id.Role)
	assert.Equal(t, "web", id.Name)
	assert.Equal(t, []string{"198.51.100.2:12666", "[2001:db8:2::2]:12666"}, id.Servers)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f.Name())
	}

	key, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	require.NoError(t, err)
	before, err := id.TLS.GetClientCertificate(nil)
	require.NoError(t, err)
	require.NoError(t, ca.IssueIdentity(dir, pki.RoleHost, "web", id.Servers))
	after, err := id.TLS.GetClientCertificate(nil)
	require.NoError(t, err)
	assert.NotEqual(t, before.Leaf.SerialNumber, after.Leaf.SerialNumber, "the renewed certificate is used")
	again, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	require.NoError(t, err)
	assert.Equal(t, key, again, "the key stays")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("x"), 0o600))
	_, err = pki.LoadClient(dir)
	require.ErrorContains(t, err, "enrol this machine again")
}

func TestIssueRefuses(t *testing.T) {
	ca := openCA(t, t.TempDir(), newClock())
	for _, csr := range []string{"", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"} {
		_, err := ca.IssueClient([]byte(csr), pki.RoleHost, "web")
		require.Error(t, err)
	}
	for _, name := range []string{"", "Web", "a.b", "*", ">", "-a", "a-", "a b"} {
		require.ErrorIs(t, ca.IssueIdentity(t.TempDir(), pki.RoleHost, name, nil), bus.ErrName)
	}
	require.ErrorContains(t, ca.IssueIdentity(t.TempDir(), "root", "web", nil), "unknown role")
}

func TestRevoke(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	ca := openCA(t, dir, c)
	serial := func(role pki.Role, name string) string {
		d := filepath.Join(t.TempDir(), "id")
		require.NoError(t, ca.IssueIdentity(d, role, name, nil))
		id, err := pki.LoadClient(d)
		require.NoError(t, err)
		cert, err := id.TLS.GetClientCertificate(nil)
		require.NoError(t, err)
		return cert.Leaf.SerialNumber.Text(16)
	}
	web1, web2, db, node := serial(pki.RoleHost, "web"), serial(pki.RoleHost, "web"), serial(pki.RoleHost, "db"), serial(pki.RoleNode, "web")
	n, err := ca.Revoke(pki.RoleHost, "web")
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	for _, ca := range []*pki.CA{ca, openCA(t, dir, c)} { // and after a restart
		assert.True(t, ca.Revoked(web1))
		assert.True(t, ca.Revoked(web2))
		assert.False(t, ca.Revoked(db))
		assert.False(t, ca.Revoked(node))
	}
	assert.False(t, ca.Revoked(serial(pki.RoleHost, "web")), "enrolled anew, it is welcome")
	n, err = ca.Revoke(pki.RoleHost, "nobody")
	require.NoError(t, err)
	assert.Zero(t, n)
}

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
	c, err := bus.Dial(t.Context(), bus.Options{URLs: id.Servers, TLS: id.TLS})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
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

func TestTokenRoundTrip(t *testing.T) {
	ca := openCA(t, t.TempDir(), newClock())
	token, err := ca.NewToken(t.Context(), pki.NewMemoryTokens(), pki.RoleNode, "n1", time.Minute)
	require.NoError(t, err)
	got, err := pki.ParseToken("  " + token.String() + "\n")
	require.NoError(t, err)
	assert.Equal(t, token, got)
	assert.NotContains(t, token.Hash(), token.String())
	_, err = ca.NewToken(t.Context(), pki.NewMemoryTokens(), pki.RoleNode, "n1", -time.Minute)
	require.Error(t, err)
}

func FuzzParseToken(f *testing.F) {
	ca, err := pki.OpenCA(pki.Options{Dir: f.TempDir()})
	require.NoError(f, err)
	for _, name := range []string{"web", "a", "db-01"} {
		token, err := ca.NewToken(f.Context(), pki.NewMemoryTokens(), pki.RoleHost, name, time.Hour)
		require.NoError(f, err)
		f.Add(token.String())
		f.Add(token.String()[:40])
	}
	f.Add("")
	f.Add("kk1_")
	f.Add("kk1_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := pki.ParseToken(s)
		if err != nil {
			require.ErrorIs(t, err, pki.ErrTokenMalformed)
			return
		}
		again, err := pki.ParseToken(token.String())
		require.NoError(t, err)
		require.Equal(t, token, again, "one token, one form")
		require.NoError(t, bus.ValidName(token.Name))
	})
}
