// Package web is the front of HTTP and HTTPS: it decides on logins, and notes requests and the files that come with them. The pot's own
// server answers.
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strconv"
	"strings"
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

// send has the server get bytes.
func (c *conversation) send(p []byte) {
	c.passed = append(c.passed, p...)
	if c.v.Lease.Known && (c.in.now == nil || !c.in.now.secret) {
		c.kept = append(c.kept, p...)
	}
}

// asked takes bytes of the client.
func (c *conversation) asked(p []byte) {
	for len(p) > 0 {
		switch in := &c.in; {
		case c.passing:
			c.send(append(c.unheld(), p...))
			return
		case in.form != nil:
			n := min(len(p), int(in.body.left))
			in.form = append(in.form, p[:n]...)
			in.body.left, p = in.body.left-int64(n), p[n:]
			if in.body.left == 0 {
				c.sendForm()
			}
		case in.now != nil:
			n, ok := in.body.take(p, in.now.takes)
			c.send(p[:n])
			p = p[n:]
			if !ok {
				c.giveUp()
			} else if in.body.over() {
				c.bodyOver()
			}
		default:
			in.held = append(in.held, p...)
			if !mayBegin(in.held) {
				c.isNone()
				return
			}
			h, n := head{}, 0
			if bytes.IndexByte(p, '\n') >= 0 { // else it is as it was
				h, n = cutHead(in.held, true)
			}
			if n == 0 {
				if len(in.held) > maxHead {
					c.isNone()
				}
				return
			}
			p = append([]byte(nil), in.held[n:]...)
			in.held = nil
			c.begins(h)
		}
	}
}

// isNone has what is no request pass, and all that follows.
func (c *conversation) isNone() {
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceMalformed, Data: front.Clip(string(c.in.held), keptAnswer)})
	c.giveUp()
	c.send(c.unheld())
}

// giveUp passes on all that comes, and notes what is known.
func (c *conversation) giveUp() {
	c.passing = true
	c.bodyOver()
	c.noteAll()
}

// unheld is what was held back.
func (c *conversation) unheld() []byte {
	var out []byte
	if in := &c.in; in.form != nil {
		out = append(append(out, in.head.raw...), in.form...)
		in.form = nil
	}
	out = append(out, c.in.held...)
	c.in.held = nil
	return out
}

// begins takes a request's head.
func (c *conversation) begins(h head) {
	x := &exchange{size: int64(len(h.raw))}
	for i, line := range h.lines {
		if i == maxFields {
			x.more = true
			break
		}
		x.lines = append(x.lines, front.Clip(string(line), keptLine))
		x.more = x.more || len(line) > keptLine
	}
	x.method, _, _ = strings.Cut(string(h.lines[0]), " ")
	b, ok := bodyOf(h)
	upgrade, _ := h.field("Upgrade")
	x.upgrades = upgrade != "" || x.method == "CONNECT"
	if !strings.Contains(string(h.lines[0]), " HTTP/1.") || !ok || len(c.pending) == maxPending {
		c.pending = append(c.pending, x)
		c.giveUp()
		c.send(h.raw)
		return
	}
	c.in.body = b
	c.in.now = x
	c.pending = append(c.pending, x)
	if isForm(h) && x.method == "POST" {
		expects, _ := h.field("Expect")
		if expects == "" && b.left > 0 && b.left <= maxForm {
			c.in.head, c.in.form = h, []byte{}
			return
		}
	}
	c.send(c.headFor(h, nil))
	switch {
	case b.over():
		c.bodyOver()
	case isForm(h) && c.v.Lease.Known:
		x.secret = true
	default:
		x.uploads = c.uploadsOf(h)
	}
}

// isForm reports whether a request's body may log in.
func isForm(h head) bool {
	kind, _ := h.field("Content-Type")
	kind, _, _ = strings.Cut(kind, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded")
}

// headFor returns a head as the server gets it, with the decision on a login in it.
func (c *conversation) headFor(h head, values map[int]string) []byte {
	value, line := h.field("Authorization")
	g, ok := basicOf(value)
	if ok {
		x := c.in.now
		if c.v.Lease.Known && line < len(x.lines) {
			x.lines[line] = "Authorization: Basic *"
		}
		if values == nil {
			values = map[int]string{}
		}
		values[line] = basic(c.decide(g))
	}
	if values == nil {
		return h.raw
	}
	return h.with(values)
}

// sendForm has the server get a request with a form, with the decision on a login in it.
func (c *conversation) sendForm() {
	h, form := c.in.head, c.in.form
	c.in.form = nil
	kept := form
	var values map[int]string
	if g, with, ok := formOf(string(form)); ok {
		form = []byte(with(c.decide(g)))
		if c.v.Lease.Known {
			kept = []byte(with(g.account, "*"))
		}
		_, line := h.field("Content-Length")
		values = map[int]string{line: strconv.Itoa(len(form))}
	}
	c.in.now.takes(kept)
	c.send(append(append([]byte(nil), c.headFor(h, values)...), form...))
	c.bodyOver()
}

// decide decides on a guess, and returns what the server gets in its place.
func (c *conversation) decide(g guess) (account, password string) {
	x := c.in.now
	if c.own == "" { // the image's own accounts decide
		c.noteGuess(x, g)
		return g.account, g.password
	}
	c.noteGuess(x, g)
	ok, err := c.h.Policy.Accepts(c.v.Lease.PotKey(), g.account, g.password)
	if err != nil {
		c.h.Logger().ErrorContext(c.ctx, "attacker is not let in", "session", c.v.Session, "error", err)
	}
	if x.opens = ok && err == nil; x.opens {
		return c.account, c.own
	}
	return g.account, rand.Text()
}

// noteGuess has a guess noted with its answer, unless it is the same as the one before: clients say theirs with each request.
func (c *conversation) noteGuess(x *exchange, g guess) {
	said := fmt.Sprintf("%q %q", g.account, g.password)
	if said == c.said {
		return
	}
	x.login, c.said = c.h.Guess(c.ctx, c.v, g.method, g.account, g.password), said
}

// takes takes bytes of a request's body.
func (x *exchange) takes(p []byte) {
	if room := keptBody - len(x.body); room > 0 && !x.secret {
		x.body = append(x.body, p[:min(room, len(p))]...)
	}
	x.bodySize += int64(len(p))
	x.uploads.write(p)
}

// bodyOver ends the request that is read.
func (c *conversation) bodyOver() {
	if x := c.in.now; x != nil {
		x.uploads.close(!c.in.body.over())
		c.in.now = nil
	}
}

// answered takes bytes of the server.
func (c *conversation) answered(p []byte) {
	for len(p) > 0 && !c.passing {
		out := &c.out
		if out.now != nil {
			n, ok := out.body.take(p, func([]byte) {})
			out.now.answered += int64(n)
			p = p[n:]
			if !ok {
				c.giveUp()
			} else if out.body.over() {
				c.answerOver()
			}
			continue
		}
		out.held = append(out.held, p...)
		h, n := cutHead(out.held, false)
		if n == 0 {
			if len(out.held) > maxHead {
				c.giveUp()
			}
			return
		}
		p = append([]byte(nil), out.held[n:]...)
		c.answers(h, n)
		out.held = nil
	}
}

// answers takes an answer's head.
func (c *conversation) answers(h head, size int) {
	if len(c.pending) == 0 {
		c.giveUp()
		return
	}
	x := c.pending[0]
	x.answered += int64(size)
	version, rest, _ := strings.Cut(string(h.lines[0]), " ")
	status, _, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(status)
	b, ok := bodyOf(h)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || !ok {
		c.giveUp()
		return
	}
	if code/100 == 1 && code != 101 {
		return // the answer comes later
	}
	x.answer, x.status = string(h.lines[0][:min(len(h.lines[0]), keptAnswer)]), code
	c.out.now, c.out.body = x, b
	length, _ := h.field("Content-Length")
	switch {
	case x.upgrades && (code == 101 || x.method == "CONNECT" && code/100 == 2):
		c.giveUp()
		return
	case x.method == "HEAD", code == 204, code == 304:
		c.out.body = body{}
	case !b.chunked && length == "":
		c.out.body = body{endless: true}
	}
	if c.out.body.over() {
		c.answerOver()
	}
}

// answerOver notes the request that was answered.
func (c *conversation) answerOver() {
	x := c.out.now
	c.out.now = nil
	if len(c.pending) > 0 && c.pending[0] == x {
		c.pending = c.pending[1:]
	}
	c.note(x)
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
