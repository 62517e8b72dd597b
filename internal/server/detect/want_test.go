package detect_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// TestWhatIsNotWantedChangesNothing: a detector that sees only the events which its rules want finds what one that sees all does.
func TestWhatIsNotWantedChangesNothing(t *testing.T) {
	t.Parallel()
	sets := sorts()
	sets["shipped"] = detect.DefaultRules()
	unwanted := 0
	rapid.Check(t, func(t *rapid.T) {
		rules := sets[rapid.SampledFrom([]string{"two", "rich", "shipped"}).Draw(t, "rules")]
		want := rules.Want()
		steps := inOrder(drawSteps(t)) // what comes too late may be forgotten, or not
		var fewer []step
		for i := range steps {
			e := &steps[i].event
			e.Kind = rapid.SampledFrom([]event.Kind{e.Kind, event.Probe, event.Context, event.None}).Draw(t, "kind")
			if rapid.IntRange(0, 5).Draw(t, "nameless") == 0 {
				e.Account = ""
			}
			if e.Closed = false; want(e) { // ends of connections are for Logins alone
				fewer = append(fewer, steps[i])
			} else {
				steps[i].close = false
				unwanted++
			}
		}
		if diff := cmp.Diff(run(detect.New(detect.Options{Rules: rules}), steps), run(detect.New(detect.Options{Rules: rules}), fewer), sameOffences()); diff != "" {
			t.Fatalf("(-all +wanted):\n%s", diff)
		}
	})
	if unwanted == 0 {
		t.Error("all events are wanted")
	}
}

// inOrder are steps in the order of their events' times.
func inOrder(steps []step) []step {
	sorted := slices.Clone(steps)
	slices.SortStableFunc(sorted, func(a, b step) int { return a.event.Time.Compare(b.event.Time) })
	for i := range sorted {
		sorted[i].pos = steps[i].pos
	}
	return sorted
}

// TestOldValuesAreForgotten: what a source did long ago does not count, though nothing else came in between.
func TestOldValuesAreForgotten(t *testing.T) {
	t.Parallel()
	d := detect.New(detect.Options{Rules: rulesOf(t, "version: 1\nrules:\n  - {name: r, service: ssh, group_by: [account], distinct: source, count: 2, contributors: 2, within: 1m, scope: fleet, action: dry-run, for: 1h}")})
	const day = 86_400
	var got []event.Offence
	for i, e := range []event.Event{
		guess("203.0.113.61", "root", 0), guess("203.0.113.61", "root", day), guess("203.0.113.61", "root", 2*day), guess("203.0.113.62", "root", 2*day+1),
	} {
		got = append(got, d.Observe(event.Position{Sequence: uint64(i) + 1}, e, nil)...)
	}
	if len(got) != 1 || got[0].Contributor || !got[0].First.Equal(guess("203.0.113.61", "", 2*day).Time) {
		t.Errorf("%+v", got)
	}
}

func TestWant(t *testing.T) {
	t.Parallel()
	want := detect.DefaultRules().Want()
	for says, c := range map[string]struct {
		change func(*event.Event)
		wanted bool
	}{
		"a guess":                             {func(*event.Event) {}, true},
		"of a service no rule names":          {func(e *event.Event) { e.Service = event.PAM }, true},
		"context with an account":             {func(e *event.Event) { e.Kind = event.Context }, true},
		"context without an account":          {func(e *event.Event) { e.Kind, e.Account = event.Context, "" }, false},
		"context without a source":            {func(e *event.Event) { e.Kind, e.Source = event.Context, netip.Addr{} }, false},
		"a login without anything":            {func(e *event.Event) { *e = event.Event{Kind: event.AuthOK} }, true},
		"nothing":                             {func(e *event.Event) { e.Kind = event.None }, false},
		"a guess of a host that is not named": {func(e *event.Event) { e.Host = "" }, true},
		"a guess without a source":            {func(e *event.Event) { e.Source = netip.Addr{} }, false},
	} {
		e := guess("203.0.113.66", "root", 0)
		c.change(&e)
		if got := want(&e); got != c.wanted {
			t.Errorf("%s: %v", says, got)
		}
	}
	none := detect.Rules{}.Want()
	if e := guess("203.0.113.66", "root", 0); none(&e) {
		t.Error("without rules a guess is wanted")
	}
}

// TestWithoutLogins: with none to remember, and nothing kept of lines, offences are the same but for their logins and proof.
func TestWithoutLogins(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := sorts()[rapid.SampledFrom([]string{"two", "rich"}).Draw(t, "rules")]
		steps := drawSteps(t)
		want := run(detect.New(detect.Options{Rules: rules}), steps)
		d := detect.New(detect.Options{Rules: rules, MaxLogins: -1, MaxText: -1})
		got := run(d, steps)
		for i := range want {
			want[i].Logins, want[i].Proof = nil, nil
		}
		for i := range got {
			if !got[i].Contributor && got[i].Proof != nil || got[i].Logins != nil {
				t.Fatalf("%+v", got[i])
			}
			got[i].Proof = nil
		}
		if diff := cmp.Diff(want, got, sameOffences()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		snapshot, err := d.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := detect.New(detect.Options{Rules: rules, MaxLogins: -1, MaxText: -1}).Restore(snapshot); err != nil {
			t.Fatal(err)
		}
	})
}
