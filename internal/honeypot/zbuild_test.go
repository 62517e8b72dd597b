package honeypot_test

import (
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/stretchr/testify/require"
	"testing"
)

func TestZBuild(t *testing.T) {
	d, err := engine.New(engine.Options{})
	require.NoError(t, err)
	for _, s := range []string{"bullseye"} {
		require.NoError(t, honeypot.BuildSuite(t.Context(), d, s, t.Output()))
	}
}
