package pool_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// A pot sees its attacker come from where the attacker is.
func TestPotSeesItsAttackersAddress(t *testing.T) {
	f := newFixture(t, "")
	p, _ := f.pots(t)
	for attacker, want := range map[string]string{
		"203.0.113.66/32":       "203.0.113.66",
		"2001:db8:1:66::66/128": "2001:db8:1:66::66",
		"2001:db8:1:67::/64":    "2001:db8:1:67::1",
		"172.31.0.77/32":        "172.31.0.1", // an address of the pots' own network
	} {
		l := leaseOf(1)
		l.Attacker = netip.MustParsePrefix(attacker)
		conn, pot, err := dial(t.Context(), p, l)
		require.NoError(t, err, attacker)
		out, err := pottest.InPot(t, pot.ID, "ss -Htn state established '( sport = :22 )'")
		require.NoError(t, err, out)
		assert.Contains(t, out, want, attacker)
		require.NoError(t, conn.Close())
	}
}
