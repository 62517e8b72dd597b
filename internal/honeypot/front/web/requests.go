package web

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

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
