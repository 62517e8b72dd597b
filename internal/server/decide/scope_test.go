package decide

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// targets are the live redirects as HOST SERVICE.
func targets(d *Decider) []string {
	var out []string
	for _, r := range d.Board().Live(nil) {
		out = append(out, r.Host+" "+string(r.Service))
	}
	slices.Sort(out)
	return out
}

func scoped(id string, s event.Scope) event.Offence {
	o := offence(id, "192.0.2.66/32")
	o.Scope = s
	return o
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		offence func(*event.Offence)
		options func(*Options)
		want    []string
		outcome string
	}{
		"this service": {want: []string{"web ssh"}, outcome: "redirected"},
		// The host has ssh, mysql and redis; pots offer ssh, mysql and ftp.
		"what pots offer and the agent permits": {offence: func(o *event.Offence) { o.Scope = event.ScopeTrapped }, want: []string{"web mysql", "web ssh"}, outcome: "redirected"},
		"the fleet":                             {offence: func(o *event.Offence) { o.Scope = event.ScopeFleet }, want: []string{"db ssh", "mail ssh", "web ssh"}, outcome: "redirected"},
		"the fleet, of an offence without host": {offence: func(o *event.Offence) { o.Scope, o.Host = event.ScopeFleet, "" }, want: []string{"db ssh", "mail ssh", "web ssh"}, outcome: "redirected"},
		"a service that no host has": {
			offence: func(o *event.Offence) { o.Scope, o.Host, o.Service = event.ScopeFleet, "", event.FTP }, outcome: "nowhere: no host has the service ftp",
		},
		"but not where it logged in": {
			offence: func(o *event.Offence) { o.Scope = event.ScopeFleet },
			options: func(o *Options) {
				o.Logins.Observe(netip.MustParsePrefix("192.0.2.66/32"), event.Event{Kind: event.AuthOK, Host: "mail", Account: "ann", Time: time.Now().Add(-time.Hour)})
			},
			want: []string{"db ssh", "web ssh"}, outcome: "redirected",
		},
		"but not where it is protected": {
			offence: func(o *event.Offence) { o.Scope = event.ScopeFleet },
			options: func(o *Options) {
				o.Protected = func(host string) []Protected {
					if host == "db" {
						return []Protected{{netip.MustParseAddr("192.0.2.66"), "an address of host db"}}
					}
					return nil
				}
			},
			want: []string{"mail ssh", "web ssh"}, outcome: "redirected",
		},
		"allowed nowhere": {
			offence: func(o *event.Offence) { o.Scope = event.ScopeFleet },
			options: func(o *Options) { o.Allow.Add(netip.MustParsePrefix("192.0.2.66/32")) },
			outcome: "allowed: the allow-list covers 192.0.2.66/32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			d := start(t, w, tt.options)
			o := scoped("1", event.ScopeService)
			if tt.offence != nil {
				tt.offence(&o)
			}
			decide(t, d, o)
			require.Equal(t, tt.outcome, w.outcome("1"))
			require.Equal(t, tt.want, targets(d))
			for _, r := range d.Board().Live(nil) {
				require.Equal(t, "1", r.OffenceID)
				require.Equal(t, r.Host, w.redirect(r.ID).Host, "what is on the board is stored")
				require.Eventually(t, func() bool { return len(d.Board().Desired(r.Host).Redirects) > 0 }, time.Minute, time.Millisecond, "leases come for all")
			}
		})
	}
}

// TestScopesEndTogether: whatever ends redirects ends all of an offence, and a replay makes none anew.
func TestScopesEndTogether(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, d *Decider){
		"release": func(t *testing.T, d *Decider) {
			t.Helper()
			_, err := d.Release(t.Context(), func(r event.Redirect) bool { return r.OffenceID == "1" }, "by hand")
			require.NoError(t, err)
		},
		"pause": func(t *testing.T, d *Decider) {
			t.Helper()
			_, err := d.Pause(t.Context())
			require.NoError(t, err)
			d.Resume()
		},
		"expiry": func(*testing.T, *Decider) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			d := start(t, w, nil)
			o := scoped("1", event.ScopeFleet)
			if name == "expiry" {
				o.TTL = 200 * time.Millisecond
			}
			decide(t, d, o)
			require.Len(t, targets(d), 3)
			require.True(t, d.Board().OfOffence("1"))
			end(t, d)
			require.Eventually(t, func() bool { return len(targets(d)) == 0 }, time.Minute, time.Millisecond)
			require.False(t, d.Board().OfOffence("1"))
			for _, host := range w.Names() {
				require.Empty(t, d.Board().Desired(host).Redirects)
			}
			o.TTL = time.Hour
			decide(t, d, o)
			require.Empty(t, targets(d), "the same offence, read again, redirects nobody")
		})
	}
}

func TestEscalation(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	steps := []time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}
	for i, want := range []time.Duration{steps[0], steps[1], steps[2], steps[2]} {
		o := scoped(string(rune('a'+i)), event.ScopeFleet)
		o.Steps, o.TTL = steps, steps[0]
		decide(t, d, o)
		live := d.Board().Live(nil)
		require.Len(t, live, 3)
		for _, r := range live {
			require.WithinDuration(t, time.Now().Add(want), r.ExpiresAt, time.Minute, "offence %d", i+1)
		}
		w.mu.Lock()
		require.Equal(t, want, w.offences[o.ID].TTL)
		w.mu.Unlock()
		// A restart in between forgets nothing, since the store counts.
		expireAll(t, d)
		d = start(t, w, nil)
	}
	other := offence("z", "192.0.2.67/32")
	other.Steps, other.TTL = steps, steps[0]
	decide(t, d, other)
	require.WithinDuration(t, time.Now().Add(steps[0]), d.Board().Live(nil)[0].ExpiresAt, time.Minute, "others begin at the first step")
}

// TestReleasedIsNotRepeated: whom an operator released was no offender.
func TestReleasedIsNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	for _, id := range []string{"a", "b"} {
		o := offence(id, "192.0.2.66/32")
		o.Steps, o.TTL = []time.Duration{time.Hour, 100 * time.Hour}, time.Hour
		decide(t, d, o)
		require.WithinDuration(t, time.Now().Add(time.Hour), d.Board().Live(nil)[0].ExpiresAt, time.Minute)
		_, err := d.Release(t.Context(), nil, "by hand")
		require.NoError(t, err)
	}
}

// expireAll has the time of all live redirects be over.
func expireAll(t *testing.T, d *Decider) {
	t.Helper()
	for _, r := range d.Board().Live(nil) {
		_, ended, err := d.end(t.Context(), r.ID, event.Expired, "")
		require.NoError(t, err)
		require.True(t, ended)
	}
}

func TestRulesThatDoNotRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	o := scoped("dry", event.ScopeFleet)
	o.Action = event.ActionDryRun
	decide(t, d, o)
	require.Equal(t, "dry-run", w.outcome("dry"))
	require.Empty(t, targets(d))

	known := offence("known", "192.0.2.99/32")
	known.Contributor = true
	d.ObserveLogin(known.Source, event.Event{Kind: event.AuthOK, Host: "mail", Account: "ann", Time: time.Now().Add(-time.Hour)})
	decide(t, d, known)
	require.Equal(t, "exempt: it is one of many, and has logged in somewhere before", w.outcome("known"))
	stranger := offence("stranger", "192.0.2.98/32")
	stranger.Contributor = true
	decide(t, d, stranger)
	require.Equal(t, "redirected", w.outcome("stranger"))
}

// TestRotatedPassword is decision 11: an application server whose database password was rotated fails as fast as an
// attacker. It is alerted on; and where an operator turned redirecting on, what it did before the rotation spares it.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		action  event.Action
		before  bool // it had logged in
		outcome string
	}{
		"as shipped":                  {event.ActionAlert, false, "alert"},
		"as shipped, known":           {event.ActionAlert, true, "alert"},
		"redirecting turned on":       {event.ActionRedirect, true, "exempt: it logged in to web at "},
		"redirecting, and a stranger": {event.ActionRedirect, false, "redirected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			d := start(t, w, nil)
			app := netip.MustParsePrefix("192.0.2.80/32")
			now := time.Now()
			if tt.before {
				d.ObserveLogin(app, event.Event{Service: event.MySQL, Kind: event.AuthOK, Host: "web", Account: "shop", Time: now.Add(-24 * time.Hour)})
			}
			for i := range 50 { // it tries again and again
				d.ObserveLogin(app, event.Event{Service: event.MySQL, Kind: event.AuthFailed, Attempts: 1, Host: "web", Account: "shop", Time: now.Add(time.Duration(i-50) * time.Second)})
			}
			o := offence("1", app.String())
			o.Rule, o.Service, o.Action = "mysql-bruteforce", event.MySQL, tt.action
			decide(t, d, o)
			require.Contains(t, w.outcome("1"), tt.outcome)
			require.Equal(t, tt.outcome == "redirected", len(d.Board().Live(nil)) == 1)
		})
	}
}

// What a rule says of its offenders' pots goes with every lease, and stays with the redirect, which outlives this process.
func TestReachGoesWithTheLease(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d := start(t, w, nil)
	o := scoped("1", event.ScopeFleet)
	o.Egress = event.EgressNone
	decide(t, d, o)
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.reach) >= 3
	}, time.Minute, time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.reach {
		require.Equal(t, event.EgressNone, p)
	}
	for _, r := range w.redirects {
		require.Equal(t, event.EgressNone, r.Egress)
	}
}
