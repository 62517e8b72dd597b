package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/tlsterm"
)

// A server looks for an account when a client says who it is, and refuses later whoever had none then. So the client for whom an account
// is made is given a new connection to the server, on which the front says the same until the client's answer is asked for.

// anew replaces the connection to the pot's server.
func (c *conversation) anew() error {
	ctx, cancel := context.WithTimeout(c.ctx, settleWithin)
	defer cancel()
	conn, err := c.stay.Dial(ctx, event.Postgres)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(settleWithin))
	conn, err = c.asBefore(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("connect to the pot's server anew: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	c.fromPot = nil
	c.server.replace(conn)
	return nil
}

// asBefore says on a connection what was said on the one before.
func (c *conversation) asBefore(ctx context.Context, conn net.Conn) (net.Conn, error) {
	if c.encrypted {
		wish := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 2*lengthSize), sslRequest)
		answer := make([]byte, 1)
		_, err := conn.Write(wish)
		if err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		if err != nil || answer[0] != 'S' {
			return conn, fmt.Errorf("ask for TLS: it says %q: %w", answer, err)
		}
		inner, err := tlsterm.Pot(ctx, conn, settleWithin)
		if err != nil {
			return conn, err
		}
		_ = inner.SetDeadline(time.Now().Add(settleWithin))
		conn = inner
	}
	if _, err := conn.Write(c.begun); err != nil {
		return conn, fmt.Errorf("begin: %w", err)
	}
	for {
		kind, body, err := readMessage(conn)
		if err != nil {
			return conn, err
		}
		if kind != 'R' || len(body) < 4 {
			continue
		}
		l := &c.login
		switch code, more := binary.BigEndian.Uint32(body), body[4:]; code {
		case authClear:
			return conn, nil
		case authMD5:
			l.salt = more
			return conn, nil
		case authSASL:
			if _, err := conn.Write(begins(scramMethod, l.pot.first())); err != nil {
				return conn, fmt.Errorf("answer: %w", err)
			}
		case authSASLGoes:
			if _, ok := l.pot.reads(more); !ok {
				return conn, fmt.Errorf("it says %.100q", more)
			}
			return conn, nil
		default:
			return conn, fmt.Errorf("it asks for a login by method %d", code)
		}
	}
}

// readMessage reads a message that is no error, and nothing more.
func readMessage(r io.Reader) (kind byte, body []byte, err error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, fmt.Errorf("hear what it says: %w", err)
	}
	if broken(head) {
		return 0, nil, fmt.Errorf("it says %.100q", head)
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-lengthSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("hear what it says: %w", err)
	}
	if head[0] == 'E' {
		return 0, nil, errors.New("it says " + failure(body))
	}
	return head[0], body, nil
}

// replaceable is a connection that another may take the place of.
type replaceable struct {
	mu  sync.Mutex
	now net.Conn
}

func (r *replaceable) conn() net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// replace closes the connection and goes on with another.
func (r *replaceable) replace(by net.Conn) {
	r.mu.Lock()
	old := r.now
	r.now = by
	r.mu.Unlock()
	_ = old.Close()
}

// Read implements net.Conn; it goes on with the other.
func (r *replaceable) Read(p []byte) (int, error) {
	for {
		c := r.conn()
		n, err := c.Read(p)
		if n > 0 || err == nil || c == r.conn() {
			return n, err //nolint:wrapcheck // it is a connection
		}
	}
}

// Write implements net.Conn.
func (r *replaceable) Write(p []byte) (int, error) { return r.conn().Write(p) } //nolint:wrapcheck // it is a connection

// Close implements net.Conn.
func (r *replaceable) Close() error { return r.conn().Close() } //nolint:wrapcheck // it is a connection

// CloseWrite says that nothing more comes.
func (r *replaceable) CloseWrite() error { return relay.CloseWrite(r.conn()) }

// LocalAddr implements net.Conn.
func (r *replaceable) LocalAddr() net.Addr { return r.conn().LocalAddr() }

// RemoteAddr implements net.Conn.
func (r *replaceable) RemoteAddr() net.Addr { return r.conn().RemoteAddr() }

// SetDeadline implements net.Conn.
func (r *replaceable) SetDeadline(t time.Time) error { return r.conn().SetDeadline(t) } //nolint:wrapcheck // it is a connection

// SetReadDeadline implements net.Conn.
func (r *replaceable) SetReadDeadline(t time.Time) error { return r.conn().SetReadDeadline(t) } //nolint:wrapcheck // it is a connection

// SetWriteDeadline implements net.Conn.
func (r *replaceable) SetWriteDeadline(t time.Time) error { return r.conn().SetWriteDeadline(t) } //nolint:wrapcheck // it is a connection
