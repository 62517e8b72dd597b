// Package mysql is the front of MySQL and MariaDB: it decides on logins, and notes what the pot's own server is asked for.
//
// A password is never sent, but a response to the server's challenge. An attacker is therefore always given the same
// challenge, so that the same guess is the same response.
package mysql

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const settleWithin = 10 * time.Second

// Handler is the front.
type Handler struct {
	front.Guard

	accounts front.Accounts
}

// New returns a front.
func New(g front.Guard) *Handler { return &Handler{Guard: g} }

var _ front.Handler = (*Handler)(nil)

// Serve implements front.Handler.
func (h *Handler) Serve(ctx context.Context, v *front.Visit) string {
	return h.Reach.Visit(ctx, v, func(pot net.Conn, stay front.Stay) string {
		c := &conversation{h: h, ctx: ctx, v: v, pot: pot, stay: stay}
		c.account, c.own = stay.Login(event.MySQL)
		c.left = c.own == "" || h.accounts.Left(v.Lease.PotKey(), stay.Pot().ID)
		c.asked.done = c.note
		defer c.asked.end()
		return h.Relay(ctx, v, v.Conn, pot, c.pass)
	})
}

// stage is how far a conversation is.
type stage int

const (
	greets   stage = iota // the server is to begin
	logsIn                // the client is to answer
	switched              // the client is to answer again, by another method
	changes               // the client says who it is from now on
	judged                // the server is to say what it thinks of the answer
	asks                  // statements and answers
	passes                // what is said is not understood, or none of the front's business
)

// conversation is one connection of a client with the pot's server.
type conversation struct {
	h            *Handler
	ctx          context.Context //nolint:containedctx // of the visit, for the relay's callbacks, which have none
	v            *front.Visit
	pot          net.Conn
	stay         front.Stay
	account, own string // of the pot's administrator

	left bool // it is for the pot's server alone to decide

	mu        sync.Mutex
	stage     stage
	fromPot   []byte // that is not yet whole
	fromThem  []byte
	server    greeting
	challenge []byte // the client's
	login     login
	reply     func(response []byte) []byte // what the server gets with a response in it
	seq       byte                         // of the client's last packet while it logs in
	guess     *event.Login
	opens     bool
	asked     statements
	compress  [2]*compressed
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
	switch { // no response of somebody who may be honest is kept
	case !c.v.Lease.Known || before == asks && c.stage == asks:
		c.v.Rec.Record(recording.In, 0, p)
	case !c.left:
		c.v.Rec.Record(recording.In, 0, passed)
	}
	return passed
}

// out takes what the server sent.
func (c *conversation) out(p []byte) []byte {
	switch c.stage {
	case greets:
		c.fromPot = append(c.fromPot, p...)
		return c.greet()
	case judged:
		c.fromPot = append(c.fromPot, p...)
		return c.judge()
	case asks:
		c.answered(p)
	case logsIn, switched, changes, passes:
	}
	return p
}

// greet gives the client the server's greeting, with a challenge of the client's own.
func (c *conversation) greet() []byte {
	p, _, ok := cutPacket(c.fromPot)
	if !ok {
		return c.orPass(&c.fromPot)
	}
	c.stage = passes
	if c.server, ok = readGreeting(p.body); ok {
		c.stage = logsIn
		c.challenge = c.server.challenge
	}
	if ok && !c.left {
		c.challenge = c.h.Policy.Challenge(c.v.Lease.PotKey(), challengeSize)
		copy(c.server.parts[0], c.challenge)
		copy(c.server.parts[1], c.challenge[len(c.server.parts[0]):])
	}
	return take(&c.fromPot)
}

// orPass waits for the rest of a packet, or gives up understanding what is longer than it can be.
func (c *conversation) orPass(held *[]byte) []byte {
	if len(*held) >= headerSize && bodySize(*held) > maxHandshake {
		c.stage = passes
		return take(held)
	}
	return nil
}

// take empties a buffer.
func take(held *[]byte) []byte {
	b := *held
	*held = nil
	return b
}

// in takes what the client sent.
func (c *conversation) in(p []byte) []byte {
	switch c.stage {
	case greets, logsIn, switched, changes:
		c.fromThem = append(c.fromThem, p...)
		first, rest, ok := cutPacket(c.fromThem)
		if !ok {
			return c.orPass(&c.fromThem)
		}
		passed := c.answer(first)
		if c.stage == passes {
			return take(&c.fromThem)
		}
		c.fromThem = nil
		if len(rest) > 0 { // it does not wait for what comes of its login
			passed = append(passed, c.in(append([]byte(nil), rest...))...)
		}
		return passed
	case judged, asks:
		if c.stage == asks && c.compress[relay.In] == nil && c.asked.changes(p) {
			c.asked.end()
			c.stage = changes
			return c.in(p)
		}
		if c.compress[relay.In] != nil && c.stage == asks {
			c.compress[relay.In].feed(p)
		} else {
			c.asked.ask(p)
		}
	case passes:
	}
	return p
}

// answer takes a client's answer to the challenge, and returns what the server gets.
func (c *conversation) answer(p packet) []byte {
	c.seq = p.seq
	response := p.body
	if c.stage != switched {
		if !c.understands(append([]byte(nil), p.body...)) {
			c.stage = passes
			c.v.Rec.Note(event.Evidence{Kind: event.EvidenceMalformed, Data: front.Clip(string(p.body), keptAnswer)})
			return nil
		}
		response = c.login.response
		if c.left {
			return c.leave(response)
		}
		// MariaDB has a client that changes its account answer a challenge anew.
		if c.stage == changes || c.login.caps&capPlugin != 0 && c.login.plugin != nativePassword {
			c.stage = switched
			c.tell(c.v.Conn, c.seq+1, switchTo(nativePassword, c.challenge))
			return nil
		}
	}
	c.stage = judged
	return c.reply(c.decide(response, c.server.challenge))
}

// understands reads as whom a client wants to be let in.
func (c *conversation) understands(body []byte) (ok bool) {
	switch c.stage {
	case logsIn:
		c.login, ok = readLogin(body)
		c.reply = func(response []byte) []byte { return appendPacket(nil, 1, c.login.with(response, nativePassword)) }
	case changes:
		c.login, ok = readChange(body[1:])
		c.reply = func(response []byte) []byte { return appendPacket(nil, 0, c.login.changed(response, nativePassword)) }
	case greets, switched, judged, asks, passes:
	}
	return ok
}

// tell sends a packet of the front's own. The relay closes what can't be written to any more.
func (c *conversation) tell(to net.Conn, seq byte, body []byte) {
	_ = to.SetWriteDeadline(time.Now().Add(settleWithin))
	_, _ = to.Write(appendPacket(nil, seq, body))
}

func (c *conversation) answered(p []byte) {
	if c.compress[relay.Out] != nil {
		c.compress[relay.Out].feed(p)
		return
	}
	c.asked.answer(p)
}

// note notes a statement.
func (c *conversation) note(s *statement) {
	text := s.text
	if s.name == commandName(changeUser) && c.v.Lease.Known { // within a compressed frame
		text = withoutResponse(text)
	}
	q := &event.Request{
		Args: []event.Bytes{event.Bytes(s.name)}, Size: s.size + s.fileSize, Failed: s.failed(), Answered: s.answered,
		Truncated: int64(len(s.text)) < s.size || int64(len(s.file)) < s.fileSize,
	}
	for _, arg := range [][]byte{text, s.file} {
		if len(arg) > 0 {
			q.Args = append(q.Args, event.Bytes(arg))
		}
	}
	if len(s.answer) > headerSize {
		q.Answer = event.Bytes(s.answer[headerSize:])
	}
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceAsked, Request: q})
}
