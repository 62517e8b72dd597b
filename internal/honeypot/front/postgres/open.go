package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/tlsterm"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const maxWishes = 4 // for encryption; a client has two at most

// open hears what the client wants its connection encrypted by, and has that where the pot's server does. It returns why the connection
// ended, if it did; nothing was read then that is not of both as they are from here on.
func (c *conversation) open() (ended string) {
	pot := c.pot
	stop := context.AfterFunc(c.ctx, func() {
		_ = c.v.Conn.Close()
		_ = pot.Close()
	})
	defer stop()
	defer func() {
		if ended == "" {
			return
		}
		_ = c.pot.Close()
		if cause := context.Cause(c.ctx); cause != nil {
			ended = cause.Error()
		}
	}()
	for range maxWishes {
		first, ended := relay.First(c.ctx, c.client, c.pot, 2*lengthSize, 2*lengthSize, c.h.Idle)
		if ended != "" {
			return ended
		}
		code := wishOf(first)
		if code != sslRequest && code != gssRequest {
			c.client = relay.Unread(c.client, first)
			return ""
		}
		answer, ended := c.wish(first)
		switch {
		case ended != "":
			return ended
		case answer == 'S' && code == sslRequest:
			if ended := c.encrypt(); ended != "" {
				return ended
			}
		case answer != 'N': // an error, or GSSAPI, which passes
			return ""
		}
	}
	return ""
}

// wishOf returns what a client begins with, where that has the length of a wish.
func wishOf(first []byte) uint32 {
	if len(first) < 2*lengthSize || binary.BigEndian.Uint32(first) != 2*lengthSize {
		return 0
	}
	return binary.BigEndian.Uint32(first[lengthSize:])
}

// wish passes on what the client wants, and what the server answers to that.
func (c *conversation) wish(first []byte) (answer byte, ended string) {
	c.v.Rec.Record(recording.In, 0, first)
	b := make([]byte, 1)
	_ = c.pot.SetDeadline(time.Now().Add(helloWithin))
	_, err := c.pot.Write(first)
	if err == nil {
		_, err = io.ReadFull(c.pot, b)
	}
	if err != nil {
		return 0, relay.PotClosed
	}
	_ = c.pot.SetDeadline(time.Time{})
	c.v.Rec.Record(recording.Out, 0, b)
	_ = c.client.SetWriteDeadline(time.Now().Add(helloWithin))
	if _, err := c.client.Write(b); err != nil {
		return 0, relay.AttackerClosed
	}
	return b[0], ""
}

// encrypt has both connections encrypted, each by a key of its own. A client whose login is left to the server binds that to the
// certificate where the server offers it; so the server is not to know that there is any.
func (c *conversation) encrypt() (ended string) {
	var err error
	if c.login.left {
		_ = c.pot.Close()
		c.pot, err = c.stay.Dial(c.ctx, event.Postgres)
	} else {
		var inner *tls.Conn
		if inner, err = tlsterm.Pot(c.ctx, c.pot, helloWithin); err == nil {
			c.pot, c.encrypted = inner, true
		}
	}
	if err != nil {
		c.h.Logger().WarnContext(c.ctx, "the pot's server is not reached as a client wants it", "session", c.v.Session, "error", err)
		return relay.PotClosed
	}
	outer, err := tlsterm.Server(c.ctx, c.v, c.client, c.h.Certificates, helloWithin)
	if err != nil {
		return relay.AttackerClosed
	}
	c.client = outer
	return ""
}
