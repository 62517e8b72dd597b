package e2e

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

// inPot requires that a service's real client, used by the attacker, is in a pot that runs that service.
func inPot(t *testing.T, from netip.Addr, service event.Service) {
	t.Helper()
	account, password := lab.PotLogin(service)
	isReal, err := the.Attacker.Visit(t.Context(), from, service, account, password)
	require.NoError(t, err)
	require.False(t, isReal, "%s: %s is on the real host", service, from)
	account, password = lab.UserLogin(service)
	_, err = the.Attacker.Visit(t.Context(), from, service, account, password)
	require.ErrorIs(t, err, lab.ErrRefused, "the pot does not know the real host's passwords")
}

// onRealService requires that a service's real client, used by somebody else, is on the real host.
func onRealService(t *testing.T, m *lab.Machine, from netip.Addr, service event.Service) {
	t.Helper()
	account, password := lab.UserLogin(service)
	isReal, err := m.Visit(t.Context(), from, service, account, password)
	require.NoError(t, err)
	require.True(t, isReal, "%s: %s is not on the real host", service, from)
}

// Each of web's services, by its real client over IPv4 and IPv6: redirected by hand, the attacker is in the service of
// its pot, the same one for all services, and nobody else is.
func TestEveryServiceIsRedirectedToAPotThatRunsIt(t *testing.T) {
	for _, family := range []struct {
		name        string
		from        netip.Addr
		other, user netip.Addr
	}{
		{"IPv4", source(t), lab.OtherAddr(), lab.UserAddr()},
		{"IPv6", source6(t), lab.OtherAddr6(), lab.UserAddr6()},
	} {
		t.Run(family.name, func(t *testing.T) {
			for _, service := range lab.Services() {
				text, code := kokkuri(t, "redirects", "add", family.from.String(), "--service", string(service), "--host", lab.HostName)
				require.Zero(t, code, text)
				_, err := the.WaitDeflected(t.Context(), family.from, service, soon)
				require.NoError(t, err)
				inPot(t, family.from, service)
				onRealService(t, the.Attacker, family.other, service)
				onRealService(t, the.User, family.user, service)
			}
			sessions, err := the.SessionsOf(t.Context(), family.from)
			require.NoError(t, err)
			met := map[event.Service]string{}
			for _, s := range sessions {
				met[s.Service] = s.PotID
				assert.Positive(t, s.BytesOut, "%s", s.Service)
			}
			pot := potOf(t, family.from)
			for _, service := range lab.Services() {
				assert.Equal(t, pot.ID, met[service], "%s is in the attacker's one pot", service)
			}
			release(t, family.from)
			for _, service := range lab.Services() {
				onRealService(t, the.Attacker, family.from, service)
			}
		})
	}
}
