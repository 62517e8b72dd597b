package detect_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

func rulesOf(t *testing.T, text string) detect.Rules {
	t.Helper()
	r, err := detect.ParseRules("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustRules are for where there is no test to fail.
func mustRules(text string) detect.Rules {
	r, err := detect.ParseRules("test.yaml", []byte(text))
	if err != nil {
		panic(err)
	}
	return r
}

// richRules are one of each sort.
func richRules() detect.Rules {
	data, err := os.ReadFile("testdata/rules/rich.yaml")
	if err != nil {
		panic(err)
	}
	r, err := detect.ParseRules("rich.yaml", data)
	if err != nil {
		panic(err)
	}
	return r
}

// sorted are two rule sets' worth of behaviour.
func sorts() map[string]detect.Rules {
	return map[string]detect.Rules{"two": twoRules(), "rich": richRules()}
}

// fired feeds events and returns the offences as RULE SOURCE HOST ACCOUNT COUNT.
func fired(d *detect.Detector, events ...event.Event) []string {
	var out []string
	at := d.Position().Sequence
	for i, e := range events {
		for _, o := range d.Observe(event.Position{Sequence: at + uint64(i) + 1}, e, []byte("line")) {
			source := "-"
			if o.Source.IsValid() {
				source = o.Source.String()
			}
			out = append(out, strings.TrimRight(fmt.Sprintf("%s %s %s %s %d", o.Rule, source, or(o.Host), or(o.Account), o.Count), " "))
		}
	}
	return out
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func with(e event.Event, change func(*event.Event)) event.Event {
	change(&e)
	return e
}

func login(source, account string, seconds float64) event.Event {
	return with(guess(source, account, seconds), func(e *event.Event) { e.Kind, e.Attempts = event.AuthOK, 0 })
}

func on(host string, e event.Event) event.Event {
	return with(e, func(e *event.Event) { e.Host = host })
}

func TestSortsOfRules(t *testing.T) {
	t.Parallel()
	rule := func(keys string) string { return "version: 1\nrules:\n  - {name: r, " + keys + "}\n" }
	a, b, c := "203.0.113.61", "203.0.113.62", "203.0.113.63"
	for name, x := range map[string]struct {
		rule   string
		events []event.Event
		want   []string
	}{
		"distinct accounts, one of them twice": {
			"service: ssh, group_by: [source, host], distinct: account, count: 3, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), guess(a, "x", 1), guess(a, "y", 2), guess(b, "z", 3), guess(a, "z", 4)},
			[]string{"r 203.0.113.61/32 web - 3"},
		},
		"a value that came again stays fresh": {
			"service: ssh, group_by: [source, host], distinct: account, count: 3, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), guess(a, "y", 50), guess(a, "x", 55), guess(a, "z", 100)},
			[]string{"r 203.0.113.61/32 web - 3"},
		},
		"a value that is too old": {
			"service: ssh, group_by: [source, host], distinct: account, count: 3, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), guess(a, "y", 50), guess(a, "z", 61)},
			nil,
		},
		"hosts over the fleet": {
			"service: ssh, group_by: [source], distinct: host, count: 2, within: 1m, scope: fleet, action: redirect, for: 1h",
			[]event.Event{guess(a, "x", 0), guess(a, "x", 1), on("db", guess(a, "x", 2)), on("mail", guess(a, "x", 3))},
			[]string{"r 203.0.113.61/32 - - 2"},
		},
		"sources by network": {
			"service: ssh, group_by: [source], ipv4_prefix: 24, ipv6_prefix: 48, count: 3, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), guess(b, "x", 1), guess("2001:db8:1:1::1", "x", 2), guess("2001:db8:1:2::1", "x", 2), guess(c, "x", 3), guess("2001:db8:1:3::1", "x", 4)},
			[]string{"r 203.0.113.0/24 - - 3", "r 2001:db8:1::/48 - - 3"},
		},
		"then a login": {
			"service: ssh, then: auth_ok, group_by: [source, host], count: 2, within: 1m, severity: critical, action: alert, for: 1h",
			[]event.Event{login(a, "x", 0), guess(a, "x", 1), login(a, "x", 2), guess(a, "x", 3), guess(a, "x", 4), login(b, "x", 5), login(a, "x", 6), login(a, "x", 7)},
			[]string{"r 203.0.113.61/32 web - 3"},
		},
		"then a login too late": {
			"service: ssh, then: auth_ok, group_by: [source, host], count: 2, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), guess(a, "x", 1), login(a, "x", 61)},
			nil,
		},
		"contributors: who failed twice and never logged in": {
			"service: ssh, group_by: [account], distinct: source, count: 3, contributors: 2, within: 1m, scope: fleet, action: redirect, for: 1h",
			[]event.Event{login(c, "x", 0), guess(a, "x", 1), guess(c, "x", 2), guess(c, "x", 3), guess(a, "x", 4), guess(b, "x", 5), guess(b, "x", 6), guess(b, "x", 7)},
			[]string{"r - - x 3", "r 203.0.113.61/32 - x 2", "r 203.0.113.62/32 - x 2"},
		},
		"a condition": {
			`service: any, if: 'service == "ssh" and account in ["root", "admin"] and hour == 18 and weekday == 7', group_by: [source, host], count: 2, within: 1m, action: alert, for: 1h`,
			[]event.Event{guess(a, "root", 0), guess(a, "x", 1), guess(a, "admin", 2)},
			[]string{"r 203.0.113.61/32 web - 2"},
		},
		"several services, and no other": {
			"service: [smtp, imap], group_by: [source, host], count: 2, within: 1m, action: alert, for: 1h",
			[]event.Event{
				with(guess(a, "x", 0), func(e *event.Event) { e.Service = event.SMTP }), guess(a, "x", 1),
				with(guess(a, "x", 2), func(e *event.Event) { e.Service = event.IMAP }),
			},
			[]string{"r 203.0.113.61/32 web - 2"},
		},
		"any service, also one that nobody knew": {
			"service: any, group_by: [source, host], count: 2, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), with(guess(a, "x", 1), func(e *event.Event) { e.Service = "gopher" })},
			[]string{"r 203.0.113.61/32 web - 2"},
		},
		"probes are counted as events": {
			"service: ssh, kinds: [probe], group_by: [source, host], count: 2, within: 1m, action: alert, for: 1h",
			[]event.Event{with(guess(a, "", 0), probe), guess(a, "x", 1), with(guess(a, "", 2), probe)},
			[]string{"r 203.0.113.61/32 web - 2"},
		},
		"restating lines name accounts": {
			"service: ssh, kinds: [auth_failed, context], group_by: [source, host], distinct: account, count: 2, within: 1m, action: alert, for: 1h",
			[]event.Event{guess(a, "x", 0), with(guess(a, "x", 0), restating), with(guess(a, "", 0), restating), with(guess(a, "y", 1), restating)},
			[]string{"r 203.0.113.61/32 web - 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := detect.New(detect.Options{Rules: rulesOf(t, rule(x.rule))})
			if diff := cmp.Diff(x.want, fired(d, x.events...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func probe(e *event.Event)     { e.Kind, e.Attempts = event.Probe, 0 }
func restating(e *event.Event) { e.Kind, e.Attempts = event.Context, 0 }

// TestWhatAnOffenceSays: severity, scope and steps are the rule's, and its proof has the login.
func TestWhatAnOffenceSays(t *testing.T) {
	t.Parallel()
	d := detect.New(detect.Options{Rules: rulesOf(t, "version: 1\nrules:\n  - {name: r, service: ssh, then: auth_ok, group_by: [source, host], "+
		"count: 2, within: 1m, severity: critical, scope: trapped-services, action: dry-run, for: [1h, 24h, 7d]}")})
	var got []event.Offence
	for i, e := range []event.Event{guess("203.0.113.61", "x", 0), guess("203.0.113.61", "y", 1), login("203.0.113.61", "y", 2)} {
		got = append(got, d.Observe(event.Position{Sequence: uint64(i) + 1}, e, []byte("line "+strconv.Itoa(i)))...)
	}
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	o := got[0]
	if o.Severity != event.SeverityCritical || o.Scope != event.ScopeTrapped || o.Action != event.ActionDryRun || o.TTL != time.Hour ||
		!slices.Equal(o.Steps, []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}) || len(o.Proof) != 3 || o.Contributor {
		t.Errorf("%+v", o)
	}
	if p := o.Proof[2]; p.Event.Kind != event.AuthOK || p.Event.Attempts != 0 || p.Line != "line 2" || o.Line != p.Position {
		t.Errorf("%+v", p)
	}
}

// TestOnList: the first event of a source on a list is an offence; lists change under a running detector.
func TestOnList(t *testing.T) {
	t.Parallel()
	rules := rulesOf(t, "version: 1\nlists:\n  - {name: bad, file: /bad}\nrules:\n  - {name: r, service: any, source_in: bad, group_by: [source, host], count: 1, within: 1m, action: redirect, for: 1h}")
	on := map[string]bool{}
	d := detect.New(detect.Options{Rules: rules, OnList: func(list string, a netip.Addr) bool { return list == "bad" && on[a.String()] }})
	if got := fired(d, guess("203.0.113.61", "x", 0), guess("203.0.113.62", "x", 0)); got != nil {
		t.Errorf("%v", got)
	}
	on["203.0.113.62"] = true
	want := []string{"r 203.0.113.62/32 web - 1"}
	if diff := cmp.Diff(want, fired(d, guess("203.0.113.61", "x", 1), guess("::ffff:203.0.113.62", "x", 1), guess("203.0.113.62", "x", 1))); diff != "" {
		t.Error(diff)
	}
	if got := fired(detect.New(detect.Options{Rules: rules}), guess("203.0.113.62", "x", 0)); got != nil {
		t.Errorf("without lists: %v", got)
	}
}

// TestFloodsHideNobody: sources that do one thing each, however many, push out nobody that does more; and where those
// that do more fill the memory, one that begins is counted all the same.
func TestFloodsHideNobody(t *testing.T) {
	t.Parallel()
	rules := twoRules()
	rules.Rules = rules.Rules[:1]
	flood := func(i int) string {
		return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
	}
	t.Run("one thing each", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxGroups: 1000})
		for i := range 4 {
			fired(d, guess("203.0.113.66", "root", float64(i)))
		}
		for i := range 100_000 {
			fired(d, guess(flood(i), "root", 4+float64(i)/1000))
		}
		if got := fired(d, guess("203.0.113.66", "root", 105)); len(got) != 1 {
			t.Error("the flood hid the fifth guess")
		}
		if s := d.Stats(); s.EvictedHeavy != 0 || s.Evicted < 98_000 || s.Groups > 1000 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("three things each", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxGroups: 1000})
		for i := range 4 {
			fired(d, guess("203.0.113.66", "root", float64(i)))
		}
		for i := range 10_000 {
			for range 3 {
				fired(d, guess(flood(i), "root", 4+float64(i)/100))
			}
		}
		if got := fired(d, guess("203.0.113.66", "root", 105)); len(got) != 1 {
			t.Error("the flood hid the fifth guess")
		}
		if s := d.Stats(); s.EvictedHeavy == 0 || s.Groups > 1000 {
			t.Errorf("what was given up is not told: %+v", s)
		}
	})
	t.Run("who begins in a full memory", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxGroups: 1000})
		for i := range 2000 {
			for range 4 {
				fired(d, guess(flood(i), "root", float64(i)/100))
			}
		}
		var got []string
		for i := range 5 {
			got = append(got, fired(d, guess("203.0.113.66", "root", 20+float64(i)))...)
			for n := range 100 { // meanwhile others come, one thing each
				fired(d, guess(flood(100_000+100*i+n), "root", 20+float64(i)))
			}
		}
		if len(got) != 1 {
			t.Errorf("%v, %+v", got, d.Stats())
		}
	})
}

// TestOrderWithinLateness: events that come up to 30 seconds late make the same groups offend as in the order of their times. Rules that count
// exactly fire if and only if their definition says so; others fire at least then, and at most if it would with a window that is
// longer by the lateness and a 64th.
func TestOrderWithinLateness(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
		type late struct {
			event.Event

			arrives time.Time
		}
		var events []late
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at := base.Add(time.Duration(rapid.IntRange(0, 300_000).Draw(t, "ms")) * time.Millisecond)
			events = append(events, late{event.Event{
				Service: event.SSH, Kind: event.AuthFailed, Attempts: rapid.IntRange(1, 2).Draw(t, "attempts"), Host: "web", Time: at,
				Source: netip.MustParseAddr("203.0.113.66"), Account: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "account"),
			}, at.Add(time.Duration(rapid.IntRange(0, 30_000).Draw(t, "late")) * time.Millisecond)})
		}
		slices.SortStableFunc(events, func(a, b late) int { return a.arrives.Compare(b.arrives) })
		rules := mustRules(`
version: 1
rules:
  - {name: exact, service: ssh, group_by: [source, host], count: 12, within: 1m, action: alert, for: 30d}
  - {name: values, service: ssh, group_by: [source, host], distinct: account, count: 4, within: 20s, action: alert, for: 30d}
  - {name: parts, service: ssh, group_by: [source, host], count: 33, within: 3m, action: alert, for: 30d}
`)
		d := detect.New(detect.Options{Rules: rules})
		got := map[string]bool{}
		for i, e := range events {
			for _, o := range d.Observe(event.Position{Sequence: uint64(i) + 1}, e.Event, nil) {
				got[o.Rule] = true
			}
		}
		if d.Stats().Late > 0 {
			t.Fatalf("late: %+v", d.Stats())
		}
		// defined says whether some window of that length holds the count.
		defined := func(r detect.Rule, within time.Duration) bool {
			for _, first := range events {
				sum, values := 0, map[string]bool{}
				for _, e := range events {
					if !e.Time.Before(first.Time) && e.Time.Sub(first.Time) <= within {
						sum += e.Attempts
						values[e.Account] = true
					}
				}
				if r.Distinct == "" && sum >= r.Count || r.Distinct != "" && len(values) >= r.Count {
					return true
				}
			}
			return false
		}
		for _, r := range rules.Rules {
			longest := r.Within
			if r.Name != "exact" {
				longest += 30*time.Second + r.Within/64
			}
			if defined(r, r.Within) && !got[r.Name] {
				t.Fatalf("%s did not fire", r.Name)
			}
			if got[r.Name] && !defined(r, longest) {
				t.Fatalf("%s fired", r.Name)
			}
		}
	})
}

func TestSetRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*detect.Rule)
		kept   bool
	}{
		"nothing":           {func(*detect.Rule) {}, true},
		"its action":        {func(r *detect.Rule) { r.Action = event.ActionAlert }, true},
		"its severity":      {func(r *detect.Rule) { r.Severity = event.SeverityHigh }, true},
		"how long":          {func(r *detect.Rule) { r.For = []time.Duration{time.Minute} }, true},
		"the window":        {func(r *detect.Rule) { r.Within *= 2 }, true},
		"what it groups by": {func(r *detect.Rule) { r.GroupBy = []detect.Field{detect.BySource} }, false},
		"what it counts":    {func(r *detect.Rule) { r.Distinct = detect.ByAccount }, false},
		"its name":          {func(r *detect.Rule) { r.Name = "other" }, false},
		"a condition":       {func(r *detect.Rule) { r.If, _ = detect.NewCondition(`account != "nobody"`) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := twoRules()
			d := detect.New(detect.Options{Rules: rules})
			for i := range 4 {
				fired(d, guess("203.0.113.66", strconv.Itoa(i), float64(i)))
			}
			changed := detect.Rules{Rules: slices.Clone(rules.Rules)}
			c.change(&changed.Rules[0])
			d.SetRules(changed)
			if got := fired(d, guess("203.0.113.66", "e", 5)); (len(got) == 1) != c.kept {
				t.Errorf("%v", got)
			}
			snapshot, err := d.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Restore(snapshot); err != nil {
				t.Error(err)
			}
			d.SetRules(detect.Rules{})
			if s := d.Stats(); s.Groups != 0 || s.Open != 0 || s.Bytes != 0 {
				t.Errorf("without rules: %+v", s)
			}
			if got := fired(d, guess("203.0.113.66", "e", 6)); got != nil {
				t.Errorf("without rules: %v", got)
			}
		})
	}
}

// TestRulesChangeUnderLoad is for the race detector.
func TestRulesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	sets := slices.Collect(maps.Values(sorts()))
	sets = append(sets, detect.DefaultRules())
	d := detect.New(detect.Options{Rules: sets[0], MaxGroups: 100})
	var others sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				d.SetRules(sets[i%len(sets)])
				for _, o := range d.Open() {
					d.Close(o.ID)
				}
				snapshot, err := d.Snapshot()
				if err == nil && i%7 == 0 {
					err = d.Restore(snapshot)
				}
				if err != nil {
					t.Error(err)
				}
				d.Stats()
			}
		})
	}
	for i, e := range mix(20_000) {
		d.Observe(event.Position{Sequence: uint64(i) + 1}, e, []byte("x"))
	}
	close(stop)
	others.Wait()
}

// TestApply: what operators say goes before what the file says, and what can't be is left out.
func TestApply(t *testing.T) {
	t.Parallel()
	rules := detect.DefaultRules()
	got := rules.Apply([]detect.Override{
		{Rule: "slow-bruteforce", Redirect: true}, {Rule: "password-spray", Disabled: true}, {Rule: "no-more", Redirect: true},
	})
	if len(got.Rules) != len(rules.Rules)-1 {
		t.Errorf("%d of %d rules", len(got.Rules), len(rules.Rules))
	}
	if r, ok := got.Find("slow-bruteforce"); !ok || r.Action != event.ActionRedirect {
		t.Errorf("%+v", r)
	}
	if r, _ := rules.Find("slow-bruteforce"); r.Action != event.ActionAlert {
		t.Error("the rules themselves changed")
	}
	for _, r := range rules.Rules {
		if err := r.CanRedirect(); err != nil {
			t.Errorf("%s could never be turned on: %v", r.Name, err)
		}
	}
}

func FuzzCondition(f *testing.F) {
	for _, text := range []string{
		`account == "root"`, `in_network(source, "10.0.0.0/8")`, `account matches "^a+$" and hour in [1, 2]`, `len(trim(lower(upper(account)))) > 3 ? true : attempts ** 2 > 4`,
		`1..3`, `let x = account; x + x + x == host`, `{"a": account}.a == "b"`, `[account][0] == "x"`, `account[0:100] == host`, `attempts % 0 == 1`, `not (method ?? "x") == "y"`,
		`account | lower() == "x"`, `all([1], # > 0)`, `source contains "1" or resource startsWith "/"`, `attempts / 0 > 1`, `account?.x`,
	} {
		f.Add(text, "root")
	}
	f.Fuzz(func(t *testing.T, text, account string) {
		c, err := detect.NewCondition(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: an error of several lines: %q", text, err)
			}
			return
		}
		rules := twoRules()
		rules.Rules[0].If = c
		d := detect.New(detect.Options{Rules: rules})
		e := guess("203.0.113.66", account, 0)
		d.Observe(event.Position{Sequence: 1}, e, nil)
		d.Observe(event.Position{Sequence: 2}, e, nil)
	})
}

// What a rule says that pots may reach goes with its offences.
func TestEgressGoesWithTheOffence(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]event.EgressPolicy{"": "", "egress: none, ": event.EgressNone, "egress: record, ": event.EgressRecord} {
		rules := rulesOf(t, "version: 1\nrules:\n  - {name: r, service: ssh, group_by: [source, host], count: 1, within: 1m, action: redirect, "+key+"for: 1h}\n")
		d := detect.New(detect.Options{Rules: rules})
		fired := d.Observe(event.Position{Sequence: 1}, guess("203.0.113.66", "root", 0), []byte("x"))
		if len(fired) != 1 || fired[0].Egress != want {
			t.Errorf("%q: %+v", key, fired)
		}
	}
}
