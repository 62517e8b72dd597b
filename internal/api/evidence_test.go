package api_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
)

func TestEvidenceIsListed(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{})
	got, err := c.Evidence(t.Context(), "s1")
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, event.Bytes("\x1b"), got[0].Input, "bytes come through")
	assert.Equal(t, time.UTC, got[0].At.Location())
	_, err = c.Evidence(t.Context(), "nothing")
	var told *api.Error
	require.ErrorAs(t, err, &told)
	assert.Equal(t, 404, told.Status)
	assert.Equal(t, "kokkuri sessions ls lists them", told.Hint)
}

func TestContentComesWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{})
	var out strings.Builder
	require.NoError(t, c.File(t.Context(), "s1", "aa", &out))
	assert.Equal(t, "content of aa", out.String())
	var told *api.Error
	require.ErrorAs(t, c.File(t.Context(), "s1", "missing", io.Discard), &told)
	assert.Equal(t, 404, told.Status)
	require.ErrorAs(t, c.File(t.Context(), "s1", "cut", io.Discard), &told, "what was cut off is no file")
	assert.Contains(t, told.Message, "stopped sending midway")
}
