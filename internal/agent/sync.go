package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	statusEvery = 30 * time.Second
	askTimeout  = 5 * time.Second
	firstRetry  = 100 * time.Millisecond // doubled from one to the next, up to statusEvery
)

// kernel is what redirects are put into (package divert).
type kernel interface {
	Set(ctx context.Context, want event.Desired) ([]event.Applied, error)
	Put(ctx context.Context, rs []event.Redirect) ([]event.Applied, error)
	Remove(ctx context.Context, ids []string) error
}

// uplink is the agent's way to the server.
type uplink interface {
	Desired(ctx context.Context) (event.Desired, error)
	Status(ctx context.Context, s event.HostStatus) error
}

// syncer brings the kernel to what the server wants and tells what became of it. One goroutine runs it;
// releaseAll may be called by others, and waits for the kernel only, never for the server.
type syncer struct {
	kernel   kernel
	uplink   uplink
	desired  *desired
	describe func() event.HostStatus // without Applied
	changes  chan event.Change
	ask      chan struct{} // the bus is connected anew, or a change was missed
	servers  []netip.Addr  // where the agent connects to: never redirected, whatever the server says
	log      *slog.Logger

	dirty bool          // the state on disk is older than ours
	again *time.Timer   // until what the server did not answer is tried again
	pause time.Duration // before the next try

	mu     sync.Mutex               // held from a look at what is wanted until the kernel has it
	unsent map[string]event.Applied // what the server doesn't know yet, by redirect
}

// run works until ctx ends. First it puts into the kernel what an earlier run knew.
func (s *syncer) run(ctx context.Context) {
	s.again = time.NewTimer(statusEvery)
	defer s.again.Stop()
	s.answered()
	s.set(ctx)
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.persist()
			return
		case c := <-s.changes:
			s.change(ctx, c)
		case <-s.ask:
			s.answered() // a server that starts is connected before it answers: try again soon, not late
			s.refresh(ctx)
		case <-s.again.C:
			s.refresh(ctx)
		case <-tick.C:
			s.refresh(ctx)
		}
		if len(s.changes) == 0 {
			s.report(ctx, false)
			s.persist()
		}
	}
}

// answered ends trying again, unanswered has it tried again after a pause.
func (s *syncer) answered() {
	s.again.Stop()
	s.pause = firstRetry
}

func (s *syncer) unanswered() {
	s.again.Reset(s.pause)
	s.pause = min(2*s.pause, statusEvery)
}

// change is the fast path: one step of the desired state goes straight into the kernel.
func (s *syncer) change(ctx context.Context, c event.Change) {
	if s.step(ctx, c) == stepMissed {
		s.refresh(ctx)
	}
}

func (s *syncer) step(ctx context.Context, c event.Change) step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if step := s.desired.apply(c); step != stepNext {
		return step
	}
	s.dirty = true
	if len(c.Delete) > 0 {
		if err := s.kernel.Remove(ctx, c.Delete); err != nil {
			s.log.ErrorContext(ctx, "redirects not removed; mended soon", "error", err)
		}
		for _, id := range c.Delete {
			delete(s.unsent, id)
		}
	}
	put := slices.DeleteFunc(slices.Clone(c.Put), func(r event.Redirect) bool {
		off := s.desired.isReleased(r)
		if off {
			s.note(event.Applied{ID: r.ID, State: event.Released, Reason: releasedHere, At: time.Now()})
		}
		return off
	})
	if len(put) == 0 {
		return stepNext
	}
	applied, err := s.kernel.Put(ctx, put)
	if err != nil {
		s.log.ErrorContext(ctx, "redirects not applied; mended soon", "error", err)
	}
	s.note(applied...)
	return stepNext
}

const releasedHere = "released on the host"

// refresh asks for the whole desired state and sets it. Without an answer the state stays as it is.
func (s *syncer) refresh(ctx context.Context) {
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	d, err := s.uplink.Desired(asked)
	if err != nil {
		s.log.WarnContext(ctx, "the server doesn't tell what it wants; redirects stay as they are", "error", err)
		s.unanswered()
		return
	}
	if err := s.desired.replace(d); err != nil {
		s.log.ErrorContext(ctx, "desired state not kept", "error", err)
	}
	s.set(ctx)
	if s.report(ctx, true) {
		s.answered()
	}
}

func (s *syncer) set(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLocked(ctx)
}

func (s *syncer) setLocked(ctx context.Context) {
	want, off := s.desired.wanted(time.Now())
	want.Servers = append(slices.Clone(want.Servers), s.servers...)
	applied, err := s.kernel.Set(ctx, want)
	if err != nil {
		s.log.ErrorContext(ctx, "not all redirects are as wanted; mended soon", "error", err)
	}
	s.note(applied...)
	for _, r := range off {
		s.note(event.Applied{ID: r.ID, State: event.Released, Reason: releasedHere, At: time.Now()})
	}
}

// releaseAll takes everything out of the kernel and keeps it out.
func (s *syncer) releaseAll(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.desired.release(time.Now())
	s.setLocked(ctx)
	if err != nil {
		return fmt.Errorf("released, but not for a restart of the agent: %w", err)
	}
	return nil
}

func (s *syncer) note(applied ...event.Applied) {
	for _, a := range applied {
		s.unsent[a.ID] = a
	}
}

// report tells the server what it doesn't know yet, always where regular, and reports whether it knows now.
func (s *syncer) report(ctx context.Context, regular bool) bool {
	s.mu.Lock()
	applied := slices.Collect(maps.Values(s.unsent))
	s.mu.Unlock()
	if len(applied) == 0 && !regular {
		return true
	}
	status := s.describe()
	status.Applied = applied
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := s.uplink.Status(ctx, status); err != nil {
		if !errors.Is(err, context.Canceled) {
			s.log.WarnContext(ctx, "status not sent; sent again later", "error", err)
		}
		s.unanswered()
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range applied {
		if s.unsent[a.ID] == a { // not noted anew meanwhile
			delete(s.unsent, a.ID)
		}
	}
	return true
}

func (s *syncer) persist() {
	if !s.dirty {
		return
	}
	if err := s.desired.persist(); err != nil {
		s.log.Error("desired state not kept", "error", err)
		return
	}
	s.dirty = false
}
