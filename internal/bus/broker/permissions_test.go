package broker_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// attacker is a client that does as it likes with the certificate it has.
type attacker struct {
	*nats.Conn
	errs chan error
}

func (s *site) attack(tb testing.TB, cfg *tls.Config, opts ...nats.Option) (*attacker, error) {
	tb.Helper()
	a := &attacker{errs: make(chan error, 1024)}
	opts = append([]nats.Option{
		nats.Secure(cfg), nats.TLSHandshakeFirst(), nats.NoReconnect(), nats.Timeout(10 * time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.errs <- err }),
	}, opts...)
	var err error
	a.Conn, err = nats.Connect("tls://"+s.broker.ClientURL(), opts...)
	if err == nil {
		tb.Cleanup(a.Close)
	}
	return a, err
}

// refused reports whether the server answered what was just sent with a permission error for the subject.
func (a *attacker) refused(t *testing.T, subject string) bool {
	t.Helper()
	require.NoError(t, a.Flush())
	for {
		select {
		case err := <-a.errs:
			if strings.Contains(err.Error(), `"`+subject+`"`) {
				require.ErrorIs(t, err, nats.ErrPermissionViolation)
				return true
			}
		case <-time.After(300 * time.Millisecond):
			return false
		}
	}
}

func (s *site) noCertificate() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ca.Certificate())
	return &tls.Config{RootCAs: pool, ServerName: pki.ServerName, MinVersion: tls.VersionTLS13}
}

// forbiddenEverywhere are subjects that neither hosts nor nodes nor strangers may publish on or subscribe to.
func forbiddenEverywhere() []string {
	return []string{
		">", "*", "*.*", "logs.>", "logs.*", "logs.db", "status.db", "desired.db", "redirects.db", "redirects.*", "persona.db", "persona.*", "personas.n2", "keys.db", "keys.*", "nodekeys.n2", "lease.n2", "nodes.n2", "sessions.n2", "sessions.*",
		"renew.host.db", "renew.node.n2", "renew.>", "_INBOX.x", "_INBOX.>", "_INBOX_host_db.x", "_INBOX_host_db.>", "_INBOX_host_*.>",
		"_INBOX_server.x", "_INBOX_server.>", "_INBOX_enroll.>", "_INBOX_enroll.x.y", "_INBOX_host_we.>", "_INBOX_host_web", "_INBOX_host_webb.>", "_R_.>",
		"$JS.API.>", "$JS.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.LOGS", "$JS.API.STREAM.DELETE.LOGS", "$JS.API.STREAM.PURGE.LOGS",
		"$JS.API.STREAM.CREATE.X", "$JS.API.CONSUMER.CREATE.LOGS", "$JS.API.CONSUMER.NAMES.LOGS", "$JS.API.DIRECT.GET.LOGS", "$JS.API.STREAM.MSG.GET.LOGS",
		"$JS.API.CONSUMER.MSG.NEXT.SESSIONS.store", "$JS.ACK.SESSIONS.store.1.1.1.1.0", "$JS.FC.>", "$JS.EVENT.>", "$KV.>", "$O.>",
		"$SYS.>", "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "logs", "enroll.x", "anything",
	}
}

func TestRolesMayDoOnlyTheirOwn(t *testing.T) {
	s := newSite(t)
	server := s.server(t)
	heard := make(chan string, 1024)
	stop, err := bus.Subscribe(server, ">", func(v json.RawMessage) { heard <- string(v) })
	require.NoError(t, err)
	defer stop()

	nonce := rand.Text()
	for _, role := range []struct {
		name     string
		cfg      *tls.Config
		opts     []nats.Option
		pub, sub []string // allowed; everything else that is listed for anyone is not
	}{
		{
			"host", s.identity(t, pki.RoleHost, "web").TLS, nil,
			[]string{"logs.web", "status.web", "desired.web", "persona.web", "renew.host.web"},
			[]string{"redirects.web", "keys.web", "_INBOX_host_web.a.b"},
		},
		{
			"node", s.identity(t, pki.RoleNode, "n1").TLS, nil,
			[]string{"nodes.n1", "sessions.n1", "personas.n1", "nodekeys.n1", "renew.node.n1"},
			[]string{"lease.n1", "_INBOX_node_n1.a.b"},
		},
		{"none", s.noCertificate(), []nats.Option{nats.Name(nonce)}, []string{"enroll"}, []string{"_INBOX_enroll." + nonce + ".a"}},
	} {
		t.Run(role.name, func(t *testing.T) {
			a, err := s.attack(t, role.cfg, role.opts...)
			require.NoError(t, err)
			all := append(forbiddenEverywhere(), "logs.web", "status.web", "desired.web", "persona.web", "keys.web", "personas.n1", "nodekeys.n1", "renew.host.web", "redirects.web", "_INBOX_host_web.a.b", "_INBOX_host_web.>",
				"nodes.n1", "sessions.n1", "renew.node.n1", "lease.n1", "_INBOX_node_n1.a.b", "_INBOX_node_n1.>", "enroll", "_INBOX_enroll."+nonce+".a", "_INBOX_enroll."+nonce+".>")
			allowedPub, allowedSub := make(map[string]bool), make(map[string]bool)
			for _, p := range role.pub {
				allowedPub[p] = true
			}
			for _, p := range role.sub {
				allowedSub[p] = true
				if prefix, _, ok := strings.Cut(p, ".a"); ok && strings.HasPrefix(p, "_INBOX") {
					allowedSub[prefix+".>"] = true
				}
			}
			for _, subject := range all {
				if _, err := a.SubscribeSync(subject); err == nil {
					assert.Equal(t, !allowedSub[subject], a.refused(t, subject), "subscribe to %s", subject)
				}
				if strings.ContainsAny(subject, "*>") {
					continue
				}
				require.NoError(t, a.Publish(subject, []byte(`"`+role.name+" on "+subject+`"`)))
				if allowedPub[subject] {
					assert.Equal(t, `"`+role.name+" on "+subject+`"`, receive(t, heard))
				} else {
					assert.True(t, a.refused(t, subject), "publish on %s", subject)
				}
			}
		})
	}
	select {
	case v := <-heard:
		t.Fatalf("%s was heard and should not", v)
	case <-time.After(50 * time.Millisecond):
	}
}

func receive[T any](tb testing.TB, ch <-chan T) T {
	tb.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(time.Minute):
		require.FailNow(tb, "nothing came")
		panic("unreachable")
	}
}

// NATS does not check the reply subject of what a client publishes, and sends acknowledgements and answers there.
func TestReplySubjectsGiveNoRights(t *testing.T) {
	s := newSite(t)
	server := s.server(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stopStatus, err := bus.Serve(server, bus.StatusSubject("*"), func(context.Context, string, event.HostStatus) (struct{}, error) { return struct{}{}, nil })
	require.NoError(t, err)
	defer stopStatus()
	consuming, stopConsuming := context.WithCancel(ctx)
	taken := make(chan struct{}, 16)
	consumed := make(chan error, 1)
	go func() {
		consumed <- server.ConsumeSessions(consuming, "store", func(context.Context, event.SessionReport) error { taken <- struct{}{}; return nil })
	}()
	defer func() { stopConsuming(); require.NoError(t, <-consumed) }()
	require.NoError(t, s.dial(t, pki.RoleNode, "n1").PublishSession(ctx, event.SessionReport{Session: event.Session{ID: "a", Node: "n1"}}))
	receive(t, taken)
	db := s.dial(t, pki.RoleHost, "db")
	misled := make(chan event.Change, 64)
	stopChanges, err := bus.Subscribe(db, bus.RedirectsSubject("db"), func(c event.Change) { misled <- c })
	require.NoError(t, err)
	defer stopChanges()
	require.NoError(t, db.PublishBatch(ctx, batch("db", "1", "precious")))

	a, err := s.attack(t, s.identity(t, pki.RoleHost, "web").TLS)
	require.NoError(t, err)
	var tricks []string
	for _, subject := range append(forbiddenEverywhere(), "$JS.API.STREAM.UPDATE.LOGS", "$JS.API.STREAM.MSG.DELETE.LOGS", "$JS.API.STREAM.RESTORE.LOGS", "$JS.API.STREAM.SNAPSHOT.LOGS",
		"$JS.API.STREAM.LEADER.STEPDOWN.LOGS", "$JS.API.STREAM.PEER.REMOVE.LOGS", "$JS.API.CONSUMER.DELETE.SESSIONS.store", "$JS.API.CONSUMER.PAUSE.SESSIONS.store",
		"$JS.API.CONSUMER.RESET.SESSIONS.store", "$JS.API.CONSUMER.UNPIN.SESSIONS.store", "$JS.API.CONSUMER.DURABLE.CREATE.SESSIONS.store", "$JS.API.ACCOUNT.PURGE.KOKKURI", "$JS.API.SERVER.REMOVE") {
		if !strings.ContainsAny(subject, "*>") {
			tricks = append(tricks, subject)
		}
	}
	for _, reply := range tricks {
		for _, data := range []string{"", "{}", `{"seq":1000}`} {
			require.NoError(t, a.PublishRequest(bus.LogsSubject("web"), reply, []byte(data)))
			require.NoError(t, a.PublishRequest(bus.StatusSubject("web"), reply, []byte(data)))
		}
	}
	require.NoError(t, a.Flush())

	require.NoError(t, db.PublishBatch(ctx, batch("db", "2", "last")))
	reading, done := context.WithCancel(ctx)
	defer done()
	var lines []string
	require.NoError(t, server.ConsumeBatches(reading, "detector", 0, func(_ context.Context, _ uint64, b event.Batch) error {
		lines = append(lines, b.Host+": "+string(b.Lines[0]))
		if string(b.Lines[0]) == "last" {
			done()
		}
		return nil
	}))
	assert.Equal(t, []string{"db: precious", "db: last"}, lines, "what the web host sent is no valid batch, and none of it counts for db")
	require.NoError(t, s.dial(t, pki.RoleNode, "n1").PublishSession(ctx, event.SessionReport{Session: event.Session{ID: "b", Node: "n1"}}))
	receive(t, taken)
	assert.NotZero(t, server.Counters().Refused)
	for len(misled) > 0 {
		assert.Empty(t, (<-misled).Put, "a forged change holds no redirect")
	}
}

func TestStrangers(t *testing.T) {
	s := newSite(t, func(o *broker.Options) { o.MaxEnrolling = 2 })

	t.Run("without a name of its own", func(t *testing.T) {
		for _, name := range []string{"", "short", strings.Repeat("a", 65), "aaaaaaaaaaaaaaaaaaaaaaaaa.>", "aaaaaaaaaaaaaaaaaaaaaaaa*"} {
			_, err := s.attack(t, s.noCertificate(), nats.Name(name))
			require.ErrorIs(t, err, nats.ErrAuthorization)
		}
	})
	t.Run("with the server's own password", func(t *testing.T) {
		users, password := s.broker.Credentials()
		for _, user := range users {
			_, err := s.attack(t, s.noCertificate(), nats.UserInfo(user, password))
			require.ErrorIs(t, err, nats.ErrAuthorization, user)
			a, err := s.attack(t, s.identity(t, pki.RoleHost, "web").TLS, nats.UserInfo(user, password))
			if err == nil { // taken for what its certificate says, no more
				require.NoError(t, a.Publish("logs.db", nil))
				assert.True(t, a.refused(t, "logs.db"), user)
			}
		}
	})
	t.Run("who stays", func(t *testing.T) {
		s := newSite(t, func(o *broker.Options) { o.EnrollTime = 2 * time.Second })
		ended := make(chan struct{})
		_, err := s.attack(t, s.noCertificate(), nats.Name(rand.Text()), nats.ClosedHandler(func(*nats.Conn) { close(ended) }))
		require.NoError(t, err)
		receive(t, ended)
	})
	t.Run("without TLS", func(t *testing.T) {
		_, err := nats.Connect("nats://"+s.broker.ClientURL(), nats.NoReconnect(), nats.Timeout(2*time.Second))
		require.Error(t, err)
	})
	t.Run("many at once", func(t *testing.T) {
		first, err := s.attack(t, s.noCertificate(), nats.Name(rand.Text()))
		require.NoError(t, err)
		_, err = s.attack(t, s.noCertificate(), nats.Name(rand.Text()))
		require.NoError(t, err)
		_, err = s.attack(t, s.noCertificate(), nats.Name(rand.Text()))
		require.ErrorIs(t, err, nats.ErrAuthorization)
		s.dial(t, pki.RoleHost, "web") // who is enrolled is not kept out
		first.Close()
		require.Eventually(t, func() bool {
			_, err := s.attack(t, s.noCertificate(), nats.Name(rand.Text()))
			return err == nil
		}, time.Minute, 20*time.Millisecond)
	})
}

func TestCertificatesThatAreNotGood(t *testing.T) {
	s := newSite(t)
	clock := time.Now().Add(-91 * 24 * time.Hour)
	elsewhere, err := pki.OpenCA(pki.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	config := func(ca *pki.CA) *tls.Config {
		dir := t.TempDir()
		require.NoError(t, ca.IssueIdentity(dir, pki.RoleHost, "web", []string{s.broker.ClientURL()}))
		cert, err := tls.LoadX509KeyPair(dir+"/cert.pem", dir+"/key.pem")
		require.NoError(t, err)
		cfg := s.noCertificate()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return cfg
	}

	_, err = s.attack(t, config(elsewhere))
	require.ErrorContains(t, err, "certificate", "of another authority")

	// The same authority, 91 days ago.
	old, err := pki.OpenCA(pki.Options{Dir: s.dir + "/pki", Now: func() time.Time { return clock }})
	require.NoError(t, err)
	_, err = s.attack(t, config(old))
	require.ErrorContains(t, err, "certificate", "expired")

	// The server's own certificate is no client certificate.
	serverCfg, err := s.ca.ServerTLS(nil, nil)
	require.NoError(t, err)
	cfg := s.noCertificate()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return serverCfg.GetCertificate(nil) }
	_, err = s.attack(t, cfg)
	require.ErrorContains(t, err, "certificate", "for servers only")

	// A client refuses a server of another authority.
	block, _ := pem.Decode(elsewhere.Certificate())
	other, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	cfg = s.identity(t, pki.RoleHost, "web").TLS.Clone()
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(other)
	_, err = s.attack(t, cfg)
	require.ErrorContains(t, err, "unknown authority")
}
