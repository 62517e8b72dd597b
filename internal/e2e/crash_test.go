package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/lab"
)

func TestAgentKilledAndRestarted(t *testing.T) {
	ctx := t.Context()
	from, from6 := source(t), source6(t)
	offend(t, from)
	offend(t, from6)
	deflected(t, from)
	deflected(t, from6)
	before := withoutTimes(rules(t))

	require.NoError(t, the.KillAgent(ctx))
	// What the dead agent left deflects still, and ends by itself: every element has a time of at most ten minutes.
	pot(t, from)
	for _, element := range append(elements(t, from), elements(t, from6)...) {
		timeout := field(element, "timeout")
		lifetime, err := time.ParseDuration(timeout)
		require.NoError(t, err, element)
		assert.LessOrEqual(t, lifetime, 10*time.Minute, element)
	}
	left := func() time.Duration {
		t.Helper()
		require.Len(t, elements(t, from), 1)
		left, err := time.ParseDuration(field(elements(t, from)[0], "expires"))
		require.NoError(t, err)
		return left
	}
	first := left()
	eventually(t, "it runs out", func() (bool, error) { return left() < first, nil })
	// An offence that happens meanwhile is not lost.
	late := source(t)
	guess(t, late, wrong()...)
	untouched(t, late)

	require.NoError(t, the.StartAgent(ctx))
	deflected(t, late)
	pot(t, late)
	assert.Len(t, elements(t, from), 1)
	assert.Len(t, elements(t, from6), 1)
	assert.Len(t, elements(t, late), 1)
	release(t, late)
	eventually(t, "the rules are as before", func() (bool, error) { return withoutTimes(rules(t)) == before, nil })
}

// withoutTimes takes out of nft's output what moves by itself.
func withoutTimes(text string) string {
	fields := strings.Fields(text)
	kept := fields[:0]
	for i, f := range fields {
		if f == "expires" || i > 0 && fields[i-1] == "expires" {
			continue
		}
		kept = append(kept, strings.TrimSuffix(f, ","))
	}
	return strings.Join(kept, " ")
}

// field is the word after a name.
func field(text, name string) string {
	words := strings.Fields(text)
	for i := range words[:max(0, len(words)-1)] {
		if words[i] == name {
			return words[i+1]
		}
	}
	return ""
}

// Between the log line and the decision, the server is gone. The offence fires once, however often it restarts.
func TestServerKilledBetweenLineAndDecision(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	from := source(t)
	guess(t, from, wrong()[:4]...)
	require.NoError(t, the.Server().Kill(ctx))
	guess(t, from, "foxtrot")
	require.NoError(t, the.StartServer(ctx))
	deflected(t, from)
	pot(t, from)

	require.NoError(t, the.Server().Kill(ctx))
	require.NoError(t, the.StartServer(ctx))
	pipelineDrained(t)
	offences, err := the.OffencesOf(ctx, from)
	require.NoError(t, err)
	assert.Len(t, offences, 1)
	assert.Len(t, elements(t, from), 1)
	pot(t, from)
}

// Killed at once after the fifth line, wherever it is then.
func TestServerKilledWhileDeciding(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	for range 3 {
		from := source6(t)
		_, err := the.Attacker.Guess(ctx, from, "root", wrong()...)
		require.Error(t, err)
		require.NoError(t, the.Server().Kill(ctx))
		require.NoError(t, the.StartServer(ctx))
		deflected(t, from)
		pipelineDrained(t)
		offences, err := the.OffencesOf(ctx, from)
		require.NoError(t, err)
		assert.Len(t, offences, 1)
	}
}

func TestNodeKilledAndRestarted(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	from := source(t)
	offend(t, from)
	deflected(t, from)
	out(t, pot(t, from), "echo kept >/root/note")
	first := potOf(t, from).ID

	require.NoError(t, the.Node().Kill(ctx))
	require.NoError(t, the.StartNode(ctx))
	again := pot(t, from)
	assert.Equal(t, "kept\n", out(t, again, "cat /root/note"))
	assert.Equal(t, first, potOf(t, from).ID)
}

// Told to stop, node and server end soon, also with an attacker inside.
func TestNodeAndServerStopSoon(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	from := source(t)
	offend(t, from)
	deflected(t, from)
	pot(t, from)
	for _, p := range []*lab.Process{the.Node(), the.Server()} {
		began := time.Now()
		require.NoError(t, p.Stop(ctx))
		assert.Less(t, time.Since(began), 8*time.Second)
	}
	require.NoError(t, the.StartServer(ctx))
	require.NoError(t, the.StartNode(ctx))
	comesToPot(t, from)
	require.NoError(t, the.StopAgent(ctx))
	require.NoError(t, the.StartAgent(ctx))
}

func TestPotRestartedIsWiredAgain(t *testing.T) {
	ctx := t.Context()
	from := source(t)
	offend(t, from)
	deflected(t, from)
	out(t, pot(t, from), "echo kept >/root/note")
	require.NoError(t, the.RestartPot(ctx, potOf(t, from).ID))
	assert.Equal(t, "kept\n", out(t, comesToPot(t, from), "cat /root/note"))
}

func TestEngineRestartedLeasesHeal(t *testing.T) {
	ctx := t.Context()
	from := source(t)
	offend(t, from)
	deflected(t, from)
	out(t, pot(t, from), "echo kept >/root/note")
	require.NoError(t, the.RestartEngine(ctx))
	assert.Equal(t, "kept\n", out(t, pot(t, from), "cat /root/note"))

	fresh := source(t)
	offend(t, fresh)
	deflected(t, fresh)
	comesToPot(t, fresh)
}

// Somebody flushes the host's rules: within a second they are back.
func TestFlushedRulesAreMended(t *testing.T) {
	from := source(t)
	offend(t, from)
	deflected(t, from)
	_, err := the.Web.Exec(t.Context(), "nft", "flush", "ruleset")
	require.NoError(t, err)
	flushed := time.Now()
	eventually(t, "the redirect is back", func() (bool, error) {
		text, err := the.Web.Exec(t.Context(), "nft", "list", "ruleset")
		return strings.Contains(text, from.String()), err
	})
	assert.Less(t, time.Since(flushed), time.Second)
	pot(t, from)
}
