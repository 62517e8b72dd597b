package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/agent/collect"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/native"
)

func TestJournalIsFollowedWhereNoFileIs(t *testing.T) {
	t.Parallel()
	dir, journal := t.TempDir(), t.TempDir()
	there := filepath.Join(dir, "auth.log")
	require.NoError(t, os.WriteFile(there, nil, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(journal, "id"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(journal, "id", "system.journal"), nil, 0o600))
	for name, test := range map[string]struct {
		follow, file, dir string
		journal           bool
		files             int
	}{
		"auto, a file":              {"auto", there, journal, false, 1},
		"auto, no file":             {"auto", there + ".1", journal, true, 0},
		"auto, no file, no journal": {"auto", there + ".1", dir, false, 1},
		"on, a file":                {"on", there, journal, true, 1},
		"off, no file":              {"off", there + ".1", journal, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c config.Agent
			c.Files = []string{test.file}
			c.Journal = config.JournalSource{Follow: test.follow, Directory: test.dir, Identifiers: []string{"sshd"}}
			o := sources(c)
			require.Equal(t, test.journal, o.Journal != nil)
			require.Len(t, o.Files, test.files)
		})
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	var c config.Agent
	c.Docker = "/run/docker.sock"
	c.Logs = []config.LogSource{{Path: "/var/log/game.log", Program: "game"}}
	c.Containers = []config.LogContainer{{Name: "web", Program: "sshd"}}
	c.Redis = []config.RedisSource{{Address: "127.0.0.1:6379", Username: "u", PasswordFile: "/p", TLS: true, CAFile: "/c"}}
	o := sources(c)
	require.Equal(t, "game", o.Logs[0].Format.App)
	require.Equal(t, "/var/log/game.log", o.Logs[0].Path)
	require.Equal(t, "sshd", o.Containers[0].Format.App)
	require.Equal(t, "/run/docker.sock", o.DockerSocket)
	require.Equal(t, []collect.Redis{{Address: "127.0.0.1:6379", Username: "u", PasswordFile: "/p", TLS: true, CAFile: "/c"}}, o.Redis)
}

// TestDiscover: every log at a usual place is found, by a format that is known.
func TestDiscover(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, usual := range usualLogs() {
		path := filepath.Join(root, usual[0])
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, nil, 0o600)) // where it is a pattern, the file of that very name matches
		_, ok := native.Find(usual[1])
		require.True(t, ok, usual[1])
	}
	require.Len(t, discover(root), len(usualLogs()))
}
