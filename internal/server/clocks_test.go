package server

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const hour, minute = time.Hour, time.Minute

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at
}

// TestClocksOfHosts: a host writes one line a minute for a while; what its clock shows, and how late the line comes, change.
func TestClocksOfHosts(t *testing.T) {
	t.Parallel()
	type phase struct {
		minutes int           // how long
		ahead   time.Duration // what the host's times say beyond the truth
		late    time.Duration // how long a line waits
	}
	for name, c := range map[string]struct {
		phases []phase
		// wrong is what the last line's time is off by after it was mended; received: it is the time at which it came.
		wrong    time.Duration
		received bool
	}{
		"right":                               {phases: []phase{{30, 0, time.Second}}},
		"right, and lines wait":               {phases: []phase{{30, 0, 90 * time.Second}}},
		"a zone to the east":                  {phases: []phase{{5, 2 * hour, time.Second}}},
		"a zone to the east, the first line":  {phases: []phase{{1, 2 * hour, time.Second}}, received: true},
		"a zone to the west":                  {phases: []phase{{15, -5 * hour, time.Second}}},
		"a zone to the west, at first":        {phases: []phase{{8, -5 * hour, time.Second}}, wrong: -5 * hour},
		"a zone with half an hour":            {phases: []phase{{15, -3*hour - 30*minute, 20 * time.Second}}},
		"Nepal":                               {phases: []phase{{5, 5*hour + 45*minute, time.Second}}},
		"Kiribati":                            {phases: []phase{{5, 14 * hour, time.Second}}},
		"summer begins":                       {phases: []phase{{20, hour, time.Second}, {5, 2 * hour, time.Second}}},
		"summer ends":                         {phases: []phase{{20, 2 * hour, time.Second}, {15, hour, time.Second}}},
		"a clock that is 37 minutes fast":     {phases: []phase{{10, 37 * minute, time.Second}}},
		"a clock that is 37 minutes slow":     {phases: []phase{{15, -37 * minute, time.Second}}},
		"a clock is set right":                {phases: []phase{{15, -37 * minute, time.Second}, {10, 0, time.Second}}},
		"a clock that is a minute fast":       {phases: []phase{{15, minute, time.Second}}, wrong: minute},
		"a clock that is three days fast":     {phases: []phase{{15, 72 * hour, time.Second}}, received: true},
		"a clock that is three weeks slow":    {phases: []phase{{15, -21 * 24 * hour, time.Second}}, received: true},
		"lines waited an hour, once":          {phases: []phase{{20, 0, time.Second}, {1, 0, hour}}},
		"lines wait less and less":            {phases: []phase{{20, 0, time.Second}, {9, 0, 2 * hour}, {1, 0, time.Second}}},
		"a zone to the west, and lines wait":  {phases: []phase{{20, -5 * hour, time.Second}, {5, -5 * hour, 30 * minute}}},
		"a zone to the east, and a long wait": {phases: []phase{{5, 2 * hour, time.Second}, {3, 2 * hour, 3 * hour}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cl clocks
			k := clockKey{"web", event.RoadSyslogTCP, true}
			now := instant(t, "2026-11-22T18:00:00Z")
			var got, truth time.Time
			for _, p := range c.phases {
				for range p.minutes {
					now = now.Add(minute)
					truth = now.Add(-p.late)
					stated := truth.Add(p.ahead)
					got = corrected(stated, cl.offset(k), now)
					cl.learn(k, stated, now)
				}
			}
			want := truth.Add(c.wrong)
			if c.received {
				want = now
			}
			// A slow clock is known but for the time that its lines wait.
			require.InDelta(t, 0, got.Sub(want).Seconds(), 2, "got %s, want %s", got, want)
		})
	}
}

// TestClocksNeverInvent: however long the lines of a right clock wait, it is never taken for a wrong one as long as some come
// at once, and none is dated after it came.
func TestClocksNeverInvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var cl clocks
		k := clockKey{"web", event.RoadAgent, false}
		now := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
		for _, late := range rapid.SliceOf(rapid.IntRange(0, 7200)).Draw(t, "seconds") {
			now = now.Add(time.Minute)
			truth := now.Add(-time.Duration(late) * time.Second)
			got := corrected(truth, cl.offset(k), now)
			if got.After(now.Add(5 * time.Minute)) {
				t.Fatalf("%s is after it came at %s", got, now)
			}
			cl.learn(k, truth, now)
			cl.learn(k, now, now) // one that did not wait
			if cl.by[k].Offset != 0 {
				t.Fatalf("a right clock is taken for %s off", cl.by[k].Offset)
			}
		}
	})
}

func TestClocksAreBoundedAndKept(t *testing.T) {
	t.Parallel()
	var cl clocks
	now := instant(t, "2026-11-22T18:00:00Z")
	k := clockKey{"web", event.RoadSyslogTCP, true}
	for range 5 {
		now = now.Add(minute)
		cl.learn(k, now.Add(2*hour), now)
	}
	var again clocks
	again.restore(cl.snapshot())
	require.Equal(t, now, corrected(now.Add(2*hour), again.offset(k), now), "what was learnt outlives a restart")
	require.Equal(t, now, corrected(time.Time{}, cl.offset(k), now), "a line without a time is dated by its coming")
	require.Len(t, cl.off(), 1)
	for i := range maxClocks + 10 {
		cl.learn(clockKey{strconv.Itoa(i), event.RoadFile, false}, now, now)
	}
	require.Len(t, cl.by, maxClocks)
	require.True(t, cl.full)
}

// TestTimesOverNewYear reads lines without year and zone as they come, over new year, leap days and the changes of summer time.
func TestTimesOverNewYear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stamp, received string
		offset          time.Duration // of the host, known from before
		want            string
	}{
		"the same moment":                            {"Nov 22 18:00:00", "2026-11-22T18:00:01Z", 0, "2026-11-22T18:00:00Z"},
		"new year passed":                            {"Dec 31 23:59:59", "2027-01-01T00:00:01Z", 0, "2026-12-31T23:59:59Z"},
		"new year, and the line waited":              {"Dec 31 22:00:00", "2027-01-01T06:00:00Z", 0, "2026-12-31T22:00:00Z"},
		"a clock a little ahead over new year":       {"Jan  1 00:00:02", "2026-12-31T23:59:58Z", 0, "2027-01-01T00:00:02Z"},
		"a zone to the east has new year first":      {"Jan  1 02:00:00", "2026-12-31T12:00:00Z", 14 * hour, "2026-12-31T12:00:00Z"},
		"a zone to the west has it last":             {"Dec 31 18:00:00", "2027-01-01T06:00:00Z", -12 * hour, "2027-01-01T06:00:00Z"},
		"a leap day":                                 {"Feb 29 12:00:00", "2028-02-29T12:00:01Z", 0, "2028-02-29T12:00:00Z"},
		"a leap day, the day after":                  {"Feb 29 23:59:59", "2028-03-01T00:00:01Z", 0, "2028-02-29T23:59:59Z"},
		"a leap day in a year that has none":         {"Feb 29 12:00:00", "2027-03-01T12:00:00Z", 0, "2027-03-01T12:00:00Z"},
		"the hour that comes twice, the first time":  {"Oct 25 02:30:00", "2026-10-25T00:30:01Z", 2 * hour, "2026-10-25T00:30:00Z"},
		"the hour that comes twice, the second time": {"Oct 25 02:30:00", "2026-10-25T01:30:01Z", hour, "2026-10-25T01:30:00Z"},
		"half a year old: the clock must be wrong":   {"May 22 18:00:00", "2026-11-22T18:00:00Z", 0, "2026-11-22T18:00:00Z"},
		"a day ahead: the clock must be wrong":       {"Nov 23 18:00:00", "2026-11-22T18:00:00Z", 0, "2026-11-22T18:00:00Z"},
		"a clock that starts in 1970":                {"Jan  1 00:00:07", "2026-11-22T18:00:00Z", 0, "2026-11-22T18:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p parse.Parser
			received := instant(t, c.received)
			e, n := p.Read([]byte(c.stamp+" web sshd[1]: Failed password for root from 203.0.113.66 port 1 ssh2"), received)
			require.True(t, n.Local)
			k := clockKey{"web", event.RoadSyslogTCP, true}
			cl := clocks{by: map[clockKey]*hostClock{k: {Offset: c.offset}}}
			require.Equal(t, instant(t, c.want), corrected(e.Time, cl.offset(k), received))
		})
	}
	var p parse.Parser
	for _, stamp := range []string{"2026-10-25T02:30:00.123456+02:00", "2026-10-25T01:30:00.123456+01:00", "2026-10-25T00:30:00.123456Z"} {
		e, n := p.Read([]byte(stamp+" web sshd[1]: Failed password for root from 203.0.113.66 port 1 ssh2"), time.Time{})
		require.False(t, n.Local)
		require.Equal(t, instant(t, "2026-10-25T00:30:00Z").Add(123456*time.Microsecond), e.Time, stamp)
	}
}
