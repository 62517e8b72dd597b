package front_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

// potServer is a pot's server: the accounts that have the pot's own password.
type potServer struct{ own, made []string }

// Admit implements front.PotAccounts.
func (s *potServer) Admit(account string) error {
	s.own, s.made = append(s.own, account), append(s.made, account)
	return nil
}

// Refuses implements front.PotAccounts.
func (s *potServer) Refuses(account string) bool { return !slices.Contains(s.own, account) }

// Whose password the attacker changed inside keeps it, also when the node begins anew; in a new pot it has to be made again.
func TestAccountsAreRememberedOverRestarts(t *testing.T) {
	dir := t.TempDir()
	var policy *credential.Policy
	var accounts *front.Accounts
	begin := func() {
		var err error
		if policy != nil {
			require.NoError(t, policy.Close())
		}
		policy, err = credential.Open(credential.Options{Dir: dir, Least: 1, Most: 1, Hash: func(string) (string, error) { return "x", nil }})
		require.NoError(t, err)
		accounts = &front.Accounts{}
	}
	begin()
	t.Cleanup(func() { require.NoError(t, policy.Close()) })
	k := event.PotKey{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
	server := &potServer{}
	guess := func(pot, password string) bool {
		g := front.Guard{Policy: policy.At(event.Postgres), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		v := &front.Visit{Lease: event.Lease{Attacker: k.Attacker, Host: k.Host}}
		return g.Accepts(t.Context(), v, fronttest.Stay{ID: pot}, accounts, server, "admin", password)
	}
	require.False(t, guess("one", "wrong"))
	require.True(t, guess("one", "right"))
	require.Equal(t, []string{"admin"}, server.made)
	begin()
	require.True(t, guess("one", "right"))
	assert.Equal(t, []string{"admin"}, server.made, "once")
	require.False(t, guess("one", "wrong"))
	assert.False(t, accounts.Left(k, "one"), "it has the pot's own password")

	server.own = nil // changed
	begin()
	require.False(t, guess("one", "changed"))
	assert.True(t, accounts.Left(k, "one"), "the next is for the server to decide")
	assert.Equal(t, []string{"admin"}, server.made, "and nobody sets it anew")

	begin()
	require.True(t, guess("two", "right"))
	assert.Equal(t, []string{"admin", "admin"}, server.made, "another pot has no such account")
}
