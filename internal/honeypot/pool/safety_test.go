package pool_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// faulty is an engine of which some calls fail or hang.
type faulty struct {
	*engine.Docker
	removeFails atomic.Int32
	stopHangs   chan struct{}
	stopped     atomic.Bool
	hanging     chan string
}

func (f *faulty) Remove(ctx context.Context, id string) error {
	if f.removeFails.Add(-1) >= 0 {
		return errors.New("driver failed to remove root filesystem: device or resource busy")
	}
	return f.Docker.Remove(ctx, id)
}

func (f *faulty) Stop(ctx context.Context, id string) error {
	if f.stopHangs != nil {
		if f.stopped.CompareAndSwap(false, true) { // the first one only
			f.hanging <- id
			select {
			case <-f.stopHangs:
			case <-ctx.Done():
			}
		}
	}
	return f.Docker.Stop(ctx, id)
}

func TestNegativePauseAfterIsNever(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t, func(o *pool.PotsOptions) { o.PauseAfter, o.StopAfter = -1, -1 })
	enter(t, p, 1).Close()
	require.Never(t, func() bool { return p.List()[0].State != "running" }, 2*time.Second, 20*time.Millisecond)
}

func TestEvictionThatFailsSharesNoAddress(t *testing.T) {
	proxy := pottest.NewProxy(t)
	f := newFixture(t, proxy.Host())
	e := &faulty{Docker: f.engine}
	p, _ := f.pots(t, func(o *pool.PotsOptions) {
		o.Engine, o.MaxPots = e, 1
		o.Leased = func(event.PotKey) bool { return false }
	})
	s := enter(t, p, 1)
	one := s.Pot()
	s.Close()
	e.removeFails.Store(1)
	two := enter(t, p, 2)
	defer two.Close()
	proxy.Down()
	require.Eventually(t, func() bool { return len(p.Findings()) > 0 }, time.Minute, 10*time.Millisecond)
	proxy.Up(t)
	require.Eventually(t, func() bool { return len(p.List()) == 2 }, time.Minute, 10*time.Millisecond)
	s = enter(t, p, 1)
	defer s.Close()
	conn, err := s.Dial(t.Context(), event.SSH)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's
	assert.NotEqual(t, two.Pot().Address, s.Pot().Address)
	connections := func(id string) string {
		out, _ := pottest.InPot(t, id, "ss -Htn state established '( sport = :22 )' | wc -l")
		return strings.TrimSpace(out)
	}
	// The node has asked both whether they are well.
	require.Eventually(t, func() bool { return connections(one.ID) == "1" }, time.Minute, 50*time.Millisecond, "attacker 1 is not in its own pot")
	require.Eventually(t, func() bool { return connections(two.Pot().ID) == "0" }, time.Minute, 50*time.Millisecond, "attacker 1 is in attacker 2's pot")
}

func TestPotThatIsNotEvictedCounts(t *testing.T) {
	f := newFixture(t, "")
	e := &faulty{Docker: f.engine}
	var leased atomic.Bool
	p, _ := f.pots(t, func(o *pool.PotsOptions) {
		o.Engine, o.MaxPots = e, 2
		o.Leased = func(event.PotKey) bool { return leased.Load() }
	})
	enter(t, p, 1).Close()
	enter(t, p, 2).Close()
	e.removeFails.Store(1)
	enter(t, p, 3).Close()
	require.Eventually(t, func() bool { return p.Counts().Failed == 1 }, time.Minute, 10*time.Millisecond)
	leased.Store(true)
	enter(t, p, 1).Close()
	f.wanted.Store(&map[event.PotKey]bool{leaseOf(1).PotKey(): true, leaseOf(3).PotKey(): true})
	p.Tidy()
	require.Eventually(t, func() bool { return len(p.List()) == 2 }, time.Minute, 10*time.Millisecond)
	require.True(t, p.Full(leaseOf(4).PotKey()))
	_, err := p.Enter(t.Context(), leaseOf(4).PotKey())
	require.ErrorIs(t, err, pool.ErrFull)
	leased.Store(false)
	require.False(t, p.Full(leaseOf(4).PotKey()), "one can be given up")
}

func TestDressOnlyAtClaimAndStart(t *testing.T) {
	f := newFixture(t, "")
	var n atomic.Int32
	dress := func(o *pool.PotsOptions) {
		o.Dress = func(_ context.Context, d pool.Dressing) error {
			assert.Equal(t, n.Add(1) == 1, d.First, "it is new once")
			return nil
		}
	}
	p, stop := f.pots(t, dress)
	enter(t, p, 1).Close()
	stop()
	p, _ = f.pots(t, dress)
	enter(t, p, 1).Close()
	assert.Equal(t, int32(1), n.Load(), "a new process of the node dresses a pot that never stopped")
}

func TestLedgerForgetsWhatIsGone(t *testing.T) {
	f := newFixture(t, "")
	gone := make(chan event.PotKey, 4)
	p, stop := f.pots(t)
	s := enter(t, p, 1)
	id := s.Pot().ID
	s.Close()
	stop()
	pottest.Run(t, "docker", "rm", "-f", id)
	p, _ = f.pots(t, func(o *pool.PotsOptions) { o.Removed = func(k event.PotKey) { gone <- k } })
	enter(t, p, 2).Close() // writes the ledger
	data, err := os.ReadFile(f.file)
	require.NoError(t, err)
	assert.NotContains(t, string(data), id, "the ledger grows for ever")
	assert.Len(t, gone, 1, "Removed is told")
}

func TestOneSlowStopHoldsUpNobody(t *testing.T) {
	f := newFixture(t, "")
	e := &faulty{Docker: f.engine, stopHangs: make(chan struct{}), hanging: make(chan string, 1)}
	p, _ := f.pots(t, func(o *pool.PotsOptions) { o.Engine, o.PauseAfter, o.StopAfter = e, time.Hour, 3*time.Second })
	defer close(e.stopHangs)
	a, b := enter(t, p, 1), enter(t, p, 2)
	ids := map[string]int{a.Pot().ID: 2, b.Pot().ID: 1} // the other one
	a.Close()
	b.Close()
	other := ids[<-e.hanging]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	s, err := p.Enter(ctx, leaseOf(other).PotKey())
	t.Logf("took %s", time.Since(began))
	if assert.NoError(t, err, "another attacker's pot, while one pot is slow to stop") {
		s.Close()
	}
}

func TestDressedPIDIsThePots(t *testing.T) {
	proxy := pottest.NewProxy(t)
	f := newFixture(t, proxy.Host())
	var p *pool.Pots
	var mu sync.Mutex
	var groups []string // of the processes that were dressed
	p, _ = f.pots(t, warm(1), func(o *pool.PotsOptions) {
		o.Dress = func(_ context.Context, d pool.Dressing) error {
			pid := d.PID
			data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
			mu.Lock()
			defer mu.Unlock()
			groups = append(groups, string(data))
			return err
		}
	})
	isWarm(t, p, 1)
	all, err := f.engine.List(t.Context())
	require.NoError(t, err)
	potID := all[0].ID
	proxy.Down()
	require.Eventually(t, func() bool { return len(p.Findings()) > 0 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, os.WriteFile("/sys/fs/cgroup/freezer/docker/"+potID+"/freezer.state", []byte("THAWED"), 0o600))
	pottest.Run(t, "docker", "kill", potID) // as an engine's restart does
	proxy.Up(t)
	require.Eventually(t, func() bool { return len(p.Findings()) == 0 }, time.Minute, 10*time.Millisecond)
	s := enter(t, p, 1)
	defer s.Close()
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, groups)
	for _, g := range groups {
		assert.Contains(t, g, s.Pot().ID, "the number of a process that is not the pot's may be anybody's")
	}
}

func TestFreezeThatFailsLeavesThePotAwake(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	s := enter(t, p, 1)
	defer s.Close()
	pottest.Run(t, "docker", "exec", "-d", s.Pot().ID, "sh", "-c", "for i in $(seq 90); do (while :; do :; done) & done; wait")
	require.Eventually(t, func() bool { // counted from outside: inside it would wait for its turn among them
		n, _, err := engine.Processes(s.PID())
		return err == nil && n > 80
	}, 90*time.Second, 50*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := f.engine.Freeze(ctx, s.Pot().ID, s.PID())
	state, _ := os.ReadFile("/sys/fs/cgroup/freezer/docker/" + s.Pot().ID + "/freezer.state")
	t.Logf("Freeze: %v; state %q", err, state)
	if err == nil {
		return // it was frozen at once
	}
	assert.Equal(t, "THAWED\n", string(state), "it failed, and the pot is frozen nevertheless")
	_ = f.engine.Thaw(t.Context(), s.Pot().ID, s.PID())
}

func TestStayHasNoRace(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	s := enter(t, p, 1)
	defer s.Close()
	pottest.Run(t, "docker", "kill", s.Pot().ID)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if c, err := s.Dial(t.Context(), event.SSH); assert.NoError(t, err) {
				_ = c.Close()
			}
			_, _ = s.PID(), s.Pot()
		})
	}
	wg.Wait()
}

func TestLeasedBeforeLeasesAreKnown(t *testing.T) {
	b, _ := newBook(t, nil)
	k := leaseOf(1).PotKey()
	assert.True(t, b.Wanted(k))
	assert.True(t, b.Leased(k), "before the leases are known a full node throws away any pot")
}

// A pot that is being made to wait when the node's last attacker comes becomes this attacker's.
func TestMaxPotsHolds(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t, warm(1), func(o *pool.PotsOptions) { o.MaxPots = 2 })
	held := func() int {
		all, err := f.engine.List(context.Background()) // asked once more when the test is over, perhaps
		if err != nil {
			return 0
		}
		return len(all)
	}
	var most atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			most.Store(max(most.Load(), int32(held())))
		}
	})
	isWarm(t, p, 1)
	one := enter(t, p, 1) // takes the one that waits, and a new one is begun
	defer one.Close()
	require.Eventually(t, func() bool { return held() == 2 }, time.Minute, time.Millisecond)
	two := enter(t, p, 2)
	defer two.Close()
	assert.Equal(t, uint64(2), p.Counts().Hits, "what was begun is not thrown away")
	_, err := p.Enter(t.Context(), leaseOf(3).PotKey())
	require.ErrorIs(t, err, pool.ErrFull)
	stop()
	watching.Wait()
	assert.Equal(t, int32(2), most.Load())
}
