package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// TestContributorOffendsAgain: an operator releases one of those who guess at one account. The others' redirects stay, and it is
// redirected again when it goes on, also where the server was started again in between.
func TestContributorOffendsAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`version: 1
rules:
  - {name: many, service: ssh, group_by: [account], distinct: source, count: 3, contributors: 2, within: 10m, scope: fleet, action: redirect, for: 1h}
`), 0o600))
	s := newSite(t, func(c *config.Server) { c.Rules = path })
	_, err := bus.Request[event.HostStatus, struct{}](t.Context(), s.host, bus.StatusSubject("web"), event.HostStatus{
		Services: []event.HostPort{{Service: event.SSH, Port: 22}},
	})
	require.NoError(t, err)
	live := func() (sources []string) {
		for _, r := range s.server.decider.Board().Live(nil) {
			sources = append(sources, r.Source.Addr().String())
		}
		return sources
	}
	for _, source := range []string{"203.0.113.61", "203.0.113.62", "203.0.113.63"} {
		s.fail(source, 2)
	}
	s.evaluated()
	require.Eventually(t, func() bool { return len(live()) == 3 }, time.Minute, time.Millisecond)
	released, err := s.api.Release(t.Context(), "203.0.113.62")
	require.NoError(t, err)
	require.Len(t, released, 1)
	s.fail("203.0.113.62", 1)
	s.evaluated()
	require.ElementsMatch(t, []string{"203.0.113.61", "203.0.113.63"}, live(), "it begins anew")
	s.stop()
	s.start()
	s.fail("203.0.113.62", 1)
	s.fail("203.0.113.61", 2)
	s.evaluated()
	require.Eventually(t, func() bool { return len(live()) == 3 }, time.Minute, time.Millisecond)
}

// TestLinesOfANewerAgent: what an older server does not know is left out, and told with what to do; what comes after it counts.
func TestLinesOfANewerAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.host.PublishBatch(t.Context(), event.Batch{
		Host: "web", Road: "telepathy", Origin: "x", ID: "newer", Received: time.Now(), Lines: [][]byte{[]byte("x")},
	}))
	s.fail("192.0.2.66", 5)
	s.evaluated()
	require.Eventually(t, func() bool { return len(s.got()) == 1 }, time.Minute, time.Millisecond)
	st, err := s.api.Status(t.Context())
	require.NoError(t, err)
	var found []string
	for _, f := range st.Findings {
		if f.Subject == "bus" {
			found = append(found, f.Text+"; "+f.Mend)
		}
	}
	require.Len(t, found, 1)
	require.Contains(t, found[0], "1 messages were of a form that this server (test) does not know")
	require.Contains(t, found[0], "update the server")
}
