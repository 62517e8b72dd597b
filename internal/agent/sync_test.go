package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// around is the kernel and the server of a syncer, in memory.
type around struct {
	mu     sync.Mutex
	inside map[string]event.Redirect
	server event.Desired
	down   bool
	told   map[string]event.Applied
	asked  int
}

func (a *around) Set(_ context.Context, want event.Desired) ([]event.Applied, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.inside)
	return a.put(want.Redirects), nil
}

func (a *around) Put(_ context.Context, rs []event.Redirect) ([]event.Applied, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.put(rs), nil
}

func (a *around) put(rs []event.Redirect) []event.Applied {
	var out []event.Applied
	for _, r := range rs {
		a.inside[r.ID] = r
		out = append(out, event.Applied{ID: r.ID, State: event.Active})
	}
	return out
}

func (a *around) Remove(_ context.Context, ids []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		delete(a.inside, id)
	}
	return nil
}

func (a *around) Desired(context.Context) (event.Desired, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.down {
		return event.Desired{}, errors.New("down")
	}
	return a.server, nil
}

func (a *around) Status(_ context.Context, s event.HostStatus) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return errors.New("down")
	}
	for _, x := range s.Applied {
		a.told[x.ID] = x
	}
	return nil
}

func (a *around) kernelIDs() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := []string{}
	for id := range a.inside {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (a *around) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func redirect(id string) event.Redirect {
	return event.Redirect{
		ID: id, Source: netip.MustParsePrefix("192.0.2.66/32"), Service: event.SSH, Port: 22,
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	}
}

// running starts a syncer on a folder; stop ends it as a kill would, without any last word.
func running(t *testing.T, a *around, dir string) (s *syncer, stop func()) {
	t.Helper()
	d, err := loadDesired(dir)
	require.NoError(t, err)
	s = &syncer{
		kernel: a, uplink: a, desired: d, describe: func() event.HostStatus { return event.HostStatus{} },
		changes: make(chan event.Change, 8), ask: make(chan struct{}, 1), unsent: map[string]event.Applied{}, log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return s, stop
}

func newAround() *around {
	return &around{inside: map[string]event.Redirect{}, told: map[string]event.Applied{}, server: event.Desired{Epoch: "a", Now: time.Now()}}
}

func eventually(t *testing.T, a *around, ids ...string) {
	t.Helper()
	if ids == nil {
		ids = []string{}
	}
	require.Eventually(t, func() bool { return slices.Equal(a.kernelIDs(), ids) }, time.Minute, time.Millisecond, "kernel should hold %v", ids)
}

func TestSyncFollowsTheServer(t *testing.T) {
	t.Parallel()
	a := newAround()
	s, _ := running(t, a, t.TempDir())
	a.set(func() { a.server.Revision, a.server.Redirects = 3, []event.Redirect{redirect("1")} })
	s.ask <- struct{}{}
	eventually(t, a, "1")

	s.changes <- event.Change{Epoch: "a", Revision: 4, Put: []event.Redirect{redirect("2")}}
	eventually(t, a, "1", "2")
	s.changes <- event.Change{Epoch: "a", Revision: 4, Put: []event.Redirect{redirect("9")}} // an old one again
	s.changes <- event.Change{Epoch: "a", Revision: 5, Delete: []string{"1"}}
	eventually(t, a, "2")

	a.set(func() {
		a.server.Revision, a.server.Redirects = 7, []event.Redirect{redirect("2"), redirect("3"), redirect("4")}
	})
	s.changes <- event.Change{Epoch: "a", Revision: 7, Put: []event.Redirect{redirect("4")}} // 6 was missed
	eventually(t, a, "2", "3", "4")
	a.set(func() { a.server = event.Desired{Epoch: "b", Revision: 1, Redirects: []event.Redirect{redirect("5")}} })
	s.changes <- event.Change{Epoch: "b", Revision: 1} // the server started anew
	eventually(t, a, "5")
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.told["5"].State == event.Active
	}, time.Minute, time.Millisecond, "the server hears what became of it")
}

func TestSyncGoesOnWithoutTheServer(t *testing.T) {
	t.Parallel()
	a, dir := newAround(), t.TempDir()
	s, stop := running(t, a, dir)
	a.set(func() { a.server.Redirects = []event.Redirect{redirect("1"), redirect("2")} })
	s.ask <- struct{}{}
	eventually(t, a, "1", "2")
	s.changes <- event.Change{Epoch: "a", Revision: 1, Delete: []string{"2"}}
	eventually(t, a, "1")
	a.set(func() { a.down = true })
	s.ask <- struct{}{}
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.asked >= 2 }, time.Minute, time.Millisecond)
	eventually(t, a, "1")
	stop()

	a.set(func() { clear(a.inside) })
	_, _ = running(t, a, dir)
	eventually(t, a, "1")
}

// A server that starts takes connections before it answers.
func TestSyncAsksAgainSoon(t *testing.T) {
	t.Parallel()
	a := newAround()
	a.set(func() { a.down, a.server.Redirects = true, []event.Redirect{redirect("1")} })
	s, _ := running(t, a, t.TempDir())
	s.ask <- struct{}{}
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.asked >= 2 }, time.Minute, time.Millisecond)
	a.set(func() { a.down = false })
	eventually(t, a, "1")
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.told["1"].State == event.Active
	}, time.Minute, time.Millisecond)
}

func TestReleaseStaysReleased(t *testing.T) {
	t.Parallel()
	a, dir := newAround(), t.TempDir()
	s, stop := running(t, a, dir)
	a.set(func() { a.server.Redirects = []event.Redirect{redirect("1"), redirect("2")} })
	s.ask <- struct{}{}
	eventually(t, a, "1", "2")
	a.set(func() { a.down = true })
	require.NoError(t, s.releaseAll(t.Context()))
	eventually(t, a)
	stop()

	s, _ = running(t, a, dir) // a new agent, and the server is back and still wants them
	a.set(func() { a.down = false })
	s.ask <- struct{}{}
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.told["1"].State == event.Released && a.told["2"].State == event.Released
	}, time.Minute, time.Millisecond)
	eventually(t, a)
	s.changes <- event.Change{Epoch: "a", Revision: 1, Put: []event.Redirect{redirect("3")}} // a new offence
	eventually(t, a, "3")
}

func TestExpiredIsNotWanted(t *testing.T) {
	t.Parallel()
	d, err := loadDesired(t.TempDir())
	require.NoError(t, err)
	old := redirect("1")
	old.ExpiresAt = time.Now().Add(-time.Second)
	require.NoError(t, d.replace(event.Desired{Epoch: "a", Redirects: []event.Redirect{old, redirect("2")}}))
	want, _ := d.wanted(time.Now())
	require.Len(t, want.Redirects, 1)
	require.NoError(t, d.replace(event.Desired{Epoch: "a", Revision: 0, Redirects: nil}), "same revision: taken")
}

func TestDamagedStateIsNoReasonToStayDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, desiredFile), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, releasedFile), []byte("{"), 0o600))
	d, err := loadDesired(dir)
	require.NoError(t, err)
	require.NoError(t, d.replace(event.Desired{Epoch: "a", Redirects: []event.Redirect{{ID: "old", CreatedAt: time.Now().Add(-time.Hour), ExpiresAt: time.Now().Add(time.Hour)}}}))
	want, off := d.wanted(time.Now())
	require.Empty(t, want.Redirects, "an operator may have released it")
	require.Len(t, off, 1)
}

// hung is a server that takes requests and never answers.
type hung struct{ *around }

func (hung) Desired(ctx context.Context) (event.Desired, error) {
	<-ctx.Done()
	return event.Desired{}, ctx.Err()
}

func (hung) Status(ctx context.Context, _ event.HostStatus) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestReleaseDoesNotWaitForTheServer(t *testing.T) {
	t.Parallel()
	a := newAround()
	d, err := loadDesired(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, d.replace(event.Desired{Epoch: "a", Redirects: []event.Redirect{redirect("1")}}))
	s := &syncer{
		kernel: a, uplink: hung{a}, desired: d, describe: func() event.HostStatus { return event.HostStatus{} },
		changes: make(chan event.Change, 8), ask: make(chan struct{}, 1), unsent: map[string]event.Applied{}, log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	eventually(t, a, "1")
	s.ask <- struct{}{}
	require.Eventually(t, func() bool { return len(s.ask) == 0 }, time.Minute, time.Millisecond, "it waits for the server now")
	released := make(chan error, 1)
	go func() { released <- s.releaseAll(t.Context()) }()
	select {
	case err := <-released:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("releasing waits for a server that doesn't answer")
	}
	eventually(t, a)
}
