package intake

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/pki"
)

// authority is a CA whose clock a test sets.
type authority struct {
	*pki.CA

	mu  sync.Mutex
	now time.Time
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{now: time.Now()}
	var err error
	a.CA, err = pki.OpenCA(pki.Options{Dir: t.TempDir(), Now: func() time.Time {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.now
	}})
	require.NoError(t, err)
	return a
}

func (a *authority) pass(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}

// certificate makes a folder with key.pem, cert.pem and ca.pem.
func (a *authority) certificate(t *testing.T, role pki.Role, name string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	csr, err := pki.PrepareSyslog(dir)
	require.NoError(t, err)
	cert, err := a.IssueClient(csr, role, name)
	require.NoError(t, err)
	require.NoError(t, pki.WriteSyslog(dir, cert, a.Certificate()))
	return dir
}

// overTLS makes an intake listen for TLS too.
func (a *authority) overTLS(t *testing.T) func(*Options) {
	t.Helper()
	config, err := a.SyslogTLS(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	require.NoError(t, err)
	return func(o *Options) { o.ListenTLS, o.TLS, o.Sender = loopback(), config, a.Sender }
}

// client is the TLS configuration of a sender with a certificate; without one where dir is empty.
func (a *authority) client(t *testing.T, dir string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(a.Certificate()))
	c := &tls.Config{RootCAs: pool, ServerName: pki.ServerName, MinVersion: tls.VersionTLS12}
	if dir != "" {
		cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
		require.NoError(t, err)
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

func dialTLS(t *testing.T, in *Intake, c *tls.Config) net.Conn {
	t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: c}
	conn, err := d.DialContext(t.Context(), "tcp", in.TLSAddresses()[0].String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a, s := newAuthority(t), newStream()
	in, _ := launch(t, s, a.overTLS(t))
	for i, role := range []pki.Role{pki.RoleHost, pki.RoleSyslog} {
		for j, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := a.client(t, a.certificate(t, role, "web"))
			c.MaxVersion = version
			conn := dialTLS(t, in, c)
			send(t, conn, counted("<38>"+line)+counted("<38>1 2026-11-22T18:00:00.1Z db sshd 1 - - not its own"))
			s.untilN(t, 2*i+j+1)
		}
	}
	for _, l := range s.lines() {
		assert.Equal(t, "web/syslog-tls: "+line, l)
	}
	eventually(t, "lines in another's name are put aside", func() bool { return in.QuarantinedOf("web") == 4 })
	st := in.Stats()
	assert.EqualValues(t, 4, st.Quarantined[reasonOtherHost])
	assert.Equal(t, "web", st.Quarantine[0].Host)
	assert.Zero(t, st.RefusedTLS)
}

// TestTLSRefuses: who has no certificate of ours for a host of ours sends nothing, not even while its connection is open.
func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	a, other, s := newAuthority(t), newAuthority(t), newStream()
	in, _ := launch(t, s, a.overTLS(t))
	configs := map[string]*tls.Config{
		"no certificate":     a.client(t, ""),
		"another authority":  a.client(t, other.certificate(t, pki.RoleHost, "web")),
		"a node":             a.client(t, a.certificate(t, pki.RoleNode, "web")),
		"no host of ours":    a.client(t, a.certificate(t, pki.RoleSyslog, "mail")),
		"an alias of a host": a.client(t, a.certificate(t, pki.RoleSyslog, "www")),
		"revoked":            a.client(t, a.certificate(t, pki.RoleSyslog, "db")),
	}
	_, err := a.Revoke(pki.RoleSyslog, "db")
	require.NoError(t, err)
	for name, c := range configs {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c.MaxVersion = version
			d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: c}
			conn, err := d.DialContext(t.Context(), "tcp", in.TLSAddresses()[0].String())
			if err != nil {
				continue // told within the handshake, as TLS 1.2 does
			}
			_, _ = conn.Write([]byte(counted("<38>" + line)))
			_, err = conn.Read(make([]byte, 1))
			require.Error(t, err, name)
			_ = conn.Close()
		}
	}
	old := tls.VersionTLS11
	weak := a.client(t, a.certificate(t, pki.RoleHost, "web"))
	weak.MinVersion, weak.MaxVersion = uint16(old), uint16(old)
	_, err = (&tls.Dialer{Config: weak}).DialContext(t.Context(), "tcp", in.TLSAddresses()[0].String())
	require.Error(t, err)
	eventually(t, "all counted", func() bool { return in.Stats().RefusedTLS == int64(2*len(configs)+1) })
	assert.Empty(t, s.lines())
}

// TestTLSEndsWithTheCertificate: revocation and expiry hold for connections that are open already.
func TestTLSEndsWithTheCertificate(t *testing.T) {
	t.Parallel()
	a, s := newAuthority(t), newStream()
	in, _ := launch(t, s, a.overTLS(t))
	revoked := dialTLS(t, in, a.client(t, a.certificate(t, pki.RoleSyslog, "web")))
	expired := dialTLS(t, in, a.client(t, a.certificate(t, pki.RoleHost, "db")))
	send(t, revoked, counted("<38>"+line))
	send(t, expired, counted("<38>"+strings.Replace(line, "web", "db", 1)))
	s.untilN(t, 2)
	_, err := a.Revoke(pki.RoleSyslog, "web")
	require.NoError(t, err)
	a.pass(91 * 24 * time.Hour)
	for _, conn := range []net.Conn{revoked, expired} {
		send(t, conn, counted("<38>"+line))
		closed(t, conn)
	}
	assert.Len(t, s.lines(), 2)
}

// TestRelays: of a relay's lines HOSTNAME decides; who is no relay can't speak for others.
func TestRelays(t *testing.T) {
	t.Parallel()
	a, s := newAuthority(t), newStream()
	in, _ := launch(t, s, func(o *Options) {
		a.overTLS(t)(o)
		o.RelayNames, o.Relays = []string{"loghost"}, []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
	})
	var list strings.Builder
	for i := range 3 {
		for _, host := range []string{"web", "db", "stranger"} {
			list.WriteString(counted(fmt.Sprintf("<38>1 2026-11-22T18:00:00.1Z %s sshd 1 - - %d", host, i)))
		}
	}
	mixed := list.String()
	send(t, dialTLS(t, in, a.client(t, a.certificate(t, pki.RoleSyslog, "loghost"))), mixed)
	s.untilN(t, 6)
	send(t, dial(t, in, "127.0.0.9"), mixed)
	s.untilN(t, 12)
	var want []string
	for _, road := range []string{"syslog-tls", "syslog-tcp"} {
		for _, host := range []string{"web", "db"} {
			for i := range 3 {
				want = append(want, fmt.Sprintf("%s/%s: 1 2026-11-22T18:00:00.1Z %s sshd 1 - - %d", host, road, host, i))
			}
		}
	}
	assert.Equal(t, want, s.lines())
	st := in.Stats()
	assert.EqualValues(t, 6, st.Quarantined[reasonUnknownHost])
	assert.Equal(t, map[string]int64{"loghost": 3, "127.0.0.9": 3}, st.QuarantinedOf)
}

// dialRaw connects to where TLS is spoken, without speaking it.
func dialRaw(t *testing.T, in *Intake) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", in.TLSAddresses()[0].String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestHandshakesEnd: who never shakes hands, shakes hands slowly, or speaks something else is let go of in time.
func TestHandshakesEnd(t *testing.T) {
	t.Parallel()
	a, s := newAuthority(t), newStream()
	in, _ := launch(t, s, func(o *Options) {
		a.overTLS(t)(o)
		o.HandshakeTimeout = 300 * time.Millisecond
	})
	silent, slow, plain := dialRaw(t, in), dialRaw(t, in), dialRaw(t, in)
	send(t, slow, "\x16\x03\x01\x02\x00\x01") // the beginning of a hello
	send(t, plain, counted("<38>"+line))
	for _, conn := range []net.Conn{silent, slow, plain} {
		closed(t, conn)
	}
	eventually(t, "three handshakes failed", func() bool { return in.Stats().RefusedTLS == 3 && in.Stats().Connections == 0 })
	assert.Empty(t, s.lines())
}

// TestHostileTLS: who sends nothing, half a frame, or what is no frame is let go of in time, and costs little.
func TestHostileTLS(t *testing.T) {
	t.Parallel()
	a, s := newAuthority(t), newStream()
	in, _ := launch(t, s, func(o *Options) {
		a.overTLS(t)(o)
		o.FrameTimeout, o.FirstTimeout, o.MaxPerSender = 2*time.Second, 2*time.Second, 8
	})
	dir := a.certificate(t, pki.RoleSyslog, "web")
	idle := dialTLS(t, in, a.client(t, dir))
	dribble := dialTLS(t, in, a.client(t, dir))
	send(t, dribble, "50 <38>half")
	huge := dialTLS(t, in, a.client(t, dir))
	send(t, huge, "99999999 <38>never comes")
	for _, conn := range []net.Conn{idle, dribble, huge} {
		closed(t, conn)
	}
	eventually(t, "why is counted", func() bool {
		st := in.Stats()
		return st.Idle == 1 && st.SlowFrames == 1 && st.BadFrames == 1
	})

	long := dialTLS(t, in, a.client(t, dir))
	send(t, long, counted("<38>"+line+strings.Repeat("x", 500<<10))+counted("<38>"+line))
	s.untilN(t, 2)
	assert.EqualValues(t, 1, in.Stats().CutLines)
	assert.LessOrEqual(t, len(s.lines()[0]), len("web/syslog-tls: ")+maxFrame)

	// Beyond the limit for one sender nobody shakes hands.
	for i := range 7 {
		send(t, dialTLS(t, in, a.client(t, dir)), counted("<38>"+line))
		s.untilN(t, 3+i)
	}
	closed(t, dialRaw(t, in))
	assert.EqualValues(t, 1, in.Stats().RefusedSender)
}

// TestTLSPushesBack: while the bus takes nothing a sender is made to wait, and little of what it sends is held in memory.
func TestTLSPushesBack(t *testing.T) {
	t.Parallel()
	a, s := newAuthority(t), newStream()
	gate := make(chan struct{})
	s.gate = gate
	in, _ := launch(t, s, a.overTLS(t))
	conn := dialTLS(t, in, a.client(t, a.certificate(t, pki.RoleSyslog, "web")))
	const lines = 100_000
	var sent sync.WaitGroup
	sent.Go(func() {
		for i := range lines {
			if _, err := conn.Write([]byte(counted(fmt.Sprintf("<38>%s %d", line, i)))); err != nil {
				return
			}
		}
	})
	done := make(chan struct{})
	go func() { sent.Wait(); close(done) }()
	stuck := time.NewTimer(300 * time.Millisecond)
	defer stuck.Stop()
	select {
	case <-done:
		require.Fail(t, "a hundred thousand lines went into buffers")
	case <-stuck.C:
	}
	s.set(func() { s.gate = nil })
	close(gate)
	s.untilN(t, lines)
	<-done
	for i, l := range s.lines() {
		require.Equal(t, fmt.Sprintf("web/syslog-tls: %s %d", line, i), l)
	}
}

func TestTLSNeedsCertificates(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	_, err := New(Options{ListenTLS: loopback(), HostOf: r.hostOf, HostByName: r.hostByName, Publish: newStream().publish})
	require.ErrorIs(t, err, errNoTLS)
}

// TestKeyIsPrivate: what rsyslog-config writes for a host.
func TestKeyIsPrivate(t *testing.T) {
	t.Parallel()
	dir := newAuthority(t).certificate(t, pki.RoleSyslog, "web")
	info, err := os.Stat(filepath.Join(dir, "key.pem"))
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm())
	text, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(365*24*time.Hour), cert.NotAfter, time.Hour)
}
