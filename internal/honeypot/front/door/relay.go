package door

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Most connections need little; one that fills its buffer gets a large one.
const (
	relayBuffer = 16 << 10
	floodBuffer = 256 << 10
)

// grown returns a buffer for what comes next, after n bytes came.
func grown(buf []byte, n int) []byte {
	if n == relayBuffer && len(buf) == relayBuffer {
		return make([]byte, floodBuffer)
	}
	return buf
}

// relay passes bytes between an attacker and its sshd as they are, and the ways in which a connection can end.
type relay struct {
	outer net.Conn     // the attacker's
	inner *net.TCPConn // the sshd's
	hear  func([]byte) // sees what the attacker sends
	idle  time.Duration

	mu      sync.Mutex
	settled bool
	touched time.Time // when the deadline was moved
	timeout bool
}

// settle begins to end the connection when it is silent for too long.
func (r *relay) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = true
	r.touchLocked()
}

func (r *relay) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touchLocked()
}

func (r *relay) touchLocked() {
	// A deadline is moved now and then, not with each of thousands of packets a second.
	if now := time.Now(); r.settled && now.Sub(r.touched) > r.idle/100 {
		r.touched = now
		_ = r.outer.SetReadDeadline(now.Add(r.idle))
	}
}

// idled reports whether silence ended it.
func (r *relay) idled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.timeout
}

// run passes until both have ended, or ctx is done.
func (r *relay) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, r.close)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(r.in)
	wg.Go(r.out)
	wg.Wait()
	r.close()
}

func (r *relay) close() {
	_ = r.outer.Close()
	_ = r.inner.Close()
}

// in passes what the attacker sends. When it sends no more, sshd hears of that; when it breaks off, so do we.
func (r *relay) in() {
	buf := make([]byte, relayBuffer)
	for {
		n, err := r.outer.Read(buf)
		if n > 0 {
			r.hear(buf[:n])
			r.touch()
			if _, werr := r.inner.Write(buf[:n]); werr != nil {
				// It reads no more. What it said last is still on its way to the attacker.
				_, _ = io.Copy(io.Discard, r.outer)
				return
			}
		}
		switch {
		case err == nil:
			buf = grown(buf, n)
		case errors.Is(err, io.EOF):
			_ = r.inner.CloseWrite()
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.mu.Lock()
			r.timeout = true
			r.mu.Unlock()
			r.close()
			return
		default:
			reset(r.inner)
			return
		}
	}
}

// out passes what sshd sends. It never ends one direction alone: the end is the connection's.
func (r *relay) out() {
	buf := make([]byte, relayBuffer)
	for {
		n, err := r.inner.Read(buf)
		if n > 0 {
			r.touch()
			if _, werr := r.outer.Write(buf[:n]); werr != nil {
				reset(r.inner)
				return
			}
		}
		if err == nil {
			buf = grown(buf, n)
			continue
		}
		if errors.Is(err, syscall.ECONNRESET) { // it left something unread
			reset(r.outer)
			return
		}
		_ = r.outer.Close()
		return
	}
}

// reset breaks a connection off, as a system does for a program that ends without having read all.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}

// asServer gives the attacker's connection what OpenSSH's have: Go's have others.
func asServer(c net.Conn) {
	if t, ok := c.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Hour, Interval: 75 * time.Second, Count: 9})
	}
	if t, ok := c.(interface{ SetNoDelay(bool) error }); ok {
		_ = t.SetNoDelay(false)
	}
}
