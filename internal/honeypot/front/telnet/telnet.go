// Package telnet is the front of telnet: it decides on logins, and notes what is typed. The pot's own telnetd and login(1) speak with the
// attacker.
package telnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/typed"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	maxPrompt = 256     // bytes of what was printed last that are looked at
	maxAhead  = 4 << 10 // bytes that are typed ahead of a prompt
	maxValue  = 256     // bytes of a variable
	session   = 1       // the shell's channel
	method    = "password"
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
		c := &conversation{h: h, ctx: ctx, v: v, stay: stay, pot: pot, keys: typed.New(typed.MaxLine)}
		defer c.end()
		return h.Relay(ctx, v, v.Conn, pot, c.pass)
	})
}

// stage is how far a conversation is.
type stage int

const (
	named  stage = iota // a prompt is waited for: what is typed ahead of one for a password must not be read at one for an account
	naming              // an account is to be typed
	secret              // a password is to be typed
	judged              // login is to say what it thinks of it
	inside              // a shell
)

// conversation is one connection of a client with the pot's server.
type conversation struct {
	h    *Handler
	ctx  context.Context //nolint:containedctx // of the visit, for the relay's callbacks, which have none
	v    *front.Visit
	stay front.Stay
	pot  net.Conn

	mu       sync.Mutex
	stage    stage
	in, out  stream
	keys     *typed.Keys
	cr       bool   // the last byte that was typed was CR
	account  string // that was typed, or told
	ahead    []byte // what was typed before its prompt
	password []byte // as it is typed, with its end
	passed   []byte // that the pot gets
	kept     []byte // of that, what is recorded
	prompt   []byte // what was printed last, since the line's begin
	verdict  []byte // what was printed since a password was given
	guess    *event.Login
	start    event.Start
}

// pass takes what one of both sent, and returns what the other gets.
func (c *conversation) pass(d relay.Direction, p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == relay.Out {
		c.prints(p)
		return p
	}
	c.passed, c.kept = nil, nil
	within := c.stage == inside
	c.in.split(p, c.types, c.says)
	switch {
	case within:
		c.v.Rec.Record(recording.In, session, c.kept)
	case c.v.Lease.Known: // no password of somebody who may be honest is kept
		c.v.Rec.Record(recording.In, 0, c.kept)
	default:
		c.v.Rec.Record(recording.In, 0, p)
	}
	return c.passed
}

// send has the pot get a byte of data.
func (c *conversation) send(b byte) {
	c.passed = append(c.passed, encoded(b)...)
	if c.stage != secret {
		c.kept = append(c.kept, b)
	}
}

// says takes a command of the client's program.
func (c *conversation) says(raw []byte) {
	c.passed = append(c.passed, raw...)
	name, value := option(raw)
	switch name {
	case optWindow:
		width, height, ok := window(value)
		if !ok {
			return
		}
		c.start.Width, c.start.Height = width, height
		if c.stage == inside {
			c.v.Rec.Note(event.Evidence{Kind: event.EvidenceSize, Channel: session, Size: &event.Size{Width: width, Height: height}})
		}
	case optTerminal:
		if len(value) > 1 && value[0] == 0 {
			c.start.Term = front.Clip(strings.ToLower(string(value[1:])), maxValue)
		}
	case optEnvironment:
		variables(value, func(name, value string) {
			c.v.Rec.Note(event.Evidence{Kind: event.EvidenceVariable, Variable: &event.Variable{Name: front.Clip(name, maxValue), Value: front.Clip(value, maxValue)}})
			if name == "USER" {
				c.account = value
			}
		})
	}
}

// types takes what was typed.
func (c *conversation) types(p []byte) {
	for len(p) > 0 {
		if (c.stage == named || c.stage == judged) && !c.cr {
			c.ahead = append(c.ahead, p[:min(len(p), maxAhead-len(c.ahead))]...)
			return
		}
		c.key(p[0])
		p = p[1:]
	}
}

// key takes a byte that was typed, where a prompt is not waited for.
func (c *conversation) key(b byte) {
	if c.cr {
		c.cr = false
		if b == '\n' || b == 0 { // it belongs to the line's end before
			c.send(b)
			return
		}
	}
	switch c.stage {
	case naming:
		c.send(b)
		c.cr = b == '\r'
		for _, l := range c.keys.Input([]byte{b}) {
			c.account, c.stage = string(l.Text), named
		}
	case named, judged:
		c.types([]byte{b}) // it did not belong to the line's end
	case secret:
		c.password = append(c.password, b)
		c.cr = b == '\r'
		for _, l := range c.keys.Input([]byte{b}) {
			c.entered(string(l.Text))
			return
		}
		if len(c.password) > maxAhead {
			c.entered(string(c.password))
		}
	case inside:
		c.send(b)
		c.cr = b == '\r'
		c.line(c.keys.Input([]byte{b}))
	}
}

// line notes what was typed in the shell.
func (c *conversation) line(lines []typed.Line) {
	for _, l := range lines {
		if l.Text != "" {
			c.v.Rec.Note(event.Evidence{Kind: event.EvidenceInput, Channel: session, Input: l.Text})
		}
	}
}

// entered takes a password that was typed.
func (c *conversation) entered(password string) {
	said := c.password
	c.password = nil
	c.guess = c.h.Guess(c.ctx, c.v, method, c.account, password)
	if password != "" && !c.h.Opens(c.ctx, c.v, c.stay, c.account, password, true, func() error { return c.h.Admit(c.stay, c.account, password) }) {
		said = append([]byte(rand.Text()), said[len(said)-1])
	}
	for _, b := range said {
		c.send(b)
	}
	c.stage, c.verdict = judged, nil
}

// prints takes what the pot sends.
func (c *conversation) prints(p []byte) {
	if c.stage == inside {
		var text []byte
		c.out.split(p, func(b []byte) { text = append(text, b...) }, func([]byte) {})
		c.v.Rec.Record(recording.Out, session, text)
		return
	}
	c.v.Rec.Record(recording.Out, 0, p)
	c.out.split(p, c.printed, func([]byte) {})
	c.looks()
}

func (c *conversation) printed(p []byte) {
	for _, b := range p {
		if b == '\n' {
			c.prompt = c.prompt[:0]
		} else if len(c.prompt) < maxPrompt {
			c.prompt = append(c.prompt, b)
		}
		if c.stage == judged && len(c.verdict) < maxPrompt {
			c.verdict = append(c.verdict, b)
		}
	}
}

// looks looks at what was printed last.
func (c *conversation) looks() {
	if c.stage == judged {
		c.judge()
	}
	last := strings.ToLower(strings.TrimSpace(string(c.prompt)))
	switch {
	case c.stage == inside:
	case strings.HasSuffix(last, "login:"):
		c.becomes(naming)
	case strings.HasSuffix(last, "password:"):
		c.becomes(secret)
	}
}

// becomes goes on, with what was typed ahead.
func (c *conversation) becomes(next stage) {
	if c.stage == next {
		return
	}
	c.stage = next
	c.prompt = c.prompt[:0]
	ahead := c.ahead
	c.ahead, c.passed, c.kept = nil, nil, nil
	c.types(ahead)
	if len(c.passed) > 0 {
		_ = c.pot.SetWriteDeadline(time.Now().Add(time.Minute))
		_, _ = c.pot.Write(c.passed) // the relay closes what can't be written to any more
	}
}

// refusals are how login begins to say that it lets nobody in.
func refusals() []string {
	return []string{"login incorrect", "login timed out", "login failure", "authentication failure", "maximum number of tries", "permission denied", "access denied"}
}

// judge reads what login thinks of a password.
func (c *conversation) judge() {
	text := bytes.ToLower(bytes.TrimSpace(c.verdict))
	if len(text) == 0 {
		return
	}
	for _, r := range refusals() {
		if bytes.HasPrefix(text, []byte(r)) {
			c.told(false)
			c.stage, c.account = named, ""
			return
		}
		if strings.HasPrefix(r, string(text)) {
			return // it may go on so
		}
	}
	c.told(true)
	start := c.start
	start.What = "shell"
	if start.Term == "" {
		start.Term = "unknown"
	}
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceStart, Channel: session, Start: &start})
	c.becomes(inside)
}

// told notes a guess.
func (c *conversation) told(success bool) {
	if c.guess != nil {
		c.guess.Success = success
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: c.guess})
		c.guess = nil
	}
}

func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told(false)
}
