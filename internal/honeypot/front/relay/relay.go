// Package relay passes the bytes of one connection on, in both directions, by somebody who sees them, and may change them.
package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultIdle is how long a connection may be silent.
	DefaultIdle = 30 * time.Minute
	// linger is how long an attacker whose pot has closed may take to close, too.
	linger = 10 * time.Second

	// A buffer is small until somebody fills it: most connections are idle, or say little.
	smallBuffer, bufferSize = 2 << 10, 32 << 10
)

// Reasons why a connection ended.
const (
	AttackerClosed = "attacker closed"
	PotClosed      = "pot closed"
	Idle           = "idle"
)

// Direction is where bytes go.
type Direction int

// Directions.
const (
	In  Direction = iota // from the attacker to the pot
	Out                  // from the pot to the attacker
)

// Options describe one connection.
type Options struct {
	Attacker net.Conn
	Pot      net.Conn
	// Pass sees the bytes that came and returns, until its next call, what is passed on in their place.
	Pass func(Direction, []byte) []byte
	Idle time.Duration // DefaultIdle where 0
}

// Result is what came of it.
type Result struct {
	BytesIn   int64 // received from the attacker
	BytesOut  int64 // sent to the attacker
	FirstByte time.Time
	Reason    string
}

type relay struct {
	o      Options
	idle   atomic.Int64 // nanoseconds
	last   atomic.Int64 // when bytes passed last, Unix nanoseconds
	in     atomic.Int64
	out    atomic.Int64
	first  atomic.Int64
	once   sync.Once
	reason string
}

// Run relays until either side is done, both are silent for too long, or ctx is done; its cause is the
// reason then. Both connections are closed when it returns. One that does not read is not read for
// either: nothing is queued.
func Run(ctx context.Context, o Options) Result {
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	r := &relay{o: o}
	r.idle.Store(int64(o.Idle))
	r.touch()
	stop := context.AfterFunc(ctx, func() {
		r.end(context.Cause(ctx).Error())
		r.closeBoth()
	})
	var wg sync.WaitGroup
	wg.Go(func() { r.pump(o.Pot, o.Attacker, In) })
	wg.Go(func() { r.pump(o.Attacker, o.Pot, Out) })
	wg.Wait()
	stop()
	r.closeBoth()
	res := Result{BytesIn: r.in.Load(), BytesOut: r.out.Load()}
	if t := r.first.Load(); t != 0 {
		res.FirstByte = time.Unix(0, t)
	}
	r.end("") // whoever ended it has said why
	res.Reason = r.reason
	return res
}

// end notes the first reason.
func (r *relay) end(reason string) { r.once.Do(func() { r.reason = reason }) }

func (r *relay) closeBoth() {
	_ = r.o.Attacker.Close()
	_ = r.o.Pot.Close()
}

func (r *relay) touch() { r.last.Store(time.Now().UnixNano()) }

// patience is how much longer both sides may be silent.
func (r *relay) patience() time.Duration {
	return max(0, time.Duration(r.idle.Load()-(time.Now().UnixNano()-r.last.Load())))
}

// pump passes bytes in one direction until its source ends; then the other side is told so.
func (r *relay) pump(dst, src net.Conn, dir Direction) {
	buf := make([]byte, smallBuffer)
	for full := false; ; {
		if full && len(buf) < bufferSize {
			buf = make([]byte, bufferSize)
		}
		n, err := r.read(src, buf)
		full = n == len(buf)
		if n > 0 {
			r.touch()
			if dir == In {
				r.in.Add(int64(n))
			}
			passed := r.o.Pass(dir, buf[:n])
			if werr := r.write(dst, passed); werr != nil {
				r.endWith(werr, 1-dir)
				r.closeBoth()
				return
			}
			r.touch()
			if dir == Out {
				r.out.Add(int64(len(passed)))
				r.first.CompareAndSwap(0, time.Now().UnixNano())
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			r.endWith(nil, dir)
			if CloseWrite(dst) != nil {
				r.closeBoth()
			}
			if dir == Out {
				r.lingerOn(dst)
			}
			return
		default:
			r.endWith(err, dir)
			r.closeBoth()
			return
		}
	}
}

// lingerOn gives the attacker a moment to see that the pot has closed.
func (r *relay) lingerOn(attacker net.Conn) {
	idle := min(time.Duration(r.idle.Load()), linger)
	r.idle.Store(int64(idle))
	_ = attacker.SetReadDeadline(time.Now().Add(idle))
}

// endWith notes who ended it: the source of the direction, unless it was silence.
func (r *relay) endWith(err error, dir Direction) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.end(Idle)
	case dir == In:
		r.end(AttackerClosed)
	default:
		r.end(PotClosed)
	}
}

// read reads once; a deadline that passed while the other direction was busy is moved on.
func (r *relay) read(src net.Conn, buf []byte) (int, error) {
	for {
		if err := src.SetReadDeadline(time.Now().Add(r.patience())); err != nil {
			return 0, err //nolint:wrapcheck // only looked at here
		}
		n, err := src.Read(buf)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && r.patience() > 0 {
			continue
		}
		return n, err //nolint:wrapcheck // only looked at here
	}
}

func (r *relay) write(dst net.Conn, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := dst.SetWriteDeadline(time.Now().Add(time.Duration(r.idle.Load()))); err != nil {
		return err //nolint:wrapcheck // only looked at here
	}
	_, err := dst.Write(p)
	return err //nolint:wrapcheck // only looked at here
}
