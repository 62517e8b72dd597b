package pool_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func warm(n int) func(*pool.PotsOptions) { return func(o *pool.PotsOptions) { o.Warm = n } }

func isWarm(t testing.TB, p *pool.Pots, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return p.WarmPots() == n }, time.Minute, 5*time.Millisecond, "%d pots wait", p.WarmPots())
}

func enter(t testing.TB, p *pool.Pots, n int) *pool.Stay {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := p.Enter(ctx, leaseOf(n).PotKey())
	require.NoError(t, err)
	return s
}

// frozen asks the kernel whether a process is.
func frozen(t *testing.T, id string) bool {
	t.Helper()
	paths, err := filepath.Glob("/sys/fs/cgroup/freezer/docker/" + id + "/freezer.state")
	require.NoError(t, err)
	two, err := filepath.Glob("/sys/fs/cgroup/*/*" + id + "*/cgroup.freeze")
	require.NoError(t, err)
	for _, p := range append(paths, two...) {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		if w := strings.TrimSpace(string(text)); w == "FROZEN" || w == "1" {
			return true
		}
	}
	return false
}

func TestAttackersGetPotsThatWait(t *testing.T) {
	f := newFixture(t, "")
	var mu sync.Mutex
	var dressed []event.PotKey
	p, _ := f.pots(t, warm(2), func(o *pool.PotsOptions) {
		o.Dress = func(_ context.Context, d pool.Dressing) error {
			k, pid, a := d.PotKey, d.PID, d.Address
			mu.Lock()
			defer mu.Unlock()
			assert.Positive(t, pid)
			assert.True(t, a.IsValid())
			dressed = append(dressed, k)
			return nil
		}
	})
	isWarm(t, p, 2)
	assert.Empty(t, p.List(), "they are nobody's")
	assert.True(t, strings.HasPrefix(p.Banner(), "SSH-2.0-OpenSSH_"), p.Banner())
	all, err := f.engine.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	for _, c := range all {
		assert.True(t, frozen(t, c.ID))
	}
	one, two := enter(t, p, 1), enter(t, p, 2)
	defer one.Close()
	defer two.Close()
	assert.NotEqual(t, one.Pot().ID, two.Pot().ID)
	waited := []string{all[0].ID, all[1].ID}
	for _, s := range []*pool.Stay{one, two} {
		assert.Contains(t, waited, s.Pot().ID)
		assert.False(t, frozen(t, s.Pot().ID))
		conn, err := s.Dial(t.Context(), event.SSH)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	assert.Equal(t, uint64(2), p.Counts().Hits)
	isWarm(t, p, 2)
	again := enter(t, p, 1)
	defer again.Close()
	assert.Equal(t, one.Pot().ID, again.Pot().ID, "who comes back gets its own")
	mu.Lock()
	defer mu.Unlock()
	assert.Len(t, dressed, 2)
}

func TestIdlePotsAreFrozenThenStoppedAndComeBackWithTheirFiles(t *testing.T) {
	f := newFixture(t, "")
	dressed := make(chan event.PotKey, 10)
	p, _ := f.pots(t, func(o *pool.PotsOptions) {
		o.PauseAfter, o.StopAfter = 200*time.Millisecond, 3*time.Second
		o.Dress = func(_ context.Context, d pool.Dressing) error { dressed <- d.PotKey; return nil }
	})
	state := func() string { return p.List()[0].State }
	s := enter(t, p, 1)
	id := s.Pot().ID
	_, err := pottest.InPot(t, id, "echo treasure > /root/found")
	require.NoError(t, err)
	require.Never(t, func() bool { return state() != "running" }, time.Second, 50*time.Millisecond, "somebody is in it")
	s.Close()
	s.Close() // twice is once
	require.Eventually(t, func() bool { return state() == "paused" }, time.Minute, 10*time.Millisecond)
	assert.True(t, frozen(t, id))
	s = enter(t, p, 1)
	assert.Equal(t, "running", state())
	assert.Equal(t, id, s.Pot().ID)
	conn, err := s.Dial(t.Context(), event.SSH)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	s.Close()
	require.Eventually(t, func() bool { return state() == "stopped" }, time.Minute, 10*time.Millisecond)
	c, _, err := f.engine.Inspect(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, engine.Stopped, c.State)
	s = enter(t, p, 1)
	defer s.Close()
	assert.Equal(t, id, s.Pot().ID)
	out, err := pottest.InPot(t, id, "cat /root/found")
	require.NoError(t, err)
	assert.Equal(t, "treasure\n", out)
	assert.Len(t, dressed, 2, "at its first start and at its next")
	counts := p.Counts()
	assert.GreaterOrEqual(t, counts.Paused, uint64(1))
	assert.Equal(t, uint64(1), counts.Stopped)
}

func TestWhosePotItIsOutlivesTheProcess(t *testing.T) {
	f := newFixture(t, "")
	p, stop := f.pots(t, warm(1), func(o *pool.PotsOptions) { o.PauseAfter = 100 * time.Millisecond })
	isWarm(t, p, 1)
	s := enter(t, p, 1)
	id := s.Pot().ID
	s.Close()
	require.Eventually(t, func() bool { return p.List()[0].State == "paused" }, time.Minute, 10*time.Millisecond)
	isWarm(t, p, 1)
	before, err := f.engine.List(t.Context())
	require.NoError(t, err)
	stop()

	p, stop = f.pots(t, warm(1))
	s = enter(t, p, 1)
	assert.Equal(t, id, s.Pot().ID)
	conn, err := s.Dial(t.Context(), event.SSH)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	s.Close()
	isWarm(t, p, 1)
	after, err := f.engine.List(t.Context())
	require.NoError(t, err)
	require.Len(t, after, 2)
	for _, c := range before {
		left := slices.ContainsFunc(after, func(o engine.Container) bool { return o.ID == c.ID })
		assert.Equal(t, c.ID == id, left, "what belonged to nobody is not handed out by the next process")
	}
	stop()

	// Nobody knows any more whose it was: nobody gets it.
	require.NoError(t, os.WriteFile(f.file, []byte("{"), 0o600))
	p, _ = f.pots(t)
	s = enter(t, p, 2)
	defer s.Close()
	assert.NotEqual(t, id, s.Pot().ID)
	require.Eventually(t, func() bool {
		_, found, err := f.engine.Inspect(t.Context(), id)
		return err == nil && !found
	}, time.Minute, 50*time.Millisecond, "it is removed")
	assert.FileExists(t, f.file+".broken")
}

func TestNoPotWaitsWhereMemoryIsShort(t *testing.T) {
	f := newFixture(t, "")
	meminfo := filepath.Join(t.TempDir(), "meminfo")
	require.NoError(t, os.WriteFile(meminfo, []byte("MemTotal: 9999999 kB\nMemAvailable:  100 kB\n"), 0o600))
	p, _ := f.pots(t, warm(2), func(o *pool.PotsOptions) { o.Meminfo, o.KeepFree = meminfo, 1<<20 })
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(p.Findings(), func(f event.Finding) bool { return strings.Contains(f.Text, "short of memory") })
	}, time.Minute, 10*time.Millisecond)
	assert.Zero(t, p.WarmPots())
	s := enter(t, p, 1)
	s.Close()
	assert.Equal(t, uint64(1), p.Counts().Cold, "who comes gets one nevertheless")
}

func TestAFullNodeGivesUpWhatIsMissedLeast(t *testing.T) {
	f := newFixture(t, "")
	removed := make(chan event.PotKey, 10)
	leased := map[event.PotKey]bool{leaseOf(1).PotKey(): true}
	p, _ := f.pots(t, warm(1), func(o *pool.PotsOptions) {
		o.MaxPots = 3
		o.Leased = func(k event.PotKey) bool { return leased[k] }
		o.Removed = func(k event.PotKey) { removed <- k }
	})
	isWarm(t, p, 1)
	enter(t, p, 1).Close() // it has a lease
	enter(t, p, 2).Close() // nobody misses it
	inside := enter(t, p, 3)
	defer inside.Close()
	assert.Empty(t, removed, "the ones that wait go first")
	enter(t, p, 4).Close()
	select {
	case k := <-removed:
		assert.Equal(t, leaseOf(2).PotKey(), k)
	case <-time.After(time.Minute):
		t.Fatal("nothing was given up")
	}
	leased[leaseOf(4).PotKey()] = true
	_, err := p.Enter(t.Context(), leaseOf(5).PotKey())
	require.ErrorIs(t, err, pool.ErrFull)
}

func TestAPotThatWaitedAndDiedIsReplaced(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t, warm(1))
	isWarm(t, p, 1)
	all, err := f.engine.List(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.engine.Kill(t.Context(), all[0].ID))
	require.Eventually(t, func() bool {
		now, err := f.engine.List(t.Context())
		return err == nil && p.WarmPots() == 1 && len(now) == 1 && now[0].ID != all[0].ID
	}, time.Minute, 50*time.Millisecond)
}

// boundHit is how long an attacker that gets in may wait for its pot, at the median.
const boundHit = 40 * time.Millisecond

// A pool hit: from an attacker that gets in to its pot that answers.
func BenchmarkPoolHit(b *testing.B) {
	for _, atOnce := range []int{1, 20} {
		b.Run("at_once="+strconv.Itoa(atOnce), func(b *testing.B) {
			f := newFixtureTB(b)
			p, _ := f.pots(b, warm(atOnce), func(o *pool.PotsOptions) { o.MaxPots = 200 })
			var took []time.Duration
			next := 1
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				isWarm(b, p, atOnce)
				b.StartTimer()
				took = append(took, hits(b, p, next, atOnce)...)
				next += atOnce
				b.StopTimer()
				if next > 150 { // the machine is not to hold hundreds
					none := map[event.PotKey]bool{}
					f.wanted.Store(&none)
					p.Tidy()
					require.Eventually(b, func() bool { return len(p.List()) == 0 }, 2*time.Minute, 50*time.Millisecond)
					f.wanted.Store(nil)
					next = 1
				}
				b.StartTimer()
			}
			slices.Sort(took)
			if median := took[len(took)/2]; median > boundHit {
				b.Errorf("NOT within: the median is %s, at most %s are wanted", median, boundHit)
			}
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

func hits(b *testing.B, p *pool.Pots, first, n int) []time.Duration {
	b.Helper()
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			began := time.Now()
			s, err := p.Enter(context.Background(), leaseOf(first+i).PotKey())
			if err != nil {
				b.Error(err)
				return
			}
			took[i] = time.Since(began)
			s.Close()
		})
	}
	wg.Wait()
	return took
}

// What a pot that waits costs: its control group's memory, and that of the engine's process for it.
func BenchmarkIdlePot(b *testing.B) {
	f := newFixtureTB(b)
	const many = 10
	p, _ := f.pots(b, warm(many))
	isWarm(b, p, many)
	all, err := f.engine.List(b.Context())
	require.NoError(b, err)
	for b.Loop() {
	}
	var pots, shims int64
	for _, c := range all {
		pot, shim := memoryOf(b, f.engine, c.ID)
		pots, shims = pots+pot, shims+shim
	}
	each := float64(pots+shims) / float64(len(all))
	b.ReportMetric(float64(pots)/float64(len(all))/(1<<20), "pot-MiB")
	b.ReportMetric(float64(shims)/float64(len(all))/(1<<20), "shim-MiB")
	b.ReportMetric(float64(1<<30)/each, "pots/GiB")
}

func memoryOf(b *testing.B, e *engine.Docker, id string) (pot, shim int64) {
	b.Helper()
	c, found, err := e.Inspect(b.Context(), id)
	require.NoError(b, err)
	require.True(b, found)
	pot, err = engine.Memory(c.PID)
	require.NoError(b, err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	require.NoError(b, err)
	parent := field(string(status), "PPid:")
	status, err = os.ReadFile("/proc/" + parent + "/status")
	require.NoError(b, err)
	kib, err := strconv.ParseInt(field(string(status), "VmRSS:"), 10, 64)
	require.NoError(b, err)
	return pot, kib << 10
}

func field(text, name string) string {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			return fields[1]
		}
	}
	return ""
}
