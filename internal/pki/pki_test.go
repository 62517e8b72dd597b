package pki_test

import (
	"crypto/x509"
	"encoding/pem"
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
	_, err = ca.NewToken(t.Context(), pki.NewMemoryTokens(), pki.RoleServer, "n1", time.Minute)
	require.ErrorContains(t, err, "allowed are")
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
