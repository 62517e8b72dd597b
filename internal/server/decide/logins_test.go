package decide

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestLogins(t *testing.T) {
	t.Parallel()
	type step struct {
		at      time.Duration
		kind    event.Kind
		account string
	}
	const day = 24 * time.Hour
	tests := map[string]struct {
		steps  []step
		at     time.Duration
		exempt bool
	}{
		"never seen":                {nil, 0, false},
		"logged in":                 {[]step{{0, event.AuthOK, "ann"}}, day, true},
		"too long ago":              {[]step{{0, event.AuthOK, "ann"}}, 31 * day, false},
		"logged in, then failed":    {[]step{{0, event.AuthOK, "ann"}, {day, event.AuthFailed, "root"}}, day, true},
		"failed, then guessed":      {[]step{{0, event.AuthFailed, "root"}, {time.Second, event.AuthFailed, "ann"}, {2 * time.Second, event.AuthOK, "ann"}}, day, false},
		"mistyped once":             {[]step{{0, event.AuthFailed, "ann"}, {time.Second, event.AuthOK, "ann"}}, day, true},
		"mistyped twice":            {[]step{{0, event.AuthFailed, "ann"}, {1, event.AuthFailed, "ann"}, {2, event.AuthOK, "ann"}}, day, true},
		"three are a guess":         {[]step{{0, event.AuthFailed, "ann"}, {1, event.AuthFailed, "ann"}, {2, event.AuthFailed, "ann"}, {3, event.AuthOK, "ann"}}, day, false},
		"mistyped, gave up, later":  {[]step{{0, event.AuthFailed, "ann"}, {3 * time.Minute, event.AuthOK, "ann"}}, day, false},
		"failure is forgotten":      {[]step{{0, event.AuthFailed, "root"}, {31 * day, event.AuthOK, "ann"}}, 32 * day, true},
		"known, a bad day, goes on": {[]step{{0, event.AuthOK, "ann"}, {day, event.AuthFailed, "ann"}, {day + 1, event.AuthFailed, "bob"}, {2 * day, event.AuthOK, "ann"}, {25 * day, event.AuthOK, "ann"}}, 50 * day, true},
		"unknown, a bad day, later": {[]step{{0, event.AuthFailed, "ann"}, {1, event.AuthFailed, "bob"}, {15 * day, event.AuthOK, "ann"}, {31 * day, event.AuthOK, "ann"}}, 32 * day, true},
		"context is no login":       {[]step{{0, event.Context, "ann"}}, 0, false},
		"colleague after a failure": {[]step{{0, event.AuthFailed, "root"}, {time.Hour, event.AuthOK, "ann"}}, day, false},
	}
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	source := netip.MustParsePrefix("192.0.2.7/32")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLogins(10, 30*day)
			for _, s := range tt.steps {
				l.Observe(source, event.Event{Kind: s.kind, Account: s.account, Host: "web", Time: start.Add(s.at), Attempts: 1})
			}
			_, exempt := l.Exempt(LoginKey{"web", source}, start.Add(tt.at), 30*day)
			require.Equal(t, tt.exempt, exempt)
			_, other := l.Exempt(LoginKey{"db", source}, start.Add(tt.at), 30*day)
			require.False(t, other, "another host")
		})
	}
}

func TestLoginsSurviveAFloodAndARestart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	l := NewLogins(100, 30*24*time.Hour)
	friend := netip.MustParsePrefix("192.0.2.7/32")
	l.Observe(friend, event.Event{Kind: event.AuthOK, Account: "ann", Host: "web", Time: now})
	for i := range 1000 {
		p := netip.MustParsePrefix(fmt.Sprintf("10.0.%d.%d/32", i/250, i%250))
		l.Observe(p, event.Event{Kind: event.AuthFailed, Account: "root", Host: "web", Time: now, Attempts: 1})
	}
	_, exempt := l.Exempt(LoginKey{"web", friend}, now, time.Hour)
	require.True(t, exempt, "a flood of failing sources must not displace who logged in")
	require.Equal(t, int64(900), l.Evicted())

	put, gone := l.Changed()
	require.Len(t, put, 101)
	require.Len(t, gone, 900)
	again := NewLogins(100, 30*24*time.Hour)
	for _, r := range put {
		again.Load(r)
	}
	_, exempt = again.Exempt(LoginKey{"web", friend}, now, time.Hour)
	require.True(t, exempt)
	put, gone = l.Changed()
	require.Empty(t, put)
	require.Empty(t, gone)
}
