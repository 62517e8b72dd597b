package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
)

const (
	longestCall = 5 * time.Minute
	silence     = 30 * time.Second // that ends a call
	firstWait   = 10 * time.Second // for a client to speak
	greetWait   = 200 * time.Millisecond
	settleWait  = 500 * time.Millisecond // for the rest of what a client says first

	maxIn       = 1 << 20 // bytes that are taken of one call
	keptData    = 4096    // of its first bytes
	maxRequests = 64      // in one call
	readPiece   = 2048
)

var errTooMuch = errors.New("the call sent more than is taken")

// call is a connection of a pot.
type call struct {
	s    *Sink
	conn net.Conn
	pot  Pot
	a    *account
	to   netip.AddrPort

	buf    []byte // read, and not yet used
	in     int64
	ends   time.Time
	secure bool   // within TLS
	server string // that the client named by TLS
}

// run converses until either has enough.
func (c *call) run(ctx context.Context) {
	c.ends = time.Now().Add(longestCall)
	wait := firstWait
	greet := greeterOf(c.to.Port())
	if greet != nil {
		wait = greetWait
	}
	err := c.more(wait)
	switch {
	case err == nil:
		c.hear(ctx)
	case greet != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF)): // it may listen nevertheless
		c.speak(greet)
	default:
		c.tell(event.Egress{What: "connect"})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.drain()
		}
	}
}

// hear goes on from what a client said first.
func (c *call) hear(ctx context.Context) {
	switch {
	case c.to.Port() == 53 || c.to.Port() == 853 && c.secure:
		c.resolver()
	case !c.secure && firstbytes.MayBeTLS(c.buf):
		c.tls(ctx)
	case firstbytes.MayBeHTTP(c.buf):
		c.http(ctx)
	default:
		c.other()
	}
}

// other goes on with a client that speaks neither HTTP nor TLS.
func (c *call) other() {
	if greet := greeterOf(c.to.Port()); greet != nil {
		c.speak(greet)
		return
	}
	if guess(c.buf, c.to.Port()) == "redis" {
		c.redis()
		return
	}
	c.raw()
}

// more reads what comes next, at most so long.
func (c *call) more(wait time.Duration) error {
	if c.in >= maxIn {
		return errTooMuch
	}
	until := time.Now().Add(wait)
	if until.After(c.ends) {
		until = c.ends
	}
	if err := c.conn.SetReadDeadline(until); err != nil {
		return err //nolint:wrapcheck // only whether there is one matters
	}
	piece := make([]byte, readPiece)
	n, err := c.conn.Read(piece)
	c.buf = append(c.buf, piece[:n]...)
	c.in += int64(n)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// gather reads until there are most bytes, or the client pauses.
func (c *call) gather(most int) {
	for len(c.buf) < most && c.more(settleWait) == nil { //nolint:revive // the reading is in the condition
	}
}

// write sends, within the call's time.
func (c *call) write(b []byte) error {
	if err := c.conn.SetWriteDeadline(c.ends); err != nil {
		return err //nolint:wrapcheck // as above
	}
	_, err := c.conn.Write(b)
	return err //nolint:wrapcheck // as above
}

// drain reads on without keeping anything.
func (c *call) drain() {
	for c.more(silence) == nil {
		c.buf = c.buf[:0]
	}
}

// raw keeps what a client says whose language nothing here speaks.
func (c *call) raw() {
	c.gather(keptData)
	data := c.buf[:min(len(c.buf), keptData)]
	c.tell(event.Egress{What: "connect", Protocol: guess(data, c.to.Port()), Data: event.Bytes(data), Bytes: c.in})
	c.buf = nil
	c.drain()
}

// guess names the protocol of first bytes that are not answered.
func guess(b []byte, port uint16) string {
	text := string(b)
	for start, protocol := range map[string]string{
		"SSH-": "ssh", "NICK ": "irc", "USER ": "irc", "CAP LS": "irc", "EHLO ": "smtp", "HELO ": "smtp",
	} {
		if strings.HasPrefix(text, start) {
			return protocol
		}
	}
	switch {
	case strings.Contains(text, `"mining.`) || strings.Contains(text, `"method"`) && strings.Contains(text, `"login"`):
		return "stratum"
	case len(b) > 2 && (b[0] == 5 && int(b[1]) == len(b)-2 || b[0] == 4 && b[1] == 1 && len(b) >= 9):
		return "socks"
	case strings.HasPrefix(text, "*") && strings.Contains(text, "\r\n$"):
		return "redis"
	case len(b) > 5 && b[0] == 3 && b[1] == 0:
		return "rdp"
	case port == 445 && strings.Contains(text, "SMB"):
		return "smb"
	}
	return ""
}

// resolver answers questions that come in a stream (RFC 7766, 8).
func (c *call) resolver() {
	for range maxRequests {
		for len(c.buf) < 2 || len(c.buf) < 2+int(binary.BigEndian.Uint16(c.buf)) {
			if c.more(silence) != nil {
				if len(c.buf) > 0 {
					c.tell(event.Egress{What: "connect", Protocol: "dns-tcp", Data: event.Bytes(c.buf[:min(len(c.buf), keptData)]), Bytes: c.in})
				}
				return
			}
		}
		n := 2 + int(binary.BigEndian.Uint16(c.buf))
		reply, ok := c.s.resolve(c.pot, c.to, c.buf[2:n], true)
		if !ok {
			c.raw()
			return
		}
		c.s.count(func(x *Counts) { x.Questions++ })
		c.buf = c.buf[n:]
		if c.write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)) != nil {
			return
		}
	}
}

// tell fills in where the call went, and keeps the evidence.
func (c *call) tell(e event.Egress) {
	e.Destination = c.to
	if name, ok := c.s.nameOf(c.pot, c.to.Addr()); ok {
		e.Name, e.Invented = event.Bytes(name), true
	}
	if c.server != "" {
		e.Name = event.Bytes(c.server)
	}
	c.s.tell(c.pot, e, "")
}
