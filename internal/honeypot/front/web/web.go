// Package web is the front of HTTP and HTTPS: it decides on logins, and notes requests and the files that come with them. The pot's own
// server answers.
package web

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/tlsterm"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	maxPending  = 1 << 10  // requests whose answer is waited for
	maxFields   = 64       // of a head that are kept
	keptLine    = 2 << 10  // bytes of each
	keptBody    = 16 << 10 // bytes
	keptAnswer  = 256      // bytes of an answer's first line
	maxForm     = 64 << 10 // bytes of one that may log in
	helloWithin = time.Minute
	helloByte   = 0x16 // with which TLS begins
)

// Handler is the front.
type Handler struct {
	front.Guard
}

// New returns a front.
func New(g front.Guard) *Handler { return &Handler{Guard: g} }

var _ front.Handler = (*Handler)(nil)

// Serve implements front.Handler.
func (h *Handler) Serve(ctx context.Context, v *front.Visit) string {
	return h.Reach.Visit(ctx, v, func(pot net.Conn, stay front.Stay) string {
		client, ended := h.open(ctx, v, pot)
		if ended != "" {
			_ = pot.Close()
			return ended
		}
		c := &conversation{h: h, ctx: ctx, v: v}
		c.account, c.own = stay.Login(event.HTTP)
		defer c.end()
		return h.Relay(ctx, v, client, pot, c.pass)
	})
}

// open ends the client's TLS, if it begins with that: a host's ports for HTTP and HTTPS lead to one lease.
func (h *Handler) open(ctx context.Context, v *front.Visit, pot net.Conn) (client net.Conn, ended string) {
	first, ended := relay.First(ctx, v.Conn, pot, 4<<10, 1, h.Idle)
	if ended != "" {
		return nil, ended
	}
	client = relay.Unread(v.Conn, first)
	if first[0] != helloByte {
		return client, ""
	}
	secure, err := tlsterm.Server(ctx, v, client, h.Certificates, helloWithin)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx).Error()
		}
		return nil, relay.AttackerClosed
	}
	return secure, ""
}

// exchange is a request, and what it was answered.
type exchange struct {
	method   string
	lines    []event.Bytes // of its head
	more     bool          // there was more
	size     int64
	body     []byte // its start
	bodySize int64
	secret   bool // its body may hold a password that is not to be kept
	uploads  *uploads
	upgrades bool // it asks for another protocol
	login    *event.Login
	opens    bool
	answer   string // its first line
	status   int
	answered int64
}

// conversation is one connection of a client with the pot's server.
type conversation struct {
	h            *Handler
	ctx          context.Context //nolint:containedctx // of the visit, for the relay's callbacks, which have none
	v            *front.Visit
	account, own string // with which the pot's site lets in

	mu      sync.Mutex
	passing bool // what is said is not understood, or another protocol
	pending []*exchange
	said    string // the guess that was noted last
	passed  []byte // that the server gets
	kept    []byte // of that, without what is secret
	in      struct {
		held []byte // of a head
		form []byte // of a body that may log in
		head head   // that waits for it
		body body
		now  *exchange // whose body is to come
	}
	out struct {
		held []byte
		body body
		now  *exchange
	}
}

// pass takes what one of both sent, and returns what the other gets.
func (c *conversation) pass(d relay.Direction, p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == relay.Out {
		c.v.Rec.Record(recording.Out, 0, p)
		c.answered(p)
		return p
	}
	c.passed, c.kept = nil, nil
	c.asked(p)
	if c.v.Lease.Known { // no password of somebody who may be honest is kept
		p = c.kept
	}
	c.v.Rec.Record(recording.In, 0, p)
	return c.passed
}

// end notes what was not answered.
func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodyOver()
	c.noteAll()
}

func (c *conversation) noteAll() {
	for _, x := range c.pending {
		c.note(x)
	}
	c.pending, c.out.now = nil, nil
}

// note notes a request: the lines of its head, an empty one, and the start of its body.
func (c *conversation) note(x *exchange) {
	if x.login != nil {
		x.login.Success = (x.opens || c.own == "") && x.status > 0 && x.status < 400
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: x.login})
	}
	r := &event.Request{
		Args: x.lines, Size: x.size + x.bodySize, Truncated: x.more || int64(len(x.body)) < x.bodySize,
		Failed: x.status >= 400, Answer: event.Bytes(x.answer), Answered: x.answered,
	}
	if len(x.body) > 0 {
		r.Args = append(r.Args, "", event.Bytes(x.body))
	}
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceAsked, Request: r})
}
