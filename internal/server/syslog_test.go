package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// sender is what rsyslog-config makes for a host's rsyslog.
func (s *site) sender(t *testing.T, name string) *tls.Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	csr, err := pki.PrepareSyslog(dir)
	require.NoError(t, err)
	issued, err := s.api.IssueSyslog(t.Context(), name, string(csr))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(365*24*time.Hour), issued.ExpiresAt, time.Hour)
	require.NoError(t, pki.WriteSyslog(dir, []byte(issued.Certificate), []byte(issued.Authority)))
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(issued.Authority)))
	return &tls.Config{RootCAs: pool, ServerName: pki.ServerName, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

func (s *site) sendTLS(t *testing.T, c *tls.Config, lines ...string) {
	t.Helper()
	d := tls.Dialer{Config: c}
	conn, err := d.DialContext(t.Context(), "tcp", s.server.intake.TLSAddresses()[0].String())
	require.NoError(t, err)
	for _, l := range lines {
		_, err = fmt.Fprintf(conn, "%d %s", len(l), l)
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close())
}

func (s *site) hostFindings(t *testing.T) string {
	t.Helper()
	all, err := api.List[api.Host](t.Context(), s.api, api.PathHosts, api.Filter{})
	require.NoError(t, err)
	var out strings.Builder
	for _, h := range all {
		for _, f := range h.Findings {
			fmt.Fprintf(&out, "%s: %s: %s\n", h.Name, f.Subject, f.Text)
		}
	}
	return out.String()
}

// TestSyslogOverTLS: from the certificate that the command asks for to what people are shown: honest guesses make an
// offence; forged lines, and lines in another host's name, make none, are counted and shown; who is removed is refused.
func TestSyslogOverTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Server) {
		c.Syslog.ListenTLS = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
		c.Syslog.Relays = []string{"loghost", "192.0.2.0/24"}
		c.Hosts = []config.HostInfo{{Name: "db"}}
	})
	_, err := s.api.IssueSyslog(t.Context(), "stranger", "")
	require.ErrorContains(t, err, "there is no host or relay stranger")

	line := func(host, writer, source string, port int) string {
		return fmt.Sprintf("<38>1 %s %s sshd %d - %s Failed password for root from %s port %d ssh2", time.Now().UTC().Format(time.RFC3339Nano), host, port, writer, source, port)
	}
	const proven, forged = `[kokkuri@32473 uid="0" exe="/usr/sbin/sshd"]`, `[kokkuri@32473 uid="1000" exe="/usr/bin/logger"]`
	var lines []string
	for i := range 10 {
		lines = append(lines, line("web", proven, "203.0.113.66", 1000+i), line("web", forged, "203.0.113.77", 2000+i), line("db", proven, "203.0.113.88", 3000+i))
	}
	web, loghost := s.sender(t, "web"), s.sender(t, "loghost")
	s.sendTLS(t, web, lines...)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		offences, err := api.List[event.Offence](t.Context(), s.api, api.PathOffences, api.Filter{})
		require.NoError(c, err)
		var sources []string
		for _, o := range offences {
			if o.Source.IsValid() { // some rules group by account
				sources = append(sources, o.Source.String())
			}
			assert.Equal(c, 5, o.Count)
		}
		assert.Equal(c, []string{"203.0.113.66/32"}, sources)
	}, time.Minute, 5*time.Millisecond)
	s.evaluated()
	found := s.hostFindings(t)
	assert.Contains(t, found, "web: syslog: 10 lines that it sent name another host")
	st, err := s.api.Status(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 10, sum(st.Counters["lines_forged"]))
	assert.EqualValues(t, 10, st.Counters["intake"]["quarantined_other_host"])
	assert.Equal(t, "web", st.Quarantine[0].Host)

	// Through the relay lines of db count as db's.
	s.sendTLS(t, loghost, line("db", "-", "203.0.113.20", 1), line("stranger", "-", "203.0.113.20", 2))
	require.Eventually(t, func() bool {
		return s.server.intake.QuarantinedOf("loghost") == 1
	}, time.Minute, 5*time.Millisecond)

	require.NoError(t, s.api.Remove(t.Context(), api.PathHosts, "web"))
	d := tls.Dialer{Config: web}
	if conn, err := d.DialContext(t.Context(), "tcp", s.server.intake.TLSAddresses()[0].String()); err == nil {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is open still")
		_ = conn.Close()
	}
}

func sum(by map[string]int64) (n int64) {
	for _, v := range by {
		n += v
	}
	return n
}
