// Package redis is the front of Redis: it decides on passwords, and notes what the pot's own server is asked for.
package redis

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	// defaultAccount is the one that a server with requirepass has.
	defaultAccount = "default"
	maxPending     = 1 << 16 // requests whose answer is waited for
	settleWithin   = 10 * time.Second
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
		c := &conversation{h: h, ctx: ctx, v: v, stay: stay, paired: true}
		c.in = requests{login: c.login, done: c.asked}
		c.out = replies{done: c.answered}
		defer c.unpair()
		return h.Relay(ctx, v, v.Conn, pot, c.pass)
	})
}

// conversation is one connection of a client with the pot's server.
type conversation struct {
	h    *Handler
	ctx  context.Context //nolint:containedctx // of the visit, for the relay's callbacks, which have none
	v    *front.Visit
	stay front.Stay
	in   requests
	out  replies

	guess    *event.Login // that the request which is read makes
	accepted string       // the password that was

	mu      sync.Mutex
	pending []asked // the oldest first
	paired  bool    // each answer belongs to the oldest of these
}

// asked is a request that was passed on.
type asked struct {
	request
	login *event.Login
	last  bool // what the server sends from its answer on answers nothing
}

// pass takes what one of both sent, and returns what the other gets.
func (c *conversation) pass(d relay.Direction, p []byte) []byte {
	if d == relay.Out {
		c.v.Rec.Record(recording.Out, 0, p)
		c.out.feed(p)
		if c.out.lost {
			c.unpair()
		}
		return p
	}
	passed := c.in.feed(p)
	if c.v.Lease.Known { // no password of somebody who may be honest is kept
		p = passed
		if c.accepted != "" {
			p = bytes.ReplaceAll(p, []byte(c.accepted), []byte("*"))
		}
	}
	c.v.Rec.Record(recording.In, 0, p)
	return passed
}

// login decides on a request that may carry a password, and returns what the server gets in its place: the request itself, or
// one with a password that is certainly wrong.
func (c *conversation) login(args [][]byte) [][]byte {
	account, password, at := credentials(args)
	if at == 0 {
		return args
	}
	c.guess = c.h.Guess(c.ctx, c.v, strings.ToUpper(string(args[0])), account, password)
	if c.guess != nil && c.opens(account, password) {
		c.accepted = password
		return args
	}
	wrong := append([][]byte(nil), args...)
	wrong[at] = []byte(rand.Text())
	return wrong
}

// credentials reads AUTH [ACCOUNT] PASSWORD and HELLO VERSION [AUTH ACCOUNT PASSWORD] …; at is where the password stands, 0 where
// there is none.
func credentials(args [][]byte) (account, password string, at int) {
	if len(args[0]) == len("auth") {
		switch len(args) {
		case 2:
			return defaultAccount, string(args[1]), 1
		case 3:
			return string(args[1]), string(args[2]), 2
		}
		return "", "", 0
	}
	for i := 2; i+2 < len(args); i++ {
		switch strings.ToLower(string(args[i])) {
		case "auth":
			return string(args[i+1]), string(args[i+2]), i + 2
		case "setname":
			i++
		default:
			return "", "", 0
		}
	}
	return "", "", 0
}

// opens reports whether the pot's server is asked. It decides by itself from the beginning where the image does not say how one logs in.
func (c *conversation) opens(account, password string) bool {
	if _, own := c.stay.Login(event.Redis); own == "" {
		return true
	}
	may := account == defaultAccount // the server has no other
	return c.h.Opens(c.ctx, c.v, c.stay, account, password, may, func() error { return c.settle(password) })
}

// settle makes the password that was accepted the pot's own, in its settings too: the server may begin anew.
func (c *conversation) settle(password string) error {
	ctx, cancel := context.WithTimeout(c.ctx, settleWithin)
	defer cancel()
	conn, err := c.stay.Dial(ctx, event.Redis)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // all was answered
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	answers := bufio.NewReader(conn)
	_, own := c.stay.Login(event.Redis)
	for _, request := range [][]string{{"AUTH", own}, {"CONFIG", "SET", "requirepass", password}, {"CONFIG", "REWRITE"}} {
		args := make([][]byte, len(request))
		for i, a := range request {
			args[i] = []byte(a)
		}
		if _, err := conn.Write(appendRequest(nil, args)); err != nil {
			return fmt.Errorf("set the pot's password: %w", err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			return fmt.Errorf("set the pot's password: %w", err)
		}
		if line != "+OK\r\n" {
			return fmt.Errorf("set the pot's password: %s: the server says %.100q", request[0], line)
		}
	}
	return nil
}

// asked is told of each request before it is passed on.
func (c *conversation) asked(r request) {
	a := asked{request: r, login: c.guess, last: endsPairs(r.args)}
	c.guess = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paired && len(c.pending) < maxPending {
		c.pending = append(c.pending, a)
		return
	}
	c.note(a, nil)
}

// endsPairs says whether the server goes on without being asked, or does not answer.
func endsPairs(args [][]byte) bool {
	switch strings.ToLower(string(args[0])) {
	case "subscribe", "psubscribe", "ssubscribe", "monitor", "sync", "psync":
		return true
	case "client":
		return len(args) > 1 && bytes.EqualFold(args[1], []byte("reply"))
	}
	return false
}

// answered is told of each answer.
func (c *conversation) answered(r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.paired || len(c.pending) == 0 {
		return
	}
	a := c.pending[0]
	c.pending = c.pending[1:]
	c.note(a, &r)
	if a.last {
		c.unpairLocked()
	}
}

func (c *conversation) unpair() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unpairLocked()
}

// unpairLocked notes what is pending without an answer, and what comes at once.
func (c *conversation) unpairLocked() {
	c.paired = false
	for _, a := range c.pending {
		c.note(a, nil)
	}
	c.pending = nil
}

// note notes a request; r is nil where its answer is not known.
func (c *conversation) note(a asked, r *reply) {
	if a.login != nil {
		a.login.Success = r != nil && !r.failed()
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: a.login})
		return
	}
	q := &event.Request{Size: a.size, Truncated: a.more, Args: make([]event.Bytes, len(a.args))}
	for i, arg := range a.args {
		q.Args[i] = event.Bytes(arg)
	}
	if r != nil {
		q.Failed, q.Answer, q.Answered = r.failed(), event.Bytes(r.head), r.size
	}
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceAsked, Request: q})
}
