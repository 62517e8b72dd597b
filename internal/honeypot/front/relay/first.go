package relay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// First waits for the first bytes of an attacker: least of them, or fewer after which it says no more, and at most most. The pot, which
// says nothing unasked, may lose its patience meanwhile; ended is why the connection is over then. Nothing is closed.
func First(ctx context.Context, attacker, pot net.Conn, most, least int, idle time.Duration) (first []byte, ended string) {
	past := time.Unix(1, 0)
	gone := make(chan bool, 1)
	go func() {
		n, err := pot.Read(make([]byte, 1))
		over := n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)
		if over {
			_ = attacker.SetReadDeadline(past)
		}
		gone <- over
	}()
	_ = attacker.SetReadDeadline(time.Now().Add(cmp.Or(idle, DefaultIdle)))
	stop := context.AfterFunc(ctx, func() { _ = attacker.SetReadDeadline(past) })
	defer stop()
	first = make([]byte, most)
	n, err := io.ReadAtLeast(attacker, first, least)
	_ = pot.SetReadDeadline(past)
	over := <-gone
	_ = pot.SetReadDeadline(time.Time{})
	_ = attacker.SetReadDeadline(time.Time{})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx).Error()
	case over:
		return nil, PotClosed
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return first[:n], ""
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, Idle
	}
	return nil, AttackerClosed
}

// Early is a connection of which something was read already.
type Early struct {
	net.Conn

	said *bytes.Reader
}

// Unread returns a connection on which what was read comes first.
func Unread(conn net.Conn, read []byte) *Early { return &Early{conn, bytes.NewReader(read)} }

// Read reads that first.
func (e *Early) Read(p []byte) (int, error) {
	if e.said.Len() > 0 {
		return e.said.Read(p) //nolint:wrapcheck // it is a connection
	}
	return e.Conn.Read(p) //nolint:wrapcheck // it is a connection
}

// CloseWrite says that nothing more comes.
func (e *Early) CloseWrite() error { return CloseWrite(e.Conn) }

// CloseWrite says on a connection that nothing more comes, where that can be said.
func CloseWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
