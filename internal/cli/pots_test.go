package cli_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestPotThatIsGoneIsShownByItsSessions(t *testing.T) {
	t.Parallel()
	b := full()
	id := "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	b.sessions = append(b.sessions, event.Session{
		ID: "s9", Service: event.ServicePot, PotID: id, Attacker: netip.MustParsePrefix("203.0.113.9/32"), Host: "web",
		StartedAt: time.Now(), EndedAt: time.Now(), Reason: "pot removed", Executed: 3,
	})
	w := newWorld(t, b)
	out := w.ok(t, "pots show fedcba987654")
	require.Contains(t, out, "203.0.113.9/32")
	require.Contains(t, out, "gone")
	require.Contains(t, out, "s9       the pot's own")
	var one struct {
		ID       string          `json:"id"`
		Sessions []event.Session `json:"sessions"`
	}
	require.NoError(t, json.Unmarshal([]byte(w.ok(t, "pots show fedcba987654 --json")), &one))
	require.Equal(t, id, one.ID)
	require.Len(t, one.Sessions, 1)
}
