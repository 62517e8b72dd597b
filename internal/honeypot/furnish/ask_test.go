package furnish_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatAPotIsAskedToRun(t *testing.T) {
	dir, pot := system(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "run/systemd"), 0o755))
	file := filepath.Join(dir, "run/systemd/asked")
	// What a pot's first process does, in a folder that is not its root.
	first := func() error {
		line := strings.ReplaceAll(read(t, file), "/run/systemd", dir+"/run/systemd")
		return exec.CommandContext(t.Context(), "sh", "-c", line).Start()
	}
	require.NoError(t, pot.Ask(t.Context(), "true", first))
	require.ErrorContains(t, pot.Ask(t.Context(), "(exit 7)", first), "it ended with \"7\"")
	assert.NoFileExists(t, file)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, pot.Ask(ctx, "true", func() error { return nil }), context.DeadlineExceeded)

	// Its attacker has put something else there, or says what it likes.
	require.ErrorContains(t, pot.Ask(t.Context(), "true", func() error { return os.WriteFile(file, []byte("\x1b[2J"+strings.Repeat("x", 1000)), 0o600) }), `"\x1b[2Jxxxxxxxxxxxxxxxx"`)
	require.Error(t, pot.Ask(t.Context(), "true", func() error { return os.Remove(file) }))
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("untouched"), 0o600))
	require.NoError(t, os.Symlink(victim, file))
	require.Error(t, pot.Ask(t.Context(), "true", func() error { return nil }))
	assert.Equal(t, "untouched", read(t, victim))
}
