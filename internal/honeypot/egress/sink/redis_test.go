package sink_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Redis that is told to follow a rogue master finds one that has nothing, and goes on.
func TestRogueMaster(t *testing.T) {
	s := newSite(t, 1, nil)
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", "--port", "6379", "--unixsocket", socket, "--dir", dir, "--save", "", "--logfile", filepath.Join(dir, "log"))
	require.NoError(t, s.pots[0].Do(cmd.Start))
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	cli := func(args ...string) string {
		out, _ := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-s", socket}, args...)...).CombinedOutput()
		return string(out)
	}
	require.Eventually(t, func() bool { return cli("SET", "a", "b") == "OK\n" }, time.Minute, 20*time.Millisecond)
	require.Equal(t, "OK\n", cli("REPLICAOF", "192.0.2.81", "21000"))
	require.Eventually(t, func() bool { return strings.Contains(cli("INFO", "replication"), "master_link_status:up") }, time.Minute, 20*time.Millisecond)
	assert.Equal(t, "\n", cli("GET", "a"), "it has what its master has: nothing")
	require.Equal(t, "OK\n", cli("REPLICAOF", "NO", "ONE"))
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.told {
			if e.Protocol == "redis" && e.Destination.String() == "192.0.2.81:21000" && strings.Contains(string(e.Data), "PSYNC") {
				return e.What == "connect" && strings.Contains(string(e.Data), "listening-port")
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond)
}
