package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// TestTrustedUDPRedirects: lines by UDP redirect somebody where an operator vouched for the network they come from, and only there.
func TestTrustedUDPRedirects(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Server) { c.Syslog.TrustUDP = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")} })
	for i, origin := range []string{"203.0.113.99", "203.0.113.10"} {
		b := event.Batch{Host: "web", Road: event.RoadSyslogUDP, Origin: origin, Received: time.Now(), ID: origin}
		for n := range 5 {
			b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web sshd[%d]: Failed password for root from 198.51.100.%d port %d ssh2", time.Now().Format(time.RFC3339), n, 70+i, 4000+n))
		}
		require.NoError(t, s.server.conn.PublishBatch(t.Context(), b))
	}
	s.evaluated()
	live := s.server.decider.Board().Live(nil)
	require.Len(t, live, 1)
	require.Equal(t, "198.51.100.71/32", live[0].Source.String())
}

// TestWhatTheDetectorForgotIsTold, and more urgently where it may have been somebody.
func TestWhatTheDetectorForgotIsTold(t *testing.T) {
	t.Parallel()
	require.Empty(t, detectFindings(map[string]int64{}))
	found := detectFindings(map[string]int64{"groups_evicted": 7})
	require.Len(t, found, 1)
	require.Equal(t, "warning", found[0].Level)
	require.Contains(t, found[0].Text, "7 were forgotten")
	found = detectFindings(map[string]int64{"groups_evicted": 7, "heavy_groups_evicted": 2, "conditions_unanswered": 3})
	require.Len(t, found, 2)
	require.Equal(t, "error", found[0].Level)
	require.Contains(t, found[0].Text, "2 of them with several failures")
	require.Contains(t, found[1].Text, "3 times")
}
