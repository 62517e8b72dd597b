// Package ssh is the front of SSH: it decides who gets in, and hands sessions to the pot's own server.
package ssh

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/channel"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/hello"
)

const (
	defaultVersion   = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7"
	defaultFailDelay = 2 * time.Second
	defaultGrace     = 2 * time.Minute // LoginGraceTime
	defaultIdle      = 30 * time.Minute
	maxAuthTries     = 6   // as sshd_config's default
	maxChannels      = 256 // of one connection at once
)

// Reasons why a session ended.
const (
	AttackerClosed = "attacker closed"
	Idle           = "idle"
	TooSlow        = "login took too long"
	NotSSH         = "not SSH"
	Refused        = "login refused"
	PotClosed      = "pot closed"
)

// Options configure the front.
type Options struct {
	Entry    *entry.Entry
	HostKeys func(event.PotKey) ([]ssh.Signer, error)
	Version  func(event.PotKey) string // what the server calls itself; empty where not known yet

	Methods   []string      // entry.Password and entry.Interactive where empty
	FailDelay time.Duration // about how long a wrong password takes; 2 s where 0
	Grace     time.Duration // to log in; 2 minutes where 0
	Idle      time.Duration // silence that ends a connection; 30 minutes where 0
	Log       *slog.Logger
}

// Handler is the front.
type Handler struct {
	o     Options
	entry *entry.Entry
	log   *slog.Logger
}

// New returns a front.
func New(o Options) *Handler {
	if len(o.Methods) == 0 {
		o.Methods = []string{entry.Password, entry.Interactive}
	}
	if o.FailDelay == 0 {
		o.FailDelay = defaultFailDelay
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{o: o, entry: o.Entry, log: o.Log}
}

var _ front.Handler = (*Handler)(nil)

// connection is one connection of an attacker.
type connection struct {
	h      *Handler
	v      *front.Visit
	ctx    context.Context //nolint:containedctx // of the visit, for the library's callbacks, which have none
	wire   *wire
	conn   *ssh.ServerConn
	opener *channel.Opener // of channels to the client
	guest  *entry.Guest    // nil until it is in
	// trouble is why who guessed right did not get in.
	trouble error

	channels atomic.Uint32 // numbered so far
	agent    atomic.Bool   // the client forwards its agent
	open     chan struct{}
	work     sync.WaitGroup
}

// Serve implements front.Handler.
func (h *Handler) Serve(ctx context.Context, v *front.Visit) string {
	signers, err := h.o.HostKeys(v.Lease.PotKey())
	if err != nil {
		h.log.ErrorContext(ctx, "no host keys", "session", v.Session, "error", err)
		return front.NoPot + err.Error()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &connection{h: h, v: v, ctx: ctx, open: make(chan struct{}, maxChannels)}
	c.wire = &wire{Conn: v.Conn, idle: h.o.Idle, ear: hello.New(v.Rec.Note)}
	defer c.wire.ear.End()
	stop := context.AfterFunc(ctx, func() { _ = v.Conn.Close() })
	defer stop()
	defer v.Conn.Close() //nolint:errcheck // closed already, mostly
	defer c.leave()

	_ = v.Conn.SetDeadline(time.Now().Add(h.o.Grace))
	conn, chans, reqs, err := ssh.NewServerConn(c.wire, c.config(signers))
	if err != nil {
		return c.whyNot(ctx, err)
	}
	_ = v.Conn.SetDeadline(time.Time{})
	c.wire.settle()
	c.conn, c.opener = conn, channel.New(conn)
	return c.serve(ctx, chans, reqs)
}

// whyNot says why nobody got in.
func (c *connection) whyNot(ctx context.Context, err error) string {
	var auth *ssh.ServerAuthError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx).Error()
	case c.trouble != nil:
		return front.NoPot + c.trouble.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return TooSlow
	case errors.As(err, &auth):
		return Refused
	case !c.wire.ear.Spoke():
		if start := c.wire.ear.Start(); len(start) > 0 {
			c.v.Rec.Note(event.Evidence{Kind: event.EvidenceMalformed, Data: event.Bytes(start)})
			return NotSSH
		}
		return AttackerClosed
	}
	return AttackerClosed
}

// leave ends what the connection has in the pot.
func (c *connection) leave() {
	if c.guest != nil {
		c.guest.Close()
	}
}

// serve answers a client that is in until it goes.
func (c *connection) serve(ctx context.Context, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) string {
	c.work.Go(func() { c.requests(reqs) })
	c.work.Go(func() { c.fromPot() })
	c.work.Go(func() {
		c.guest.Pot.Wait() // the pot's server has ended the connection, or we have
		_ = c.conn.Close()
	})
	for nc := range chans {
		select {
		case c.open <- struct{}{}:
			c.work.Go(func() {
				defer func() { <-c.open }()
				c.channel(nc)
			})
		default:
			_ = nc.Reject(ssh.ResourceShortage, "open failed")
		}
	}
	err := c.conn.Wait()
	c.guest.Pot.Close()
	c.work.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx).Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Idle
	}
	return AttackerClosed
}

// channel serves one channel that the client opens.
func (c *connection) channel(nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case "session":
		c.session(nc)
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		c.forward(nc)
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "unknown channel type")
	}
}

func (c *connection) number() uint32 { return c.channels.Add(1) }
