package postgres

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
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
	stop := context.AfterFunc(c.ctx, func() { _ = c.v.Conn.SetDeadline(time.Unix(1, 0)) })
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
		first, ended := c.hear()
		if ended != "" {
			return ended
		}
		code := uint32(0)
		if len(first) == 2*lengthSize {
			code = binary.BigEndian.Uint32(first[lengthSize:])
		}
		if binary.BigEndian.Uint32(first) != 2*lengthSize || code != sslRequest && code != gssRequest {
			c.client = &early{Conn: c.client, said: bytes.NewReader(first)}
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
		c.h.o.Log.WarnContext(c.ctx, "the pot's server is not reached as a client wants it", "session", c.v.Session, "error", err)
		return relay.PotClosed
	}
	outer, err := tlsterm.Server(c.ctx, c.v, c.client, c.h.o.Certificates, helloWithin)
	if err != nil {
		return relay.AttackerClosed
	}
	c.client = outer
	return ""
}

// hear waits for the message with which a client begins, or for the first bytes of one that is longer than a wish; and for the server's
// end, which has its own patience.
func (c *conversation) hear() (first []byte, ended string) {
	gone := make(chan bool, 1)
	go func() {
		n, err := c.pot.Read(make([]byte, 1)) // it says nothing unasked
		over := n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)
		if over {
			_ = c.client.SetReadDeadline(time.Unix(1, 0))
		}
		gone <- over
	}()
	_ = c.client.SetReadDeadline(time.Now().Add(cmp.Or(c.h.o.Idle, relay.DefaultIdle)))
	if c.ctx.Err() != nil { // the lease ended just before
		_ = c.client.SetReadDeadline(time.Unix(1, 0))
	}
	first = make([]byte, 2*lengthSize)
	n, err := io.ReadFull(c.client, first)
	_ = c.pot.SetReadDeadline(time.Unix(1, 0))
	over := <-gone
	_ = c.pot.SetReadDeadline(time.Time{})
	_ = c.client.SetDeadline(time.Time{})
	switch {
	case over:
		return nil, relay.PotClosed
	case err == nil, n >= lengthSize && errors.Is(err, io.ErrUnexpectedEOF):
		return first[:n], ""
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, relay.Idle
	}
	return nil, relay.AttackerClosed
}

// early is a connection of which something was read already.
type early struct {
	net.Conn

	said *bytes.Reader
}

// Read reads that first.
func (e *early) Read(p []byte) (int, error) {
	if e.said.Len() > 0 {
		return e.said.Read(p) //nolint:wrapcheck // it is a connection
	}
	return e.Conn.Read(p) //nolint:wrapcheck // it is a connection
}

// CloseWrite says that nothing more comes.
func (e *early) CloseWrite() error { return closeWrite(e.Conn) }
