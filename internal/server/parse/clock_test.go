package parse_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestTimesAreReadAsIfByThemselves: what a Parser keeps of the times of earlier lines changes no time.
func TestTimesAreReadAsIfByThemselves(t *testing.T) {
	t.Parallel()
	stamps := rapid.OneOf(
		rapid.SampledFrom([]string{
			"Nov 22 18:00:00", "Nov 22 18:00:01", "Nov 24 18:00:00", "Feb 29 18:00:00", "Nov 22 18:00:00.5", "Nov 22 18:00:60", "Nov  2 18:00:00",
			"2026-11-22T18:00:00Z", "2026-11-22T18:00:00.25Z", "2026-11-22T18:00:00+01:00", "2026-11-22T18:00:00+0100", "2026-11-22t18:00:00.999999999-05:30",
			"2026-11-22T18:00:00+01", "2026-11-22T18:00:00", "2026-11-22T18:00:00.123456+01:000", "1 2026-11-22T18:00:00.25Z", "1 -", "2026-11-22T18:00:60Z",
			"Sun 2026-11-22 18:00:00 CET", "1763834400.25", "[   12.25]", "<38>Nov 22 18:00:00",
		}),
		rapid.StringN(0, 12, -1),
	)
	refs := rapid.SampledFrom([]time.Time{at("2026-11-22T18:00:10Z"), at("2027-01-01T00:00:10Z"), at("2026-11-22T18:00:10Z").In(time.FixedZone("", 3600))})
	rapid.Check(t, func(t *rapid.T) {
		var p parse.Parser
		for range 20 {
			line := []byte(stamps.Draw(t, "stamp") + " web sshd[1]: Failed password for root from 203.0.113.66 port 1 ssh2")
			ref := refs.Draw(t, "ref")
			if diff := cmp.Diff(parse.Line(line, ref), p.Line(line, ref), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Fatalf("%q (-by itself +in a stream):\n%s", line, diff)
			}
		}
	})
}

func TestJournalsShortForms(t *testing.T) {
	t.Parallel()
	const msg = " web sshd[1]: Failed password for root from 203.0.113.66 port 1 ssh2"
	cet := time.FixedZone("CET", 3600)
	ref := at("2026-11-23T00:00:00Z").In(cet)
	for form, stamp := range map[string]string{
		"short":             "Nov 22 19:00:00",
		"short-precise":     "Nov 22 19:00:00.000000",
		"short-iso":         "2026-11-22T19:00:00+0100",
		"short-iso-255":     "2026-11-22T19:00:00+01:00",
		"short-iso-precise": "2026-11-22T19:00:00.000000+01:00",
		"short-full":        "Sun 2026-11-22 19:00:00 CET",
		"short-full-utc":    "Sun 2026-11-22 18:00:00 UTC",
		"short-unix":        "1795370400.000000",
		"short-monotonic":   "[12345.678901]",
		"monotonic-padded":  "[    3.678901]",
	} {
		e := parse.Line([]byte(stamp+msg), ref)
		want := event.Event{
			Service: event.SSH, Kind: event.AuthFailed, Source: netip.MustParseAddr("203.0.113.66"), SourcePort: 1, Account: "root",
			Method: "password", Attempts: 1, Host: "web", Time: at("2026-11-22T18:00:00Z"),
		}
		if strings.Contains(form, "monotonic") {
			want.Time = time.Time{}
		}
		if diff := cmp.Diff(want, e, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", form, diff)
		}
	}
	for _, line := range []string{
		"Sun 2026-11-22 18:00:00 web sshd[1]: x", "Sun 2026-13-22 18:00:00 UTC web a: x", "Sun 2026-11-22 18:00:00 ", "Sun 2026-11-22 18:00:00",
		"1763834400 web a: x", "176383440a.5 web a: x", "1763834400. web a: x", "0763834400.5 web a: x", "[12345] web a: x", "[1.2.3] web a: x", "[.", "[", "1763834400.",
	} {
		if h, ok := parse.Header([]byte(line), ref); ok && h.Tag == "a" {
			t.Errorf("%q has a header: %+v", line, h)
		}
	}
}

// TestAddressesAreThoseOfNetip holds the reading of addresses, which does not allocate, against the library's.
func TestAddressesAreThoseOfNetip(t *testing.T) {
	t.Parallel()
	pieces := rapid.SampledFrom([]string{":", "::", ":", "0", "1", "ffff", "abcd", "12345", "g", ".", "1.2.3.4", "256.1.1.1", "%", "eth0", "2001:db8:1:2", "0001"})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(pieces, 1, 16).Draw(t, "pieces"), "")
		text = text[:min(len(text), 64)] // the longest that is looked at
		var want netip.Addr
		if a, err := netip.ParseAddr(text); err == nil {
			want = event.Canonical(a)
		}
		line := "Nov 22 18:00:00 web sshd[1]: Failed password for root from " + text + " port 1 ssh2"
		if e := parse.Line([]byte(line), at("2026-11-22T18:00:10Z")); e.Source != want {
			t.Fatalf("%q is read as %v, by netip as %v", text, e.Source, want)
		}
	})
}
