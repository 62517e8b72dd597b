package bus

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	dialTimeout   = 3 * time.Second
	pingInterval  = 10 * time.Second
	closeTimeout  = 2 * time.Second
	maxReconnect  = 2 * time.Second
	attemptPause  = 20 * time.Millisecond
	ackTimeout    = 5 * time.Second
	pendingMsgs   = 8192
	pendingBytes  = 64 << 20
	subscribeWait = 2 * time.Second
)

// Options of Dial.
type Options struct {
	URLs []string    // addresses of the bus: host:port or tls://host:port
	TLS  *tls.Config // with the client's certificate; see pki.LoadClient
	// InProcess, User and Password connect to a server in the same process instead; package broker fills them.
	InProcess      nats.InProcessConnProvider
	User, Password string
	Name           string // shown in the server's logs; a connection without certificate must use pki.Enroll
	InboxPrefix    string // default: what the certificate's subject says
	// DedupeKey makes message ids of this sender unguessable for others; default: derived from the certificate's private key.
	DedupeKey []byte
	Log       *slog.Logger
	// OnReconnect is called after each time that the connection was made, also the first, OnDisconnect with the reason after each
	// loss and each failed attempt. Both are called in order by one goroutine and must not block for long.
	OnReconnect  func()
	OnDisconnect func(error)
}

// Counters of what a connection had to leave out. They only grow.
type Counters struct {
	Lost      uint64 `json:"lost"`      // messages that the byte budget discarded before ConsumeBatches read them
	Malformed uint64 `json:"malformed"` // messages that were not what their subject carries
	Refused   uint64 `json:"refused"`   // requests that named a reply subject which is not the requester's
	Dropped   uint64 `json:"dropped"`   // times that a subscription's bounded queue was full
}

// Conn is a connection to the bus that reconnects for ever. Its methods may be called concurrently.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *slog.Logger
	opts   Options
	closed chan struct{}

	lost, malformed, refused, dropped atomic.Uint64

	mu      sync.Mutex
	up      chan struct{} // closed while connected
	down    chan struct{} // closed while not connected
	lastErr error
	waiters map[string][]chan error // by subject: who wants to know that it is forbidden
}

// Dial connects to the bus. It returns an error only for options that can't work: where no server
// answers yet, the connection is made later, as soon as one does (see WaitConnected).
func Dial(ctx context.Context, opts Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial the bus: %w", err)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.InProcess == nil && (opts.TLS == nil || len(opts.URLs) == 0) {
		return nil, errors.New("dial the bus: an address and a TLS configuration are needed")
	}
	if err := fillFromCertificate(&opts); err != nil {
		return nil, fmt.Errorf("dial the bus: %w", err)
	}
	c := &Conn{
		log: opts.Log, opts: opts, closed: make(chan struct{}),
		up: make(chan struct{}), down: make(chan struct{}), waiters: make(map[string][]chan error),
	}
	close(c.down)
	nc, err := nats.Connect(urls(opts.URLs), c.natsOptions()...)
	if err != nil {
		return nil, fmt.Errorf("dial the bus at %s: %w", strings.Join(opts.URLs, ", "), err)
	}
	c.nc = nc
	if c.js, err = jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackTimeout)); err != nil {
		nc.Close()
		return nil, fmt.Errorf("dial the bus: %w", err)
	}
	if nc.IsConnected() {
		c.setUp() // the callback may come later; callers should not have to wait for it
	}
	return c, nil
}

func urls(addrs []string) string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		if !strings.Contains(a, "://") {
			a = "tls://" + a
		}
		out[i] = a
	}
	return strings.Join(out, ",")
}

// fillFromCertificate derives the inbox prefix and the deduplication key from the client certificate.
func fillFromCertificate(o *Options) error {
	if o.InProcess != nil || o.InboxPrefix != "" && o.DedupeKey != nil {
		return nil
	}
	cert, err := clientCertificate(o.TLS)
	if err != nil || cert == nil {
		return err
	}
	if o.InboxPrefix == "" {
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			return fmt.Errorf("client certificate: %w", err)
		}
		if len(leaf.Subject.OrganizationalUnit) != 1 {
			return errors.New("client certificate: its subject names no role")
		}
		o.InboxPrefix = Inbox(leaf.Subject.OrganizationalUnit[0], leaf.Subject.CommonName)
	}
	if o.DedupeKey == nil {
		der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			return fmt.Errorf("client key: %w", err)
		}
		sum := sha256.Sum256(append([]byte("kokkuri message ids\x00"), der...))
		o.DedupeKey = sum[:]
	}
	return nil
}

func clientCertificate(cfg *tls.Config) (*tls.Certificate, error) {
	switch {
	case len(cfg.Certificates) > 0:
		return &cfg.Certificates[0], nil
	case cfg.GetClientCertificate != nil:
		cert, err := cfg.GetClientCertificate(&tls.CertificateRequestInfo{Version: tls.VersionTLS13})
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		if len(cert.Certificate) == 0 {
			return nil, nil //nolint:nilnil // no certificate is an answer, not an error
		}
		return cert, nil
	}
	return nil, nil //nolint:nilnil // as above
}

func (c *Conn) natsOptions() []nats.Option {
	o := []nats.Option{
		nats.Name(c.opts.Name),
		nats.Timeout(dialTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.IgnoreAuthErrorAbort(),
		nats.IgnoreDiscoveredServers(),
		nats.ReconnectBufSize(-1), // what is not sent is an error, and retried here, never buffered unseen
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { c.connected() }),
		nats.ReconnectHandler(func(*nats.Conn) { c.connected() }),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) { c.disconnected(nc, err) }),
		nats.ReconnectErrHandler(func(nc *nats.Conn, err error) { c.disconnected(nc, err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.ErrorHandler(c.asyncError),
	}
	if c.opts.InboxPrefix != "" {
		o = append(o, nats.CustomInboxPrefix(c.opts.InboxPrefix))
	}
	if c.opts.InProcess != nil {
		return append(o, nats.InProcessServer(c.opts.InProcess), nats.UserInfo(c.opts.User, c.opts.Password))
	}
	return append(o, nats.Secure(c.opts.TLS), nats.TLSHandshakeFirst())
}

// reconnectDelay is called when all addresses failed once more: 50 ms doubling to 2 s, with jitter, so
// that a thousand agents do not come back in one moment.
func reconnectDelay(attempts int) time.Duration {
	d := maxReconnect
	if attempts < 7 {
		d = min(maxReconnect, 50*time.Millisecond<<max(attempts-1, 0))
	}
	return d/2 + rand.N(d/2) //nolint:gosec // jitter needs no secrecy
}

func (c *Conn) setUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isClosed(c.up) {
		close(c.up)
		c.down = make(chan struct{})
	}
	c.lastErr = nil
}

func (c *Conn) connected() {
	c.setUp()
	c.log.Info("connected to the bus", "url", c.address())
	if c.opts.OnReconnect != nil {
		c.opts.OnReconnect()
	}
}

func (c *Conn) address() string {
	if c.opts.InProcess != nil {
		return "in process"
	}
	return strings.Join(c.opts.URLs, ",")
}

func (c *Conn) disconnected(nc *nats.Conn, err error) {
	if nc.IsClosed() {
		return
	}
	if err == nil {
		err = ErrDisconnected
	}
	c.mu.Lock()
	if !isClosed(c.down) {
		close(c.down)
		c.up = make(chan struct{})
	}
	first := c.lastErr == nil || c.lastErr.Error() != err.Error()
	c.lastErr = err
	c.mu.Unlock()
	if first {
		c.log.Warn("not connected to the bus; trying again until it answers", "url", c.address(), "error", err)
	}
	if c.opts.OnDisconnect != nil {
		c.opts.OnDisconnect(err)
	}
}

func isClosed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// asyncError takes what NATS reports outside of any call.
func (c *Conn) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		subject := quoted(err.Error())
		c.mu.Lock()
		for _, w := range c.waiters[subject] {
			select {
			case w <- fmt.Errorf("%s: %w", subject, ErrForbidden):
			default:
			}
		}
		c.mu.Unlock()
		c.log.Warn("the bus refused a subject", "subject", subject)
	case errors.Is(err, nats.ErrSlowConsumer):
		c.dropped.Add(1)
		subject := ""
		if sub != nil {
			subject = sub.Subject
		}
		c.log.Warn("messages dropped: a subscription's queue is full", "subject", subject)
	default:
		c.log.Warn("bus", "error", err)
	}
}

// quoted returns what stands between the first two double quotes: the subject in NATS' permission errors.
func quoted(s string) string {
	_, s, _ = strings.Cut(s, `"`)
	s, _, _ = strings.Cut(s, `"`)
	return s
}

// watchForbidden returns a channel that gets an error when the server refuses the subject.
func (c *Conn) watchForbidden(subject string) (forbidden <-chan error, stop func()) {
	ch := make(chan error, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters[subject] = append(c.waiters[subject], ch)
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		ws := c.waiters[subject]
		for i, w := range ws {
			if w == ch {
				ws = append(ws[:i:i], ws[i+1:]...)
				break
			}
		}
		if len(ws) == 0 {
			delete(c.waiters, subject)
		} else {
			c.waiters[subject] = ws
		}
	}
}

// Connected reports whether the connection is up now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// WaitConnected waits for the connection; where ctx ends first the error says why it could not be made.
func (c *Conn) WaitConnected(ctx context.Context) error {
	_, err := c.awaitUp(ctx)
	return err
}

// awaitUp waits until the connection is up; the channel it returns is closed when it goes down.
func (c *Conn) awaitUp(ctx context.Context) (down <-chan struct{}, err error) {
	for {
		c.mu.Lock()
		up, d, last := c.up, c.down, c.lastErr
		c.mu.Unlock()
		if isClosed(up) && c.nc.IsConnected() {
			return d, nil
		}
		if isClosed(up) { // lost, and the callback is on its way
			if err := pause(ctx, attemptPause); err != nil {
				return nil, fmt.Errorf("connect to the bus: %w", err)
			}
		}
		select {
		case <-up:
		case <-c.closed:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to the bus at %s: %w", c.address(), errors.Join(ctx.Err(), last))
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Counters returns what was left out so far.
func (c *Conn) Counters() Counters {
	return Counters{Lost: c.lost.Load(), Malformed: c.malformed.Load(), Refused: c.refused.Load(), Dropped: c.dropped.Load()}
}

// Reconnect drops the connection and makes it anew at once, with the certificate that is current now.
func (c *Conn) Reconnect() error {
	if err := c.nc.ForceReconnect(); err != nil {
		return fmt.Errorf("reconnect to the bus: %w", err)
	}
	return nil
}

// Close ends the connection and all its subscriptions. It may be called more than once.
func (c *Conn) Close() {
	c.nc.Close()
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-c.closed:
	case <-t.C:
	}
}
