// Package broker is the bus's server: NATS with JetStream inside this process, TLS only, with
// permissions by certificate.
package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// Defaults of Options.
const (
	DefaultPort            = 12666
	DefaultMaxLogBytes     = 4 << 30
	DefaultMaxSessionBytes = 256 << 20
	DefaultMaxEnrolling    = 32
	DefaultEnrollTime      = time.Minute
)

const (
	accountApp  = "KOKKURI" // all of Kokkuri's subjects and streams
	accountAuth = "AUTH"    // where the server asks who may do what
	accountSys  = "SYS"
	userServer  = "server"
	userAuth    = "callout"

	readyTimeout   = 30 * time.Second
	handshakeLimit = 5.0 // seconds that TLS and then CONNECT may take
	maxPayload     = 1 << 20
	maxConnections = 16384
	maxSubs        = 1024
)

// ErrPortTaken is returned by Start where another program listens on the bus's port.
var ErrPortTaken = errors.New("already in use")

// Options of New.
type Options struct {
	Listen   netip.AddrPort // port 0: a free one; the zero value: no network at all
	TLS      *tls.Config    // see pki.CA.ServerTLS; needed where Listen is given
	StoreDir string         // streams and the deduplication key; created with mode 0700
	// MaxLogBytes and MaxSessionBytes are the streams' byte budgets; the oldest messages are discarded, and counted, beyond.
	MaxLogBytes, MaxSessionBytes int64
	// Revoked reports whether a certificate serial number (hex) is revoked; nil: none is.
	Revoked      func(serial string) bool
	MaxEnrolling int           // connections without certificate at a time
	EnrollTime   time.Duration // how long one of them may last
	Log          *slog.Logger
}

// Broker is the bus's server.
type Broker struct {
	opts   Options
	log    *slog.Logger
	secret string // password of the in-process users

	mu      sync.Mutex
	srv     *server.Server
	admin   *nats.Conn
	js      jetstream.JetStream
	callout *callout
	dedupe  []byte
	ready   chan struct{} // closed when connections may come in
	startWG sync.WaitGroup
}

// New makes a broker; Start starts it.
func New(opts Options) (*Broker, error) {
	if opts.StoreDir == "" {
		return nil, errors.New("bus: no store directory")
	}
	if opts.Listen.IsValid() && opts.TLS == nil {
		return nil, errors.New("bus: it listens with TLS only, and has no TLS configuration")
	}
	if opts.MaxLogBytes <= 0 {
		opts.MaxLogBytes = DefaultMaxLogBytes
	}
	if opts.MaxSessionBytes <= 0 {
		opts.MaxSessionBytes = DefaultMaxSessionBytes
	}
	if opts.MaxEnrolling <= 0 {
		opts.MaxEnrolling = DefaultMaxEnrolling
	}
	if opts.EnrollTime <= 0 {
		opts.EnrollTime = DefaultEnrollTime
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return &Broker{opts: opts, log: opts.Log, secret: hex.EncodeToString(secret)}, nil
}

// Start returns when the bus is ready: listening, its streams recovered. A taken port is ErrPortTaken.
func (b *Broker) Start(ctx context.Context) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.srv != nil {
		return errors.New("start the bus: it runs already")
	}
	if err := os.MkdirAll(b.opts.StoreDir, 0o700); err != nil {
		return fmt.Errorf("start the bus: %w", err)
	}
	if b.dedupe, err = dedupeKey(b.opts.StoreDir); err != nil {
		return fmt.Errorf("start the bus: %w", err)
	}
	if err := probePort(ctx, b.opts.Listen); err != nil {
		return fmt.Errorf("start the bus: %w", err)
	}
	b.ready = make(chan struct{})
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if err := b.startServer(ctx); err != nil {
		return fmt.Errorf("start the bus: %w", err)
	}
	if err := b.ensureStreams(ctx); err != nil {
		return fmt.Errorf("start the bus: %w", err)
	}
	close(b.ready)
	b.log.InfoContext(ctx, "bus ready", "listen", b.address(), "store", b.opts.StoreDir)
	return nil
}

func (b *Broker) startServer(ctx context.Context) error {
	opts, issuer, err := b.serverOptions()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	lg := newServerLog(b.log)
	srv.SetLoggerV2(lg, false, false, false)
	b.srv = srv
	started := make(chan struct{})
	b.startWG.Go(func() {
		defer close(started)
		srv.Start()
	})
	if err := awaitReady(ctx, started, srv, lg, opts.DontListen); err != nil {
		return err
	}
	lg.started.Store(true)
	b.callout = newCallout(srv, issuer, b.opts)
	if err := b.callout.start(b.secret); err != nil {
		return err
	}
	if b.admin, err = nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(userServer, b.secret), nats.Name("broker"),
		nats.CustomInboxPrefix(bus.ServerInbox), nats.MaxReconnects(-1)); err != nil {
		return fmt.Errorf("connect in process: %w", err)
	}
	if b.js, err = jetstream.New(b.admin); err != nil {
		return fmt.Errorf("connect in process: %w", err)
	}
	return nil
}

// awaitReady waits until the server has recovered its streams and takes connections, or has failed. Recovery takes
// as long as it takes: only what follows has a time limit of its own.
func awaitReady(ctx context.Context, started <-chan struct{}, srv *server.Server, lg *serverLog, inProcessOnly bool) error {
	select {
	case <-started:
	case <-ctx.Done():
		return fmt.Errorf("the server did not become ready: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if err := lg.fatal(); err != nil {
			return err
		}
		if inProcessOnly || srv.ReadyForConnections(10*time.Millisecond) {
			return nil
		}
		t := time.NewTimer(5 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("the server did not become ready: %w", ctx.Err())
		}
	}
}

// serverOptions returns the server's options and the key that signs permissions.
func (b *Broker) serverOptions() (*server.Options, *signer, error) {
	issuer, err := newSigner()
	if err != nil {
		return nil, nil, err
	}
	o := &server.Options{}
	// The account's JetStream switch has no exported field: it can only be set in the configuration language.
	if err := o.ProcessConfigString("accounts { " + accountApp + " { jetstream: enabled }, " + accountAuth + " {}, " + accountSys +
		" {} }\nsystem_account: " + accountSys + "\n"); err != nil {
		return nil, nil, fmt.Errorf("configure: %w", err)
	}
	inProcess := map[string]struct{}{jwt.ConnectionTypeInProcess: {}}
	for user, account := range map[string]string{userServer: accountApp, userAuth: accountAuth} {
		for _, acc := range o.Accounts {
			if acc.Name == account {
				o.Users = append(o.Users, &server.User{Username: user, Password: b.secret, Account: acc, AllowedConnectionTypes: inProcess})
			}
		}
	}
	o.AuthCallout = &server.AuthCallout{Issuer: issuer.public, Account: accountAuth, AuthUsers: []string{userServer, userAuth}}
	o.ServerName = "kokkuri"
	o.DontListen = !b.opts.Listen.IsValid()
	if !o.DontListen {
		o.Host, o.Port = b.opts.Listen.Addr().String(), int(b.opts.Listen.Port())
		if o.Port == 0 {
			o.Port = server.RANDOM_PORT
		}
		o.TLS, o.TLSConfig, o.TLSHandshakeFirst = true, gated(b.opts.TLS, b.ready), true
	}
	o.TLSTimeout, o.AuthTimeout = handshakeLimit, handshakeLimit
	o.NoSigs, o.NoLog, o.DisableJetStreamBanner = true, true, true
	o.MaxPayload, o.MaxConn, o.MaxSubs, o.MaxClosedClients = maxPayload, maxConnections, maxSubs, 128
	o.PingInterval, o.MaxPingsOut = 15*time.Second, 2
	o.JetStream, o.StoreDir, o.SyncAlways = true, b.opts.StoreDir, true
	o.JetStreamMaxMemory, o.JetStreamMaxStore = 64<<20, 1<<50 // each stream has its own budget
	return o, issuer, nil
}

// gated holds handshakes back until ready is closed: the listener is up before the permission service and
// the streams are, and who came in between would be refused, or not acknowledged, for seconds.
func gated(cfg *tls.Config, ready <-chan struct{}) *tls.Config {
	cfg = cfg.Clone()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		select {
		case <-ready:
			return nil, nil //nolint:nilnil // means: the configuration as it is
		case <-hello.Context().Done():
			return nil, fmt.Errorf("the bus is not ready: %w", hello.Context().Err())
		}
	}
	return cfg
}

func (b *Broker) address() string {
	if b.srv == nil || !b.opts.Listen.IsValid() {
		return "in process only"
	}
	return b.srv.Addr().String()
}

// ClientURL returns the address that clients connect to, host:port, with the port really used; "" where the
// bus does not listen. An unspecified address stands as loopback.
func (b *Broker) ClientURL() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.srv == nil || !b.opts.Listen.IsValid() {
		return ""
	}
	ap, err := netip.ParseAddrPort(b.srv.Addr().String())
	if err != nil {
		return ""
	}
	addr := b.opts.Listen.Addr()
	if addr.IsUnspecified() {
		if addr.Is4() {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		} else {
			addr = netip.IPv6Loopback()
		}
	}
	return netip.AddrPortFrom(addr, ap.Port()).String()
}

// Dial makes a connection of the server itself: in process, with all rights. Address, certificate and inbox of
// opts are filled in.
func (b *Broker) Dial(ctx context.Context, opts bus.Options) (*bus.Conn, error) {
	b.mu.Lock()
	srv, key := b.srv, b.dedupe
	b.mu.Unlock()
	if srv == nil {
		return nil, errors.New("dial the bus: it does not run")
	}
	opts.InProcess, opts.User, opts.Password = srv, userServer, b.secret
	opts.InboxPrefix, opts.DedupeKey = bus.ServerInbox, key
	if opts.Log == nil {
		opts.Log = b.log
	}
	c, err := bus.Dial(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("in process: %w", err)
	}
	return c, nil
}

// Disconnect ends the connections of a role and name and returns how many there were; call it after
// pki.CA.Revoke.
func (b *Broker) Disconnect(role pki.Role, name string) int {
	b.mu.Lock()
	c := b.callout
	b.mu.Unlock()
	if c == nil {
		return 0
	}
	return c.disconnect(role, name)
}

// Stop ends the bus: connections first, then the streams are closed. It waits until all is over or ctx ends.
func (b *Broker) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the bus: %w", ctx.Err())
	}
}

func (b *Broker) stop() {
	if b.admin != nil {
		b.admin.Close()
	}
	if b.callout != nil {
		b.callout.stop()
	}
	if b.srv != nil {
		b.startWG.Wait()
		b.srv.Shutdown()
		b.srv.WaitForShutdown()
	}
	b.srv, b.admin, b.callout, b.js = nil, nil, nil, nil
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }
