package loggen_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/loggen"
)

func write(t *testing.T, o loggen.Options) (string, loggen.Truth) {
	t.Helper()
	var b bytes.Buffer
	truth, err := loggen.Write(&b, o)
	require.NoError(t, err)
	return b.String(), truth
}

// TestTheSameOptionsGiveTheSameLog, and a shorter log is the beginning of a longer one, so that peers can be given less of it.
func TestTheSameOptionsGiveTheSameLog(t *testing.T) {
	t.Parallel()
	for _, stamp := range []loggen.Stamp{loggen.ISO, loggen.RFC3164} {
		a, truth := write(t, loggen.Options{Lines: 5000, Seed: 1, Stamp: stamp})
		b, again := write(t, loggen.Options{Lines: 5000, Seed: 1, Stamp: stamp})
		require.Equal(t, a, b)
		require.Equal(t, truth, again)
		short, less := write(t, loggen.Options{Lines: 1000, Seed: 1, Stamp: stamp})
		require.True(t, strings.HasPrefix(a, short))
		require.Less(t, less.Guesses, truth.Guesses)
		other, _ := write(t, loggen.Options{Lines: 5000, Seed: 2, Stamp: stamp})
		require.NotEqual(t, a, other)
	}
}

// TestTheMixIsAsPromised: a third of the lines are failures, from as many sources as were asked for, and some never offend.
func TestTheMixIsAsPromised(t *testing.T) {
	t.Parallel()
	log, truth := write(t, loggen.Options{Lines: 200_000, OpenSSH: 9})
	assert.Equal(t, 200_000, strings.Count(log, "\n"))
	assert.InDelta(t, 1.0/3, float64(truth.Failures)/float64(truth.Lines), 0.01)
	assert.Equal(t, 2000, truth.Sources)
	assert.Greater(t, len(truth.Offenders), 1000)
	assert.Less(t, len(truth.Offenders), 1700)
	assert.Greater(t, truth.Guesses, truth.Failures-truth.Failures/10)
	for _, what := range []string{
		"message repeated", "Invalid user", "pam_unix(sshd:auth): authentication failure", "error: PAM: ", "[preauth]", "CRON[", "systemd[1]:", "sudo:", "kernel:", "2001:db8:", "Accepted publickey",
	} {
		assert.Contains(t, log, what)
	}
	assert.NotContains(t, log, "sshd-session")
	log, _ = write(t, loggen.Options{Lines: 2000, OpenSSH: 10})
	assert.Contains(t, log, "sshd-session[")
	assert.NotContains(t, log, "sshd[")
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestWriteErrorsAreTold(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	for _, lines := range []int{1, 10_000} {
		_, err := loggen.Write(broken{full}, loggen.Options{Lines: lines})
		require.ErrorIs(t, err, full)
	}
}
