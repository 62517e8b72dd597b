package roadtest

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/agent/collect"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestGuessesAtRedis: what redis-cli guesses is what the server counts, guess by guess, although Redis folds guesses and its log
// says nothing of them.
func TestGuessesAtRedis(t *testing.T) {
	t.Parallel()
	port := strconv.Itoa(15_000 + rand.IntN(5000))
	server := exec.CommandContext(context.WithoutCancel(t.Context()), "redis-server", "--port", port, "--save", "", "--dir", t.TempDir())
	require.NoError(t, server.Start(), "redis-server is needed: apt-get install redis-server")
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	cli := func(args ...string) string {
		out, _ := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-p", port}, args...)...).CombinedOutput()
		return string(out)
	}
	require.Eventually(t, func() bool { return cli("PING") == "PONG\n" }, time.Minute, 10*time.Millisecond)
	s := &stream{}
	collectInto(t, s, collect.Options{Redis: []collect.Redis{{Address: "127.0.0.1:" + port}}})
	const guesses = 30
	for i := range guesses {
		require.Contains(t, cli("AUTH", "root", "guess"+strconv.Itoa(i)), "WRONGPASS")
	}
	counted := func() (all, sure int) {
		for _, line := range s.with("redis-server") {
			e := parse.Line(line, time.Now())
			if e.Kind != event.AuthFailed || e.Service != event.Redis || e.Account != "root" {
				continue
			}
			all += e.Attempts
			if e.Source.IsValid() {
				sure += e.Attempts
			}
		}
		return all, sure
	}
	require.Eventually(t, func() bool { all, _ := counted(); return all >= guesses }, time.Minute, 20*time.Millisecond)
	all, sure := counted()
	require.Equal(t, guesses, all)
	require.Positive(t, sure)
}
