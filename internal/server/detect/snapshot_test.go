package detect_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// step is an event of a random stream.
type step struct {
	pos   event.Position
	event event.Event
	close bool // the newest open offence is closed after it
}

func drawSteps(t *rapid.T) []step {
	n := rapid.IntRange(1, 120).Draw(t, "events")
	now := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	pos := event.Position{Sequence: 1}
	var steps []step
	for range n {
		now = now.Add(time.Duration(rapid.IntRange(-20, 60).Draw(t, "seconds")) * time.Second)
		if rapid.IntRange(0, 3).Draw(t, "batch") == 0 {
			pos = event.Position{Sequence: pos.Sequence + 1}
		} else {
			pos.Index++
		}
		e := event.Event{
			Service: event.SSH, Kind: event.AuthFailed, Method: "password", Attempts: rapid.IntRange(1, 3).Draw(t, "attempts"),
			Source:     netip.MustParseAddr(rapid.SampledFrom([]string{"203.0.113.66", "203.0.113.67", "2001:db8::1", "2001:db8::2"}).Draw(t, "source")),
			SourcePort: uint16(rapid.IntRange(1, 3).Draw(t, "port")),
			Account:    rapid.SampledFrom([]string{"root", "admin", "\xff\x00\"", ""}).Draw(t, "account"),
			Host:       rapid.SampledFrom([]string{"web", "mail"}).Draw(t, "host"), Time: now,
		}
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			e.Kind, e.Attempts = event.AuthOK, 0
		case 1:
			e.Kind, e.Attempts, e.Closed = event.Context, 0, true
		}
		steps = append(steps, step{pos, e, rapid.IntRange(0, 15).Draw(t, "close") == 0})
	}
	return steps
}

func run(d *detect.Detector, steps []step) []event.Offence {
	var out []event.Offence
	for _, s := range steps {
		out = append(out, d.Observe(s.pos, s.event, fmt.Appendf(nil, "line %s", s.pos))...)
		if open := d.Open(); s.close && len(open) > 0 {
			d.Close(open[len(open)-1].ID)
		}
	}
	return out
}

func sameOffences() cmp.Options {
	return cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})}
}

// TestRestartForgetsNothing: cut anywhere, snapshot, restore, read on (even from some way before the cut): the offences
// are those of an unbroken run, none twice.
func TestRestartForgetsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		opts := detect.Options{
			Rules: sorts()[rapid.SampledFrom([]string{"two", "rich"}).Draw(t, "rules")], MaxGroups: rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "groups"),
			MaxOpen: rapid.SampledFrom([]int{0, 1}).Draw(t, "open"), MaxLogins: rapid.SampledFrom([]int{0, 2}).Draw(t, "logins"),
			MaxBytes: rapid.SampledFrom([]int64{0, 2000}).Draw(t, "bytes"),
		}
		steps := drawSteps(t)
		cut := rapid.IntRange(0, len(steps)).Draw(t, "cut")
		again := rapid.IntRange(0, cut).Draw(t, "read again")
		whole := detect.New(opts)
		want := run(whole, steps)

		before := detect.New(opts)
		got := run(before, steps[:cut])
		snapshot, err := before.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		after := detect.New(opts)
		if err := after.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		if second, err := after.Snapshot(); err != nil || !bytes.Equal(snapshot, second) {
			t.Fatalf("a restored detector's snapshot differs (%v)", err)
		}
		if cut > 0 && after.Position() != steps[cut-1].pos {
			t.Fatalf("restored at %s", after.Position())
		}
		seen := slices.Clone(steps[cut-again : cut])
		for i := range seen {
			seen[i].close = false
		}
		if twice := run(after, seen); len(twice) > 0 {
			t.Fatalf("fired twice: %+v", twice)
		}
		got = append(got, run(after, steps[cut:])...)
		if diff := cmp.Diff(want, got, sameOffences()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestAgainstTheDefinition holds the detector against the definition of a rule, worked out from all events
// so far, for events in the order of their times.
func TestAgainstTheDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		steps := drawSteps(t)
		slices.SortStableFunc(steps, func(a, b step) int { return a.event.Time.Compare(b.event.Time) })
		rule := twoRules().Rules[0]
		rule.For = []time.Duration{time.Duration(rapid.IntRange(1, 600).Draw(t, "for")) * time.Second}
		rule.Within = time.Duration(rapid.IntRange(1, 300).Draw(t, "within")) * time.Second
		rule.Count = rapid.IntRange(1, 12).Draw(t, "count")
		d := detect.New(detect.Options{Rules: detect.Rules{Rules: []detect.Rule{rule}}})
		type key struct {
			source netip.Prefix
			host   string
		}
		counting, openUntil := map[key][]event.Event{}, map[key]time.Time{}
		for i, s := range steps {
			got := d.Observe(event.Position{Sequence: uint64(i + 1)}, s.event, nil)
			if s.event.Kind != event.AuthFailed {
				continue
			}
			k := key{event.SourcePrefix(s.event.Source, 64), s.event.Host}
			if s.event.Time.Before(openUntil[k]) {
				if len(got) > 0 {
					t.Fatalf("event %d fired while its offence was open", i)
				}
				continue
			}
			counting[k] = append(counting[k], s.event)
			sum := 0
			for _, e := range counting[k] {
				if s.event.Time.Sub(e.Time) <= rule.Within {
					sum += e.Attempts
				}
			}
			if fires := sum >= rule.Count; fires != (len(got) == 1) || fires && (got[0].Count != sum || !got[0].Last.Equal(s.event.Time)) {
				t.Fatalf("event %d: %d guesses within %s of %d, got %+v", i, sum, rule.Within, rule.Count, got)
			} else if fires {
				delete(counting, k)
				openUntil[k] = s.event.Time.Add(rule.For[0])
			}
		}
	})
}

func TestRestoreWithOtherRules(t *testing.T) {
	t.Parallel()
	rules := twoRules()
	d := detect.New(detect.Options{Rules: rules})
	for i := range uint64(4) {
		d.Observe(event.Position{Sequence: i + 1}, guess("203.0.113.66", "root", float64(i)), []byte("x"))
	}
	snapshot, err := d.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(r *detect.Rule)
		fires  bool
		groups int
	}{
		{"the same", func(*detect.Rule) {}, true, 1},
		{"a longer window", func(r *detect.Rule) { r.Within *= 2 }, true, 1},
		{"a greater count", func(r *detect.Rule) { r.Count = 6 }, false, 2},
		{"another name", func(r *detect.Rule) { r.Name = "other" }, false, 2},
		{"grouped otherwise", func(r *detect.Rule) { r.IPv6Prefix = 128 }, false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			changed := detect.Rules{Rules: slices.Clone(rules.Rules)}
			c.change(&changed.Rules[0])
			d := detect.New(detect.Options{Rules: changed})
			if err := d.Restore(snapshot); err != nil {
				t.Fatal(err)
			}
			fired := d.Observe(event.Position{Sequence: 5}, guess("203.0.113.66", "admin", 5), []byte("x"))
			if (len(fired) == 1) != c.fires {
				t.Errorf("fired %+v", fired)
			}
			if s := d.Stats(); s.Groups-1 != c.groups { // one more: admin's
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	d := detect.New(detect.Options{Rules: twoRules()})
	d.Observe(event.Position{Sequence: 1}, guess("203.0.113.66", "root", 0), []byte("x"))
	good, err := d.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		damaged := slices.Clone(good)
		damaged[i] ^= 0x10
		if err := d.Restore(damaged); !errors.Is(err, detect.ErrSnapshot) {
			t.Errorf("byte %d: %v", i, err)
		}
		if err := d.Restore(good[:i]); !errors.Is(err, detect.ErrSnapshot) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if s := d.Stats(); s.Groups != 2 {
		t.Errorf("a damaged snapshot changed the detector: %+v", s)
	}
}

func FuzzRestore(f *testing.F) {
	d := detect.New(detect.Options{Rules: twoRules()})
	for i := range uint64(7) {
		d.Observe(event.Position{Sequence: i + 1}, guess("203.0.113.66", strconv.FormatUint(i%2, 10), float64(i)), []byte("x"))
	}
	ok := guess("2001:db8::1", "alice", 9)
	ok.Kind = event.AuthOK
	d.Observe(event.Position{Sequence: 9}, ok, nil)
	good, err := d.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-4])
	rules := twoRules()
	f.Fuzz(func(t *testing.T, body []byte) {
		d := detect.New(detect.Options{Rules: rules, MaxGroups: 10})
		if err := d.Restore(detect.WithChecksum(body)); err != nil {
			return
		}
		d.Observe(event.Position{Sequence: 10}, guess("203.0.113.66", "root", 10), []byte("x"))
		if _, err := d.Snapshot(); err != nil {
			t.Error(err)
		}
	})
}
