package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestSecretIsThePasswordWhereThatIsKnown(t *testing.T) {
	for want, l := range map[event.Bytes]event.Login{
		"password": {Password: "password"}, "told": {Password: "told", Response: "$mysqlna$response"}, "$mysqlna$response": {Response: "$mysqlna$response"},
		"$argon2id$": {Hash: "$argon2id$"}, "": {},
	} {
		require.Equal(t, want, l.Secret())
	}
}
