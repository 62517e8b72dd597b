package guise

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A pot that asks on and on is answered this often.
const (
	burst      = 256
	burstEvery = 100 * time.Millisecond
)

// mostOpen bounds how many of its covered files a pot has open: each costs the node what is in it.
const mostOpen = 256

// pace spreads what a pot asks of the file system over time, so that a pot can't keep the node busy.
type pace struct {
	mu   sync.Mutex
	next time.Time // when the next question is due, were they spread evenly
}

// wait returns when a question may be answered, or who asks is gone.
func (p *pace) wait(ctx context.Context) syscall.Errno {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now.Add(-burstEvery)) {
		p.next = now.Add(-burstEvery)
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(burstEvery / burst)
	p.mu.Unlock()
	if wait <= 0 {
		return 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0
	case <-ctx.Done():
		return unix.EINTR
	}
}

// share is what a pot may have of the file system.
type share struct {
	pace

	open atomic.Int64
}

// take counts an open file in; ok is false where there are too many.
func (s *share) take() (ok bool) {
	if s.open.Add(1) > mostOpen {
		s.open.Add(-1)
		return false
	}
	return true
}

func (s *share) release() { s.open.Add(-1) }
