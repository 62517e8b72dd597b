package e2e

import (
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
)

// config writes a configuration file for a process of its own.
func config(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "kokkuri.yaml")
	text = "state_dir: " + dir + "/state\nsocket: " + dir + "/server.sock\n" + text
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestUnknownConfigurationKey(t *testing.T) {
	path := config(t, "server:\n  bus: {listne: [\"127.0.0.1:1\"]}\n")
	for _, command := range [][]string{{"config", "check", path}, {"server", "--config", path}} {
		text, code := kokkuri(t, command...)
		assert.Equal(t, 2, code, text)
		assert.Contains(t, text, path+":4")
		assert.Contains(t, text, "server.bus.listne")
		assert.Contains(t, text, "listen")
	}
}

func TestTakenPort(t *testing.T) {
	path := config(t, `server: {bus: {listen: ["198.51.100.2:12666"]}, syslog: {listen_tcp: [], listen_udp: []}}`)
	text, code := kokkuri(t, "server", "--config", path)
	assert.Equal(t, 1, code, text)
	assert.Contains(t, text, "198.51.100.2:12666")
	assert.Contains(t, text, "address already in use")
}

func TestUnreadableLogIsReported(t *testing.T) {
	// Root reads everything, so the log is one that can't be read at all: a folder.
	_, err := the.Web.Exec(t.Context(), "mkdir", "-p", "/var/log/folder.log")
	require.NoError(t, err)
	text := the.AgentConfig()
	withAgent(t, replaceOnce(t, text, "[/var/log/auth.log]", "[/var/log/auth.log, /var/log/folder.log]"))
	eventually(t, "doctor on web names the log", func() (bool, error) {
		text, _ := the.Web.Shell(t.Context(), "kokkuri-agent status; true")
		return strings.Contains(text, "/var/log/folder.log"), nil
	})
}

func TestExpiredToken(t *testing.T) {
	late, err := the.API().Enroll(t.Context(), api.RoleHost, "late", time.Millisecond)
	require.NoError(t, err)
	eventually(t, "the token's time is over", func() (bool, error) { return time.Now().After(late.ExpiresAt), nil })
	_, err = the.Web.Exec(t.Context(), "kokkuri-agent", "enroll", "--config", "/dev/null", "--state-dir", "/tmp/late",
		"--server", "198.51.100.2:12666", "--token", late.Token)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "expired")
	assert.Contains(t, err.Error(), "kokkuri enroll")
}

func TestGarbageDisturbsNothing(t *testing.T) {
	garbage := make([]byte, 1<<20)
	_, err := rand.Read(garbage)
	require.NoError(t, err)
	for _, port := range []uint16{10514, 12666} {
		for range 5 {
			// The server may close on us before it has all.
			_ = send(t.Context(), netip.MustParseAddr("198.51.100.20"), netip.AddrPortFrom(netip.MustParseAddr("198.51.100.2"), port), garbage)
		}
	}
	from := source(t)
	offend(t, from)
	deflected(t, from)
	pot(t, from)
}
