package certificate_test

import (
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/certificate"
)

func TestCertificateIsTheHostsAndStays(t *testing.T) {
	dir := t.TempDir()
	s, err := certificate.Open(dir)
	require.NoError(t, err)
	first, err := s.Of("web-3.example.net")
	require.NoError(t, err)
	other, err := s.Of("../../etc/x")
	require.NoError(t, err)
	assert.NotEqual(t, first.Certificate, other.Certificate)
	again, err := certificate.Open(dir)
	require.NoError(t, err)
	same, err := again.Of("web-3.example.net")
	require.NoError(t, err)
	assert.Equal(t, first.Certificate, same.Certificate, "over a restart, too")

	c, err := x509.ParseCertificate(first.Certificate[0])
	require.NoError(t, err)
	assert.Equal(t, "CN=web-3.example.net", c.Subject.String())
	assert.Equal(t, c.Subject.String(), c.Issuer.String())
	assert.Equal(t, []string{"web-3.example.net"}, c.DNSNames)
	assert.Equal(t, 10*365*24*time.Hour, c.NotAfter.Sub(c.NotBefore))
	assert.Greater(t, time.Since(c.NotBefore), 59*24*time.Hour, "not as new as the attacker's visit")
	assert.False(t, c.IsCA)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 2)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
}
