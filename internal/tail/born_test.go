package tail

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is made after the start is new, also where the first look comes late.
func TestBornSince(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	require.NoError(t, os.WriteFile(old, nil, 0o600))
	began := time.Now().Add(time.Second)
	assert.False(t, bornSince(old, began))
	assert.True(t, bornSince(old, time.Now().Add(-time.Minute)))
	assert.False(t, bornSince(filepath.Join(dir, "none"), began))
}
