package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/lab"
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
	for _, taken := range []struct{ key, port, config string }{
		{"server.bus.listen", "12666", `server: {bus: {listen: "198.51.100.2:12666"}, syslog: {listen_tcp: [], listen_udp: [], listen_tls: []}}`},
		{"server.syslog.listen_tcp", "10514", `server: {bus: {listen: "198.51.100.2:12667"}, syslog: {listen_tcp: ["198.51.100.2:10514"], listen_udp: [], listen_tls: []}}`},
		{"server.syslog.listen_udp", "10514", `server: {bus: {listen: "198.51.100.2:12667"}, syslog: {listen_tcp: [], listen_udp: ["198.51.100.2:10514"], listen_tls: []}}`},
		{"server.syslog.listen_tls", "10515", `server: {bus: {listen: "198.51.100.2:12667"}, syslog: {listen_tcp: [], listen_udp: [], listen_tls: ["198.51.100.2:10515"]}}`},
	} {
		text, code := kokkuri(t, "server", "--config", config(t, taken.config))
		assert.Equal(t, 1, code, text)
		assert.Contains(t, text, "198.51.100.2", taken.key)
		assert.Contains(t, text, taken.port, taken.key)
		assert.Contains(t, text, "already in use", taken.key)
		assert.Contains(t, text, taken.key)
	}
}

func TestEngineThatIsDownIsReported(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	from := source(t)
	offend(t, from)
	deflected(t, from)
	pot(t, from)
	engine, err := the.StopEngine(ctx)
	require.NoError(t, err)
	start := sync.OnceFunc(func() { require.NoError(t, engine.Start(ctx)) })
	t.Cleanup(start)
	eventually(t, "the node says that its engine is down", func() (bool, error) {
		text, code := kokkuri(t, "nodes", "show", lab.NodeName)
		return code == 0 && strings.Contains(text, "docker.sock") && strings.Contains(text, "systemctl start docker"), errors.New(text)
	})
	text, code := kokkuri(t, "lab", "up")
	assert.Equal(t, 1, code, text)
	assert.Contains(t, text, "no Docker engine answers")
	assert.Contains(t, text, "scripts/deps.sh")
	start()
	eventually(t, "the node says so no more", func() (bool, error) {
		text, code := kokkuri(t, "nodes", "show", lab.NodeName)
		return code == 0 && !strings.Contains(text, "docker.sock"), errors.New(text)
	})
	comesToPot(t, from)
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
	late, err := the.API().Enroll(t.Context(), api.RoleHost, "late", time.Second)
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
