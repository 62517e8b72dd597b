package tail

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPatternAt(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 7, 4, 5, 6, 0, time.UTC)
	for _, c := range []struct{ pattern, want string }{
		{"/var/log/auth.log", "/var/log/auth.log"},
		{"/var/log/auth-%Y-%m-%d.log", "/var/log/auth-2026-03-07.log"},
		{"/var/log/%y/%j/%H//x.log", "/var/log/26/066/04/x.log"},
		{"/var/log/100%%.log", "/var/log/100%.log"},
	} {
		p, err := parsePattern(c.pattern)
		require.NoError(t, err)
		assert.Equal(t, c.want, p.at(at))
	}
}

func TestPatternErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"auth.log", "/var/log/%", "/var/log/%Q", "/var/log/%HOST%/x", "/var/\x00log", "/" + strings.Repeat("x", 900)} {
		_, err := parsePattern(text)
		require.ErrorIs(t, err, ErrPattern, text)
	}
}

func TestPatternBetween(t *testing.T) {
	t.Parallel()
	p, err := parsePattern("/l/%Y-%m-%d")
	require.NoError(t, err)
	day := func(d, h, m int) time.Time { return time.Date(2026, 2, d, h, m, 0, 0, time.UTC) }

	paths, current := p.between(day(26, 23, 0), day(26, 23, 10))
	assert.Equal(t, []string{"/l/2026-02-26"}, paths)
	assert.Equal(t, 1, current)

	paths, current = p.between(day(25, 1, 0), day(28, 23, 55))
	assert.Equal(t, []string{"/l/2026-02-25", "/l/2026-02-26", "/l/2026-02-27", "/l/2026-02-28", "/l/2026-03-01"}, paths)
	assert.Equal(t, 2, current)

	hourly, err := parsePattern("/l/%Y%m%d%H")
	require.NoError(t, err)
	paths, _ = hourly.between(day(1, 1, 59), day(1, 4, 1))
	assert.Equal(t, []string{"/l/2026020101", "/l/2026020102", "/l/2026020103", "/l/2026020104"}, paths)

	paths, _ = hourly.between(time.Time{}, day(1, 4, 1))
	assert.LessOrEqual(t, len(paths), maxSteps+2)
	assert.Greater(t, len(paths), 24)
}
