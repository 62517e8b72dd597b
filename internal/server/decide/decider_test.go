package decide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is everything around a Decider, in memory.
type world struct {
	reach     []event.EgressPolicy // that leases were asked for with
	mu        sync.Mutex
	offences  map[string]event.Offence
	redirects map[string]event.Redirect
	changes   []event.Change
	released  []string
	ended     []string
	noNode    bool
	noStore   error
	ports     uint16
}

func newWorld() *world {
	return &world{offences: map[string]event.Offence{}, redirects: map[string]event.Redirect{}}
}

func (w *world) SaveOffence(_ context.Context, o event.Offence, redirects ...event.Redirect) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noStore != nil {
		return false, w.noStore
	}
	if _, ok := w.offences[o.ID]; ok {
		return false, nil
	}
	w.offences[o.ID] = o
	for _, r := range redirects {
		w.redirects[r.ID] = r
	}
	return true, nil
}

func (w *world) Repeats(_ context.Context, source netip.Prefix, offence string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := map[string]bool{}
	for _, r := range w.redirects {
		if r.Source == source && r.OffenceID != offence && r.State != event.Released {
			of[r.OffenceID] = true
		}
	}
	return len(of), nil
}

func (w *world) Offers() []event.Service { return []event.Service{event.SSH, event.MySQL, event.FTP} }

func (w *world) Names() []string { return []string{"db", "mail", "web"} }

func (w *world) Services(string) []event.HostPort {
	return []event.HostPort{{Service: event.SSH, Port: 22}, {Service: event.MySQL, Port: 3306}, {Service: event.Redis, Port: 6379}}
}

func (w *world) SaveRedirect(_ context.Context, r event.Redirect) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.redirects[r.ID] = r
	return w.noStore
}

func (w *world) Grant(_ context.Context, r event.LeaseRequest) (event.Lease, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noNode {
		return event.Lease{}, ErrNoNode
	}
	w.ports++
	w.reach = append(w.reach, r.Egress)
	return event.Lease{Endpoint: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.20"), 20000+w.ports), Node: "node1", Attacker: r.Attacker}, nil
}

func (w *world) Release(_ context.Context, r event.Redirect) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = append(w.released, r.ID)
}

func (w *world) Changed(_ string, c event.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
}

func (w *world) Port(_ string, s event.Service) uint16 {
	return map[event.Service]uint16{event.SSH: 22, event.MySQL: 3306, event.Redis: 6379}[s]
}

func (w *world) Addresses(string) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("203.0.113.10")}
}

func (w *world) hasEnded(r event.Redirect) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, r.ID)
}

func (w *world) outcome(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offences[id].Outcome
}

func (w *world) redirect(id string) event.Redirect {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.redirects[id]
}

func (w *world) sent() []event.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]event.Change(nil), w.changes...)
}

func start(t *testing.T, w *world, change func(*Options)) *Decider {
	t.Helper()
	o := Options{
		Store: w, Leaser: w, Notifier: w, Hosts: w,
		Allow: NewAllow(), Logins: NewLogins(100, 30*24*time.Hour), Breaker: NewBreaker(0),
		ExemptFor: 30 * 24 * time.Hour, Ended: w.hasEnded,
		Protected: func(string) []Protected {
			return []Protected{{netip.MustParseAddr("203.0.113.10"), "an address of host web"}, {netip.MustParseAddr("2001:db8:2::20"), "node node1"}}
		},
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	d := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return d
}

func offence(id, source string) event.Offence {
	now := time.Now()
	return event.Offence{
		ID: id, Rule: "ssh-bruteforce", Service: event.SSH, Host: "web", Source: netip.MustParsePrefix(source),
		Count: 5, First: now.Add(-time.Second), Last: now, Action: event.ActionRedirect, TTL: 24 * time.Hour,
		Logins: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.66:4022")},
	}
}

func decide(t *testing.T, d *Decider, o event.Offence) {
	t.Helper()
	require.NoError(t, d.Offence(t.Context(), o))
	require.NoError(t, d.Flush())
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		source  string
		options func(*Options)
		offence func(*event.Offence)
		outcome string
	}{
		"redirected":        {source: "192.0.2.66/32", outcome: "redirected"},
		"ipv6":              {source: "2001:db8:1:66::/64", outcome: "redirected"},
		"alert only":        {source: "192.0.2.66/32", offence: func(o *event.Offence) { o.Action = event.ActionAlert }, outcome: "alert"},
		"no source":         {source: "192.0.2.66/32", offence: func(o *event.Offence) { o.Source = netip.Prefix{} }, outcome: "alert: the rule names no source"},
		"allowed":           {source: "192.0.2.66/32", options: func(o *Options) { o.Allow.Add(netip.MustParsePrefix("192.0.2.0/24")) }, outcome: "allowed: the allow-list covers 192.0.2.66/32"},
		"allowed within":    {source: "2001:db8:1:66::/64", options: func(o *Options) { o.Allow.Add(netip.MustParsePrefix("2001:db8:1:66::5/128")) }, outcome: "allowed: the allow-list covers 2001:db8:1:66::/64"},
		"host's own":        {source: "203.0.113.10/32", outcome: "protected: 203.0.113.10 is an address of host web"},
		"node in a /64":     {source: "2001:db8:2::/64", outcome: "protected: 2001:db8:2::20 is node node1"},
		"loopback":          {source: "127.0.0.1/32", outcome: "protected: 127.0.0.1/32 is no source that comes over a network"},
		"dry-run":           {source: "192.0.2.66/32", options: func(o *Options) { o.DryRun = true }, outcome: "dry-run"},
		"paused":            {source: "192.0.2.66/32", options: func(o *Options) { o.Paused = true }, outcome: "paused"},
		"read from old log": {source: "192.0.2.66/32", offence: func(o *event.Offence) { o.Last = time.Now().Add(-25 * time.Hour) }, outcome: "stale: its redirect would be over already"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			d := start(t, w, tt.options)
			o := offence("1", tt.source)
			if tt.offence != nil {
				tt.offence(&o)
			}
			decide(t, d, o)
			require.Equal(t, tt.outcome, w.outcome("1"))
			if tt.outcome != "redirected" {
				require.Empty(t, w.sent(), "nothing may reach the host")
				require.Empty(t, d.Board().Desired("web").Redirects)
				return
			}
			want := d.Board().Desired("web").Redirects
			require.Len(t, want, 1)
			require.Equal(t, netip.MustParsePrefix(tt.source), want[0].Source)
			require.Equal(t, uint16(22), want[0].Port)
			require.Equal(t, o.Logins, want[0].Spare)
			require.Len(t, w.sent(), 1)
		})
	}
}

func TestExemptSource(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	source := netip.MustParsePrefix("192.0.2.66/32")
	d.ObserveLogin(source, event.Event{Kind: event.AuthOK, Host: "web", Account: "ann", Time: time.Now().Add(-time.Hour)})
	decide(t, d, offence("1", "192.0.2.66/32"))
	require.Contains(t, w.outcome("1"), "exempt: it logged in to web at ")
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, func(o *Options) { o.Breaker = NewBreaker(3) })
	for i := range 5 {
		decide(t, d, offence(strconv.Itoa(i), fmt.Sprintf("192.0.2.%d/32", 10+i)))
	}
	require.Equal(t, "redirected", w.outcome("2"))
	require.Equal(t, "breaker: too many sources within an hour", w.outcome("3"))
	require.Len(t, d.Board().Desired("web").Redirects, 3)
	d.Resume()
	decide(t, d, offence("6", "192.0.2.20/32"))
	require.Equal(t, "redirected", w.outcome("6"))

	b := NewBreaker(1)
	now := time.Now()
	one, two := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	require.True(t, b.Allow("web", one, now))
	require.True(t, b.Allow("web", one, now), "sources are counted, not redirects")
	require.False(t, b.Allow("web", two, now.Add(59*time.Minute)))
	require.True(t, b.Allow("db", two, now), "each host has its own")
	require.True(t, b.Allow("web", two, now.Add(time.Hour)))
}

func TestReplayedOffenceRedirectsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	decide(t, d, offence("1", "192.0.2.66/32"))
	live := d.Board().Live(nil)

	again := start(t, w, func(o *Options) { o.Live = live }) // after a restart
	decide(t, again, offence("1", "192.0.2.66/32"))
	require.Len(t, again.Board().Desired("web").Redirects, 1)
	require.Len(t, w.sent(), 1, "told once")
	require.NotEqual(t, d.Board().Desired("web").Epoch, again.Board().Desired("web").Epoch)
}

func TestStoreFailureHoldsTheCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.noStore = errors.New("disk full")
	d := start(t, w, nil)
	require.NoError(t, d.Offence(t.Context(), offence("1", "192.0.2.66/32")))
	require.ErrorContains(t, d.Flush(), "disk full")
	require.Empty(t, w.sent(), "what isn't stored isn't told")
}

func TestNodeComesLater(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.noNode = true
	d := start(t, w, nil)
	decide(t, d, offence("1", "192.0.2.66/32"))
	require.Empty(t, d.Board().Desired("web").Redirects, "without an endpoint there is nothing to do for the host")
	require.Contains(t, d.Board().Live(nil)[0].Reason, "no honeypot node")

	w.mu.Lock()
	w.noNode = false
	w.mu.Unlock()
	d.Wake()
	require.Eventually(t, func() bool { return len(d.Board().Desired("web").Redirects) == 1 }, time.Minute, time.Millisecond)
	require.True(t, w.redirect("r1").Endpoint.IsValid(), "stored")
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	decide(t, d, offence("1", "192.0.2.66/32"))

	at := time.Now()
	require.NoError(t, d.Applied(t.Context(), "web", []event.Applied{{ID: "r1", State: event.Active, At: at}}))
	require.Equal(t, event.Active, w.redirect("r1").State)
	require.True(t, w.redirect("r1").AppliedAt.Equal(at))
	require.NoError(t, d.Applied(t.Context(), "db", []event.Applied{{ID: "r1", State: event.Released, At: at}}))
	require.Equal(t, event.Active, w.redirect("r1").State, "another host has no say")
	require.NoError(t, d.Applied(t.Context(), "web", []event.Applied{{ID: "r1", State: event.Refused, Reason: "FORWARD policy DROP"}}))
	require.Equal(t, "FORWARD policy DROP", w.redirect("r1").Reason)
	revision := d.Board().Desired("web").Revision

	out, err := d.Release(t.Context(), nil, "by hand")
	require.NoError(t, err)
	require.Len(t, out, 1)
	require.Equal(t, event.Released, w.redirect("r1").State)
	require.Equal(t, []string{"r1"}, w.ended)
	require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return slices.Equal(w.released, []string{"r1"}) }, time.Minute, time.Millisecond)
	last := w.sent()[len(w.sent())-1]
	require.Equal(t, []string{"r1"}, last.Delete)
	require.Equal(t, revision+1, last.Revision, "no gap that the agent would ask about")

	decide(t, d, offence("2", "192.0.2.66/32"))
	require.Equal(t, "redirected", w.outcome("2"), "a released source may offend again")
	require.NoError(t, d.Applied(t.Context(), "web", []event.Applied{{ID: "r2", State: event.Released, Reason: "released on the host"}}))
	require.Empty(t, d.Board().Live(nil))
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	o := offence("1", "192.0.2.66/32")
	o.TTL = 50 * time.Millisecond
	decide(t, d, o)
	require.Eventually(t, func() bool { return w.redirect("r1").State == event.Expired }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool { return len(d.Board().Live(nil)) == 0 }, time.Minute, time.Millisecond)
}

func TestPauseReleasesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	for i := range 20 {
		require.NoError(t, d.Offence(t.Context(), offence(strconv.Itoa(i), fmt.Sprintf("192.0.2.%d/32", 10+i))))
	}
	_, err := d.Pause(t.Context())
	require.NoError(t, err)
	require.Empty(t, d.Board().Desired("web").Redirects)
	decide(t, d, offence("x", "192.0.2.200/32"))
	require.Equal(t, "paused", w.outcome("x"))
	d.Resume()
	decide(t, d, offence("y", "192.0.2.200/32"))
	require.Equal(t, "redirected", w.outcome("y"))
}

// slow is a node that answers when it is told to.
type slow struct {
	*world
	asked, answer chan struct{}
}

func (s slow) Grant(ctx context.Context, r event.LeaseRequest) (event.Lease, error) {
	s.asked <- struct{}{}
	<-s.answer
	return s.world.Grant(ctx, r)
}

func TestWhatIsUnderWayObeysTheOperator(t *testing.T) {
	t.Parallel()
	source := netip.MustParsePrefix("192.0.2.66/32")
	for name, forbid := range map[string]func(d *Decider) error{
		"allow": func(d *Decider) error {
			d.allow.Add(source)
			_, err := d.Release(t.Context(), nil, "allowed")
			return err
		},
		"pause": func(d *Decider) error { _, err := d.Pause(t.Context()); return err },
	} {
		for _, how := range []string{"offence", "by hand"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				w := newWorld()
				node := slow{w, make(chan struct{}), make(chan struct{})}
				d := start(t, w, func(o *Options) { o.Leaser = node })
				done := make(chan error, 1)
				go func() {
					if how == "offence" {
						done <- errors.Join(d.Offence(t.Context(), offence("1", source.String())), d.Flush())
						return
					}
					_, err := d.Add(t.Context(), ByHand{Source: source, Service: event.SSH, Host: "web", TTL: time.Hour})
					if !errors.Is(err, ErrRefused) {
						done <- fmt.Errorf("not refused: %w", err)
						return
					}
					done <- nil
				}()
				<-node.asked
				require.NoError(t, forbid(d))
				close(node.answer)
				require.NoError(t, <-done)
				require.Empty(t, d.Board().Live(nil))
				require.Empty(t, w.sent(), "the host never hears of it")
				require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.released) == 1 }, time.Minute, time.Millisecond, "its lease is given back")
			})
		}
	}
}

func TestByHand(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, func(o *Options) { o.Allow.Add(netip.MustParsePrefix("192.0.2.7/32")) })
	ctx := t.Context()
	by := func(source string) ByHand {
		return ByHand{Source: netip.MustParsePrefix(source), Service: event.SSH, Host: "web", TTL: time.Hour, Egress: event.EgressNone}
	}
	r, err := d.Add(ctx, by("192.0.2.66/32"))
	require.NoError(t, err)
	require.Equal(t, Manual, r.Rule)
	require.Equal(t, event.EgressNone, r.Egress)
	w.mu.Lock()
	require.Equal(t, []event.EgressPolicy{event.EgressNone}, w.reach, "the node hears of it")
	w.mu.Unlock()
	require.Len(t, d.Board().Desired("web").Redirects, 1)
	for _, source := range []string{"192.0.2.66/32", "192.0.2.7/32", "203.0.113.10/32", "127.0.0.1/32"} {
		_, err = d.Add(ctx, by(source))
		require.ErrorIs(t, err, ErrRefused, source)
	}
	require.Len(t, d.Board().Desired("web").Redirects, 1)
}
