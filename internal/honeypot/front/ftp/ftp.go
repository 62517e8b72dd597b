// Package ftp is the front of FTP's control connection: it decides on logins, and notes commands with their replies. The pot's own server
// answers.
package ftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	maxLine    = 4 << 10 // vsftpd's VSFTP_MAX_COMMAND_LINE
	maxReply   = 256     // bytes of a reply that are kept
	maxPending = 1 << 10 // commands whose reply is waited for
	method     = "password"
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
		c := &conversation{h: h, ctx: ctx, v: v, stay: stay}
		defer c.end()
		return h.Relay(ctx, v, v.Conn, pot, c.pass)
	})
}

// command is one of a client, and what it was answered.
type command struct {
	verb, argument string
	size           int64
	login          *event.Login
	answered       int64
}

// conversation is one control connection of a client with the pot's server.
type conversation struct {
	h    *Handler
	ctx  context.Context //nolint:containedctx // of the visit, for the relay's callbacks, which have none
	v    *front.Visit
	stay front.Stay

	mu      sync.Mutex
	passing bool // what is said is not understood, or encrypted
	account string
	held    []byte // of a command
	reply   []byte // of a reply's line
	more    string // the code of a reply of many lines that goes on
	pending []*command
	greeted bool
}

// pass takes what one of both sent, and returns what the other gets.
func (c *conversation) pass(d relay.Direction, p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == relay.Out {
		c.v.Rec.Record(recording.Out, 0, p)
		c.answers(p)
		return p
	}
	passed := c.asks(p)
	if c.v.Lease.Known { // no password of somebody who may be honest is kept
		p = passed
	}
	c.v.Rec.Record(recording.In, 0, p)
	return passed
}

// asks takes bytes of the client, and returns what the server gets: whole lines.
func (c *conversation) asks(p []byte) (passed []byte) {
	c.held = append(c.held, p...)
	for !c.passing {
		n := bytes.IndexByte(c.held, '\n') + 1
		if n == 0 {
			if len(c.held) > maxLine {
				c.giveUp()
				break
			}
			return passed
		}
		passed = append(passed, c.command(c.held[:n])...)
		c.held = append([]byte(nil), c.held[n:]...)
	}
	passed = append(passed, c.held...)
	c.held = nil
	return passed
}

// giveUp passes on all that comes, and notes what is known.
func (c *conversation) giveUp() {
	c.passing = true
	for _, one := range c.pending {
		c.note(one, "")
	}
	c.pending = nil
}

// command takes a line, and returns what the server gets.
func (c *conversation) command(line []byte) []byte {
	text := strings.TrimRight(string(line), "\r\n")
	end := string(line[len(text):])
	if text == "" { // which is not answered
		return line
	}
	verb, argument, _ := strings.Cut(text, " ")
	verb = strings.ToUpper(verb)
	one := &command{verb: verb, argument: argument, size: int64(len(line))}
	switch verb {
	case "USER":
		c.account = argument
	case "PASS":
		one.login = c.h.Guess(c.ctx, c.v, method, c.account, argument)
		if !c.opens(argument) {
			line = []byte(text[:len("PASS")] + " " + rand.Text() + end)
		}
	}
	if len(c.pending) == maxPending {
		c.giveUp()
	}
	if !c.passing {
		c.pending = append(c.pending, one)
	}
	return line
}

// opens reports whether the server is asked about a password as it is. Anonymous logins are no guesses.
func (c *conversation) opens(password string) bool {
	if slices.Contains([]string{"anonymous", "ftp"}, c.account) || password == "" {
		return true
	}
	may := !slices.Contains(barred(), c.account)
	return c.h.Opens(c.ctx, c.v, c.stay, c.account, password, may, func() error { return c.h.Admit(c.stay, c.account, password) })
}

// barred are whom no server of FTP lets in (/etc/ftpusers of Debian).
func barred() []string {
	return []string{"root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "nobody"}
}

// answers takes bytes of the server.
func (c *conversation) answers(p []byte) {
	for len(p) > 0 && !c.passing {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		if len(c.pending) > 0 {
			c.pending[0].answered += int64(n)
		}
		c.reply = append(c.reply, p[:min(n, maxReply-min(len(c.reply), maxReply))]...)
		ended := p[n-1] == '\n'
		p = p[n:]
		if ended {
			c.line(strings.TrimRight(string(c.reply), "\r\n"))
			c.reply = c.reply[:0]
		}
	}
}

// line takes a line of a reply (RFC 959, section 4.2).
func (c *conversation) line(text string) {
	switch {
	case c.more != "" && !strings.HasPrefix(text, c.more+" "):
		return
	case len(text) > 3 && text[3] == '-' && c.more == "":
		c.more = text[:3]
		return
	}
	c.more = ""
	if text == "" || text[0] == '1' { // another follows
		return
	}
	if !c.greeted {
		c.greeted = true
		return
	}
	if len(c.pending) == 0 {
		return
	}
	one := c.pending[0]
	c.pending = c.pending[1:]
	c.note(one, text)
	if one.verb == "AUTH" && strings.HasPrefix(text, "234") { // from here on it is encrypted
		c.giveUp()
	}
}

// note notes a command; reply is empty where it is not known.
func (c *conversation) note(one *command, reply string) {
	if one.verb == "PASS" {
		if one.login != nil {
			one.login.Success = strings.HasPrefix(reply, "230")
			c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: one.login})
		}
		return
	}
	r := &event.Request{
		Args: []event.Bytes{event.Bytes(one.verb)}, Size: one.size, Answer: event.Bytes(reply), Answered: one.answered,
		Failed: reply != "" && reply[0] >= '4',
	}
	if one.argument != "" {
		r.Args = append(r.Args, event.Bytes(one.argument))
	}
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceAsked, Request: r})
}

func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveUp()
}
