package collect

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority signs certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	a := &authority{dir: dir}
	a.cert, a.key = a.issue(t, name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes NAME.crt and NAME.key.
func (a *authority) issue(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	c.Subject, c.NotBefore, c.NotAfter = pkix.Name{CommonName: name}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.file(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// TestRedisOverTLS reads the ACL LOG of a real redis-server that speaks TLS and asks clients for certificates, as it does by
// default, and says what is wrong where one side can't prove who it is.
func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, t.TempDir(), "ca")
	ca.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"redis.example.org"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	ca.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	other := newAuthority(t, filepath.Join(t.TempDir(), "other"), "ca")
	other.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})

	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
	require.NoError(t, l.Close())
	r := startRedis(t, "", "--tls-port", strconv.Itoa(port), "--tls-ca-cert-file", ca.file("ca.crt"),
		"--tls-cert-file", ca.file("server.crt"), "--tls-key-file", ca.file("server.key"),
		"--user", "kokkuri", "on", ">secret", "+acl|log", "+time", "+info", "+config|get")
	good := Redis{
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Username: "kokkuri", PasswordFile: password,
		TLS: true, CAFile: ca.file("ca.crt"), CertFile: ca.file("client.crt"), KeyFile: ca.file("client.key"),
	}
	guess := func(n int) {
		for i := range n {
			out, _ := exec.CommandContext(t.Context(), "redis-cli", "-p", strconv.Itoa(port), "--tls", "--cacert", good.CAFile,
				"--cert", good.CertFile, "--key", good.KeyFile, "--user", "admin", "--pass", "guess"+strconv.Itoa(i), "PING").CombinedOutput()
			require.Contains(t, string(out), "WRONGPASS")
		}
	}
	s := &stream{}
	o := Options{StateDir: t.TempDir(), Publish: s.publish, Redis: []Redis{good}}
	c, stop := begun(t, o)
	begins := func(o Options) {
		require.Eventually(t, func() bool {
			found, _ := filepath.Glob(filepath.Join(o.StateDir, "cursors", "redis-*.json"))
			return len(found) == 1
		}, time.Minute, 10*time.Millisecond)
	}
	begins(o)
	guess(7)
	counts(t, s, map[string]int{"admin": 7})
	require.Empty(t, c.Findings())

	// While it was away, and over a restart of the server.
	stop()
	guess(3)
	c, stop = begun(t, o)
	counts(t, s, map[string]int{"admin": 10})
	r.stop()
	r.start(t)
	guess(2)
	counts(t, s, map[string]int{"admin": 12})
	require.Eventually(t, func() bool { return len(c.Findings()) == 0 }, time.Minute, 10*time.Millisecond, "it is connected again")
	stop()

	named := good
	named.ServerName = "redis.example.org"
	o = Options{StateDir: t.TempDir(), Publish: s.publish, Redis: []Redis{named}}
	_, stop = begun(t, o)
	begins(o)
	stop()

	for name, test := range map[string]struct {
		change func(*Redis)
		want   string
	}{
		"no certificate":        {func(r *Redis) { r.CertFile, r.KeyFile = "", "" }, "connect"},
		"another's certificate": {func(r *Redis) { r.CertFile, r.KeyFile = other.file("client.crt"), other.file("client.key") }, "connect"},
		"another authority":     {func(r *Redis) { r.CAFile = other.file("ca.crt") }, "signed by unknown authority"},
		"another name":          {func(r *Redis) { r.ServerName = "else.example.org" }, "else.example.org"},
		"no file":               {func(r *Redis) { r.CertFile = "/nowhere/client.crt" }, "/nowhere/client.crt"},
		"no TLS":                {func(r *Redis) { r.TLS = false }, "connect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good
			test.change(&bad)
			c, _ := begun(t, Options{StateDir: t.TempDir(), Publish: s.publish, Redis: []Redis{bad}})
			require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
			require.Contains(t, c.Findings()[0].Text, test.want)
			require.Contains(t, c.Findings()[0].Mend, "tls")
		})
	}
}
