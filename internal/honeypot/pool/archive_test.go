package pool_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func key(n int) event.PotKey { return leaseOf(n).PotKey() }

// An archive that was cut off with its node is made again before the pot goes.
func TestArchiveSurvivesTheNode(t *testing.T) {
	f := newFixture(t, "")
	began := make(chan string, 1)
	p, stop := f.pots(t, func(o *pool.PotsOptions) {
		o.Archive = func(ctx context.Context, _ event.PotKey, id string) error {
			began <- id
			<-ctx.Done()
			return ctx.Err()
		}
	})
	s := enter(t, p, 1)
	id := s.Pot().ID
	_, err := pottest.InPot(t, id, "echo treasure >/root/found")
	require.NoError(t, err)
	s.Close()
	f.wanted.Store(&map[event.PotKey]bool{})
	p.Tidy()
	require.Equal(t, id, <-began)
	stop()
	out, err := f.engine.List(t.Context())
	require.NoError(t, err)
	require.Len(t, out, 1, "what is not archived is not removed")

	var archived atomic.Int32
	gone := make(chan event.PotKey, 1)
	_, _ = f.pots(t, func(o *pool.PotsOptions) {
		o.Archive = func(ctx context.Context, k event.PotKey, again string) error {
			archived.Add(1)
			assert.Equal(t, id, again)
			assert.Equal(t, key(1), k)
			upper, lower, err := f.engine.Layers(ctx, again)
			if err != nil {
				return err
			}
			assert.NotEmpty(t, lower)
			assert.FileExists(t, upper+"/root/found")
			return nil
		}
		o.Removed = func(k event.PotKey) { gone <- k }
	})
	require.Equal(t, key(1), <-gone)
	assert.Equal(t, int32(1), archived.Load())
	out, err = f.engine.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, out)
}

// An archive that takes long keeps nobody else from a pot, nor its own attacker where it fails.
func TestArchiveBlocksNobody(t *testing.T) {
	f := newFixture(t, "")
	var fail atomic.Bool
	fail.Store(true)
	began, goOn := make(chan struct{}, 8), make(chan struct{})
	p, _ := f.pots(t, func(o *pool.PotsOptions) {
		o.Archive = func(context.Context, event.PotKey, string) error {
			began <- struct{}{}
			<-goOn
			if fail.Swap(false) {
				return errors.New("not now")
			}
			return nil
		}
	})
	s := enter(t, p, 1)
	id := s.Pot().ID
	s.Close()
	f.wanted.Store(&map[event.PotKey]bool{key(2): true})
	p.Tidy()
	<-began
	enter(t, p, 2).Close()
	f.wanted.Store(&map[event.PotKey]bool{key(1): true, key(2): true}) // it comes back
	close(goOn)
	require.Eventually(t, func() bool { return !fail.Load() }, time.Minute, time.Millisecond)
	// The one who waited for its end gets an error, or the pot itself; the next one the pot.
	require.Eventually(t, func() bool {
		again, err := p.Enter(t.Context(), key(1))
		if err != nil {
			return false
		}
		defer again.Close()
		return assert.Equal(t, id, again.Pot().ID, "the pot that was not archived is still there")
	}, time.Minute, 10*time.Millisecond)
	out, err := pottest.InPot(t, id, "echo awake")
	require.NoError(t, err)
	assert.Equal(t, "awake\n", out)
}

// Nothing runs in a pot that is being archived.
func TestArchivedPotStandsStill(t *testing.T) {
	f := newFixture(t, "")
	done := make(chan bool, 1)
	p, _ := f.pots(t, func(o *pool.PotsOptions) {
		o.Archive = func(ctx context.Context, _ event.PotKey, id string) error {
			c, _, err := f.engine.Inspect(ctx, id)
			if err != nil {
				return err
			}
			done <- c.PID == 0 || frozen(t, id)
			return nil
		}
		o.Woken = func(event.PotKey, string, int, time.Time) {}
		o.Dress = func(context.Context, pool.Dressing) error { return nil }
	})
	enter(t, p, 1).Close()
	f.wanted.Store(&map[event.PotKey]bool{})
	p.Tidy()
	assert.True(t, <-done)
	require.Eventually(t, func() bool { return len(p.List()) == 0 }, time.Minute, 10*time.Millisecond)
}
