// Package tarpit holds attackers for whom there is no pot: at almost no cost to the node, and at the cost of their time.
package tarpit

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/hello"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	defaultEvery = 10 * time.Second
	defaultMost  = 1024
	lineWithin   = time.Minute // to send a line; only a client that reads nothing for hours takes it

	window   = 1  // bytes of SO_RCVBUF: the kernel takes the least that it can
	sip      = 64 // bytes that are read at once
	longest  = 32 // bytes of a line without its end
	shortest = 4

	// letters begin no line as a version does: "SSH-" (RFC 4253, 4.2).
	letters = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// Reasons why a session ended.
const (
	AttackerClosed = "attacker closed"
	Full           = "the tarpit is full"
)

// Options configure a tarpit.
type Options struct {
	Most  int           // connections at once, 1024 where 0; those above are closed
	Every time.Duration // about how often a connection is looked at, and told a line; 10 s where 0
}

// Tarpit is a front.Handler.
type Tarpit struct {
	o Options

	mu sync.Mutex
	in int
}

// New returns a tarpit.
func New(o Options) *Tarpit {
	if o.Most == 0 {
		o.Most = defaultMost
	}
	if o.Every == 0 {
		o.Every = defaultEvery
	}
	return &Tarpit{o: o}
}

var _ front.Handler = (*Tarpit)(nil)

// Held returns how many connections are held.
func (t *Tarpit) Held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.in
}

func (t *Tarpit) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in >= t.o.Most {
		return false
	}
	t.in++
	return true
}

func (t *Tarpit) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.in--
}

// Serve implements front.Handler. A client of SSH is told line after line before the version that it waits for; others
// wait for an answer. What they send is taken in sips.
func (t *Tarpit) Serve(ctx context.Context, v *front.Visit) string {
	defer v.Conn.Close() //nolint:errcheck // closed already, mostly
	if !t.enter() {
		return Full
	}
	defer t.leave()
	if c, ok := v.Conn.(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = c.SetReadBuffer(window)
	}
	stop := context.AfterFunc(ctx, func() { _ = v.Conn.Close() })
	defer stop()
	take := func(p []byte) { v.Rec.Record(recording.In, 0, p) }
	say := func() error { return nil }
	if v.Lease.Service == event.SSH {
		ear := hello.New(v.Rec.Note)
		defer ear.End()
		take = func(p []byte) {
			v.Rec.Record(recording.In, 0, p)
			ear.Hear(p)
		}
		say = func() error { return t.line(v) }
	}
	for {
		err := t.sip(ctx, v.Conn, take)
		if err == nil {
			err = say()
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx).Error()
		case err != nil:
			return AttackerClosed
		}
	}
}

// sip takes a little of what was sent, and its time for that.
func (t *Tarpit) sip(ctx context.Context, conn net.Conn, take func([]byte)) error {
	next := time.Now().Add(t.o.Every*4/5 + rand.N(t.o.Every*2/5+1)) //nolint:gosec // no secret
	_ = conn.SetReadDeadline(next)
	var buf [sip]byte
	n, err := conn.Read(buf[:])
	if n > 0 {
		take(buf[:n])
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err //nolint:wrapcheck // only looked at here
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// line tells a client of SSH something that it has to pass over.
func (t *Tarpit) line(v *front.Visit) error {
	line := make([]byte, shortest+rand.IntN(longest-shortest+1), longest+2) //nolint:gosec // no secret
	for i := range line {
		line[i] = letters[rand.IntN(len(letters))] //nolint:gosec // no secret
	}
	line = append(line, '\r', '\n')
	_ = v.Conn.SetWriteDeadline(time.Now().Add(lineWithin))
	_, err := v.Conn.Write(line)
	v.Rec.Record(recording.Out, 0, line)
	return err //nolint:wrapcheck // only looked at here
}
