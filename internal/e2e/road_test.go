package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/lab"
)

// The same by a stock rsyslog with the snippet that is shipped, over TCP.
func TestLogComesByRsyslog(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() { assert.NoError(t, the.SetRoad(ctx, lab.RoadAgent)) })
	require.NoError(t, the.SetRoad(ctx, lab.RoadRsyslog))
	from := source(t)
	guess(t, from, wrong()[:4]...)
	pipelineDrained(t)
	untouched(t, from)
	_, err := the.Attacker.Guess(ctx, from, "admin", "foxtrot")
	require.Error(t, err)
	deflected(t, from)
	pot(t, from)
	onRealHost(t, the.User, lab.UserAddr())

	// What is logged while the server is away comes when it is back, once.
	late := source(t)
	require.NoError(t, the.Server().Kill(ctx))
	guess(t, late, wrong()...)
	require.NoError(t, the.StartServer(ctx))
	deflected(t, late)
	pipelineDrained(t)
	offences, err := the.OffencesOf(ctx, late)
	require.NoError(t, err)
	require.Len(t, offences, 1)
	assert.Equal(t, 5, offences[0].Count)
}
