// Package postgres is the front of PostgreSQL: it decides on logins, by whichever method the pot's own server asks for, and notes what that
// server is asked for.
package postgres

import (
	"context"
	"crypto/rand"
	"net"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	settleWithin = 10 * time.Second
	helloWithin  = time.Minute // to agree on TLS: authentication_timeout of the server
)

// Handler is the front.
type Handler struct {
	front.Guard

	accounts front.Accounts
	lists    lists
}

// New returns a front.
func New(g front.Guard) *Handler { return &Handler{Guard: g} }

var _ front.Handler = (*Handler)(nil)

// Serve implements front.Handler.
func (h *Handler) Serve(ctx context.Context, v *front.Visit) string {
	return h.Reach.Visit(ctx, v, func(pot net.Conn, stay front.Stay) string {
		c := &conversation{h: h, ctx: ctx, v: v, client: v.Conn, pot: pot, stay: stay}
		c.account, c.own = stay.Login(event.Postgres)
		c.login.left = c.own == "" || h.accounts.Left(v.Lease.PotKey(), stay.Pot().ID)
		c.asked.done = c.note
		if ended := c.open(); ended != "" {
			return ended
		}
		defer c.asked.end()
		c.server = &replaceable{now: c.pot}
		return h.Relay(ctx, v, c.client, c.server, c.pass)
	})
}

// stage is how far a conversation is.
type stage int

const (
	opening   stage = iota // the client is to say who it is
	waiting                // the server is to say what it wants
	answering              // the client is to answer that
	judging                // the server is to say what it thinks of the answer
	asking                 // queries and answers
	passing                // what is said is not understood, or none of the front's business
)

// conversation is one connection of a client with the pot's server.
type conversation struct {
	h            *Handler
	ctx          context.Context //nolint:containedctx // of the visit, for the relay's callbacks, which have none
	v            *front.Visit
	client, pot  net.Conn     // while they begin
	encrypted    bool         // the pot's, too
	server       *replaceable // the pot's from then on
	stay         front.Stay
	account, own string // of the pot's administrator

	mu       sync.Mutex
	stage    stage
	fromPot  []byte // that is not yet whole
	fromThem []byte
	begun    []byte // what the client said who it is
	login    login
	asked    queries
}

// pass takes what one of both sent, and returns what the other gets.
func (c *conversation) pass(d relay.Direction, p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == relay.Out {
		p = c.out(p)
		c.v.Rec.Record(recording.Out, 0, p)
		return p
	}
	before := c.stage
	passed := c.in(p)
	switch {
	case !c.v.Lease.Known || before == opening || before == asking:
		c.v.Rec.Record(recording.In, 0, p)
	case before == answering: // no password of somebody who may be honest is kept
		c.v.Rec.Record(recording.In, 0, passed)
	}
	return passed
}

// in takes what the client sent.
func (c *conversation) in(p []byte) []byte {
	switch c.stage {
	case asking, judging:
		c.asked.ask(p)
		return p
	case passing:
		return p
	case waiting: // it is not its turn
		c.fromThem = append(c.fromThem, p...)
		if len(c.fromThem) > maxLogin {
			return c.giveUp(&c.fromThem)
		}
		return nil
	case opening, answering:
	}
	c.fromThem = append(c.fromThem, p...)
	if c.stage == opening {
		return c.begin()
	}
	kind, body, _, rest, ok := cutMessage(c.fromThem)
	if !ok {
		if broken(c.fromThem) {
			return c.giveUp(&c.fromThem)
		}
		return nil
	}
	if kind != 'p' {
		return c.giveUp(&c.fromThem)
	}
	rest = append([]byte(nil), rest...)
	passed := c.answer(body)
	if c.stage == passing {
		return take(&c.fromThem)
	}
	c.fromThem = nil
	if len(rest) > 0 {
		passed = append(passed, c.in(rest)...)
	}
	return passed
}

// giveUp passes on what was held, and all that comes.
func (c *conversation) giveUp(held *[]byte) []byte {
	c.stage = passing
	return take(held)
}

// take empties a buffer.
func take(held *[]byte) []byte {
	b := *held
	*held = nil
	return b
}

// begin takes the message with which a client says who it is.
func (c *conversation) begin() []byte {
	if len(c.fromThem) < lengthSize {
		return nil
	}
	n := int(c.fromThem[0])<<24 | int(c.fromThem[1])<<16 | int(c.fromThem[2])<<8 | int(c.fromThem[3])
	if n < 2*lengthSize || n > maxStartup {
		return c.giveUp(&c.fromThem)
	}
	if len(c.fromThem) < n {
		return nil
	}
	b, ok := readBeginning(c.fromThem[lengthSize:n])
	c.noteBeginning(b, int64(n))
	if !ok {
		return c.giveUp(&c.fromThem)
	}
	c.login.account = b.user
	if c.stage = waiting; c.login.left {
		c.stage = judging
	}
	passed, rest := append([]byte(nil), c.fromThem[:n]...), append([]byte(nil), c.fromThem[n:]...)
	c.fromThem, c.begun = nil, append([]byte(nil), passed...)
	if len(rest) > 0 {
		passed = append(passed, c.in(rest)...)
	}
	return passed
}

// noteBeginning notes what a client says of itself, or that it asks for nothing but another's end.
func (c *conversation) noteBeginning(b beginning, size int64) {
	if b.code == cancelRequest {
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceAsked, Request: &event.Request{Args: []event.Bytes{"CancelRequest"}, Size: size}})
	}
	for _, p := range b.parameters[:min(len(b.parameters), maxValues)] {
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceVariable, Variable: &event.Variable{Name: front.Clip(p[0], keptValue), Value: front.Clip(p[1], keptValue)}})
	}
}

// out takes what the server sent.
func (c *conversation) out(p []byte) []byte {
	switch c.stage {
	case opening, passing:
		return p
	case asking:
		c.asked.answer(p)
		return p
	case waiting, answering, judging:
	}
	c.fromPot = append(c.fromPot, p...)
	var passed []byte
	for c.stage == waiting || c.stage == judging || c.stage == answering {
		kind, body, whole, rest, ok := cutMessage(c.fromPot)
		if !ok {
			if broken(c.fromPot) {
				passed = append(passed, c.giveUp(&c.fromPot)...)
			}
			return passed
		}
		passed = append(passed, c.said(kind, body, whole)...)
		c.fromPot = rest
	}
	rest := take(&c.fromPot)
	if c.stage == asking {
		c.asked.answer(rest)
	}
	return append(passed, rest...)
}

// tell sends bytes of the front's own. The relay closes what can't be written to any more.
func (c *conversation) tell(to net.Conn, p []byte) {
	_ = to.SetWriteDeadline(time.Now().Add(settleWithin))
	_, _ = to.Write(p)
}

// turn gives the client the word, which may have spoken already.
func (c *conversation) turn() {
	c.stage = answering
	if early := take(&c.fromThem); len(early) > 0 {
		c.tell(c.server, c.in(early))
	}
}

// note notes a query.
func (c *conversation) note(q *query) {
	r := &event.Request{
		Args: []event.Bytes{event.Bytes(q.name)}, Size: q.size + q.fileSize, Failed: q.failed, Answer: event.Bytes(q.answer), Answered: q.answered,
		Truncated: q.more || int64(len(q.file)) < q.fileSize,
	}
	for _, arg := range q.args {
		r.Args = append(r.Args, event.Bytes(arg))
	}
	if len(q.file) > 0 {
		r.Args = append(r.Args, event.Bytes(q.file))
	}
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceAsked, Request: r})
}

// wrong is a password that is none.
func wrong() string { return rand.Text() }
