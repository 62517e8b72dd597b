package front

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// Visit is a connection of an attacker, and where what it does is recorded.
type Visit struct {
	Conn    net.Conn
	Lease   event.Lease
	Session string // its id
	Rec     *record.Recorder
	// Pot is told which pot the visit reached.
	Pot func(event.Pot)
}

// together returns a relay's callback that calls pass, and has what that records of one piece written at once.
func (v *Visit) together(pass func(relay.Direction, []byte) []byte) func(relay.Direction, []byte) []byte {
	return func(d relay.Direction, p []byte) (passed []byte) {
		v.Rec.Together(func() { passed = pass(d, p) })
		return passed
	}
}

// Handler speaks a service's protocol with attackers.
type Handler interface {
	// Serve converses until one of both is done, or ctx is, and returns why it ended. It leaves nothing
	// running.
	Serve(ctx context.Context, v *Visit) (reason string)
}

// Stay is a pot that stays awake until Close.
type Stay interface {
	Pot() event.Pot
	PID() int // of its first process
	// Login returns how a service's administrator logs in while the attacker has not; empty where that is not known.
	Login(service event.Service) (account, password string)
	Dial(ctx context.Context, service event.Service) (net.Conn, error)
	Close()
}

// Reach brings visits to their pots.
type Reach struct {
	// Enter wakes, or makes, the pot of an attacker.
	Enter func(context.Context, event.PotKey) (Stay, error)
	// Full serves who gets no pot since the node has none left; nil where nobody does.
	Full Handler
	// DialTimeout is how long a connection waits for its pot; a minute where 0.
	DialTimeout time.Duration
}

// Visit has converse speak with the attacker and with its service in its pot, and returns why that ended.
func (r Reach) Visit(ctx context.Context, v *Visit, converse func(pot net.Conn, stay Stay) string) string {
	timeout := r.DialTimeout
	if timeout == 0 {
		timeout = defaultDialTimeout
	}
	dialCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, stay, err := r.dial(dialCtx, v)
	if stay != nil {
		defer stay.Close()
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause.Error()
		}
		if r.Full != nil && errors.Is(err, ErrFull) {
			return r.Full.Serve(ctx, v)
		}
		return NoPot + err.Error()
	}
	return converse(conn, stay)
}

func (r Reach) dial(ctx context.Context, v *Visit) (net.Conn, Stay, error) { //nolint:ireturn // a pot is whatever Enter gives
	stay, err := r.Enter(ctx, v.Lease.PotKey())
	if err != nil {
		return nil, nil, err
	}
	v.Pot(stay.Pot())
	conn, err := stay.Dial(ctx, v.Lease.Service)
	return conn, stay, err
}

// Raw is the handler of a service whose protocol nothing here speaks: the bytes go to the pot as they
// are, and are recorded.
type Raw struct {
	Reach

	Idle time.Duration // silence that ends a connection; relay.DefaultIdle where 0
}

// Serve implements Handler.
func (r Raw) Serve(ctx context.Context, v *Visit) string {
	return r.Visit(ctx, v, func(pot net.Conn, _ Stay) string {
		return relay.Run(ctx, relay.Options{
			Attacker: v.Conn, Pot: pot, Idle: r.Idle,
			Pass: func(d relay.Direction, p []byte) []byte {
				kind := recording.In
				if d == relay.Out {
					kind = recording.Out
				}
				v.Rec.Record(kind, 0, p)
				return p
			},
		}).Reason
	})
}

// counted counts what passes over an attacker's connection.
type counted struct {
	*net.TCPConn
	in, out, first atomic.Int64 // bytes, bytes, Unix nanoseconds of the first byte to the attacker
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.in.Add(int64(n))
	return n, err //nolint:wrapcheck // it is a connection
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	if n > 0 {
		c.out.Add(int64(n))
		c.first.CompareAndSwap(0, time.Now().UnixNano())
	}
	return n, err //nolint:wrapcheck // it is a connection
}

// fill notes what passed in a session's record.
func (c *counted) fill(s *event.Session) {
	s.BytesIn, s.BytesOut = c.in.Load(), c.out.Load()
	if at := c.first.Load(); at != 0 {
		s.FirstByte = time.Unix(0, at)
	}
}
