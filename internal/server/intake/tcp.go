package intake

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Bounds of one batch.
const (
	maxLines = 2000 // about what one read of a busy connection brings: each batch costs a wait for the disk
	maxBytes = 256 << 10
)

// connection is one sender's stream.
type connection struct {
	in     *Intake
	conn   net.Conn
	raw    net.Conn          // that conn runs over; of TCP conn itself
	cert   *x509.Certificate // that the sender proved to have; nil: it is known by its address
	road   event.Road
	sender netip.Addr
	id     string // random; with a counter it makes batches' IDs
	sent   uint64

	window *window

	split splitter
	buf   []byte
	r, w  int       // what of buf is read and not yet split
	since time.Time // when the frame that is under way was begun; zero between frames
	first bool      // nothing came yet

	mu   sync.Mutex
	last time.Time // when we have to be done; zero while we run
}

// accept takes connections until the listener is closed; those of TLS where secure is given.
func (in *Intake) accept(ctx, late context.Context, l net.Listener, parts *sync.WaitGroup, secure *tls.Config) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			in.counts.acceptErrors.Add(1) // out of descriptors, as a rule: others must close some first
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		c := in.admit(conn, secure)
		if c == nil {
			_ = conn.Close()
			continue
		}
		parts.Go(func() {
			defer in.leave(c)
			if secure == nil || c.handshake(ctx) {
				c.run(late)
			}
		})
	}
}

// admit makes a connection of conn; nil where the sender is no host's or has too many.
func (in *Intake) admit(conn net.Conn, secure *tls.Config) *connection {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		in.counts.refusedUnknown.Add(1)
		return nil
	}
	sender := event.Canonical(peer.Addr())
	c := &connection{in: in, conn: conn, raw: conn, road: event.RoadSyslogTCP, sender: sender, first: true}
	if secure != nil { // the certificate will say who it is
		c.conn, c.road = tls.Server(conn, secure), event.RoadSyslogTLS
	} else if _, _, ok := c.whose(); !ok {
		if in.counts.refusedUnknown.Add(1) == 1 {
			in.o.Log.Warn("a syslog connection comes from an address of no host: refused, as others will be", "sender", sender)
		}
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case !in.stopping.IsZero():
		return nil
	case len(in.conns) >= in.o.MaxConns:
		in.counts.refusedTotal.Add(1)
		return nil
	case in.senders[sender] >= in.o.MaxPerSender:
		in.counts.refusedSender.Add(1)
		return nil
	}
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	c.id = hex.EncodeToString(id)
	in.conns[c] = struct{}{}
	in.senders[sender]++
	in.counts.connections.Add(1)
	in.counts.accepted.Add(1)
	return c
}

func (in *Intake) leave(c *connection) {
	c.abort()
	_ = c.conn.Close()
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.conns, c)
	if in.senders[c.sender]--; in.senders[c.sender] == 0 {
		delete(in.senders, c.sender)
	}
	in.counts.connections.Add(-1)
}

// stop bids the sender to end, and ends the reading at last.
func (c *connection) stop(last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = last
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // a sender that sees it connects anew for what comes next
	}
	_ = c.conn.SetReadDeadline(last)
}

// abort makes the closing of a connection, where it is we who stop, an error of the sender's next write: rsyslog's TLS does
// not see otherwise that nobody listens any more, and would lose the next line.
func (c *connection) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.raw.(interface{ SetLinger(sec int) error }); ok && !c.last.IsZero() {
		_ = l.SetLinger(0)
	}
}

// run reads until the connection ends. Nothing is read while as many batches as may wait to be taken.
func (c *connection) run(ctx context.Context) {
	c.window = c.in.newWindow(ctx)
	defer c.window.close()
	for {
		if !c.handOn(ctx) || !c.room() {
			return
		}
		c.setDeadline()
		n, err := c.conn.Read(c.buf[c.w:])
		if n > 0 {
			c.w += n
			c.first = false
		}
		if err != nil {
			if c.handOn(ctx) { // what came with the end
				c.ended(err)
			}
			return
		}
	}
}

// ended counts why a connection ended.
func (c *connection) ended(err error) {
	if c.r < c.w {
		c.in.counts.halfFrames.Add(1) // half a line proves nothing
	}
	c.mu.Lock()
	stopped := !c.last.IsZero()
	c.mu.Unlock()
	if stopped || !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	if c.since.IsZero() {
		c.in.counts.idle.Add(1)
	} else {
		c.in.counts.slowFrames.Add(1)
	}
}

// setDeadline bounds the next read: a frame that was begun must come to its end.
func (c *connection) setDeadline() {
	var at time.Time
	underWay := c.r < c.w || c.split.skip > 0 || c.split.toLine
	switch {
	case !underWay:
		c.since = time.Time{}
	case c.since.IsZero():
		c.since = time.Now()
	}
	switch {
	case underWay:
		at = c.since.Add(c.in.o.FrameTimeout)
	case c.first:
		at = time.Now().Add(c.in.o.FirstTimeout)
	case c.in.o.IdleTimeout > 0:
		at = time.Now().Add(c.in.o.IdleTimeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() && (at.IsZero() || c.last.Before(at)) {
		at = c.last
	}
	_ = c.conn.SetReadDeadline(at)
}

// room makes place in the buffer for the next read: it begins small and holds at most two of the longest frames.
func (c *connection) room() bool {
	const longest = 2 * (maxFrame + 16) // with their octet counts
	filled := c.w == len(c.buf)
	c.w = copy(c.buf, c.buf[c.r:c.w])
	c.r = 0
	if !filled {
		return true
	}
	if len(c.buf) == longest {
		return c.w < longest // always: the splitter takes a frame of this length
	}
	grown := make([]byte, min(max(4<<10, 4*len(c.buf)), longest))
	copy(grown, c.buf[:c.w])
	c.buf = grown
	return true
}

// handOn splits what was read and hands the lines on; false where the connection is to be closed.
func (c *connection) handOn(ctx context.Context) bool {
	for {
		host, relay, ok := c.whose() // it may have gone, or moved, since
		if !ok {
			c.in.counts.refusedUnknown.Add(1)
			return false
		}
		lines, full, sound := c.gather(host, relay)
		for _, part := range c.in.parts(host, relay, lines) {
			c.sent++
			if !c.window.send(ctx, event.Batch{
				Host: part.host, Road: c.road, Origin: c.sender.String(), Received: c.in.o.Clock(),
				ID: fmt.Sprintf("%s/%s/%s.%d", part.host, c.road[len("syslog-"):], c.id, c.sent), Lines: part.lines,
			}) {
				return false
			}
		}
		if !sound {
			c.in.counts.badFrames.Add(1)
			c.in.o.Log.WarnContext(ctx, "a syslog connection sends what is no syslog: closed", "sender", c.sender, "host", host)
			return false
		}
		if !full {
			return true
		}
	}
}

// gather takes the lines out of the buffer, as many as make a batch. full: there may be more; sound: the stream is syslog.
func (c *connection) gather(host string, relay bool) (lines [][]byte, full, sound bool) {
	size, claimed := 0, host
	if relay {
		claimed = "" // the line says it
	}
	for c.r < c.w {
		frame, advance, v := c.split.next(c.buf[c.r:c.w])
		c.r += advance
		switch v {
		case more:
			if advance == 0 {
				return lines, false, true
			}
			continue
		case broken:
			return lines, false, false
		case cut:
			c.in.counts.cutLines.Add(1)
		case whole:
		}
		c.since = time.Time{} // the next one has its own time
		line := text(frame)
		if len(line) == 0 {
			continue
		}
		if _, reason := c.in.owner(line, claimed); reason != "" {
			c.in.counts.putAside(Quarantined{At: c.in.o.Clock(), Sender: c.sender, Host: host, Reason: reason}, line)
			continue
		}
		lines = append(lines, line)
		if size += len(line); len(lines) == maxLines || size >= maxBytes {
			return lines, true, true
		}
	}
	return lines, false, true
}
