package fronttest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
)

// Hashed is what is kept of any password of people who may be honest.
const Hashed = "$6$hash"

// Hash is how they are kept.
func Hash(string) (string, error) { return Hashed, nil }

// Policy accepts the second distinct guess.
func Policy(t testing.TB, s event.Service) credential.Service {
	t.Helper()
	p, err := credential.Open(credential.Options{Dir: t.TempDir(), Least: 1, Most: 1, Hash: Hash})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p.At(s)
}
