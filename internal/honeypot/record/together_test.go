package record_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// What is recorded together is in the file when that is over, not before, and told of once; what is large is not waited with.
func TestTogetherIsWrittenAtOnce(t *testing.T) {
	dir := t.TempDir()
	told := 0
	v := openVault(t, dir, func(o *record.VaultOptions) { o.Noted = func(string) { told++ } })
	const id = "0123456789ab"
	rec, err := v.Begin(headerOf(id))
	require.NoError(t, err)
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, "recordings", id+".part"))
		require.NoError(t, err)
		return info.Size()
	}
	begun := size()
	rec.Together(func() {
		rec.Record(recording.In, 0, []byte("asked"))
		rec.Note(login("root", false))
		rec.Together(func() { rec.Note(login("root", true)) })
		assert.Equal(t, begun, size(), "nothing is written before all of it is there")
		assert.Zero(t, told)
	})
	assert.Greater(t, size(), begun)
	assert.Equal(t, 1, told)
	before := size()
	rec.Together(func() {
		rec.Record(recording.In, 0, []byte(strings.Repeat("x", 100_000)))
		assert.Greater(t, size(), before)
	})
	rec.Record(recording.Out, 0, []byte("answered"))
	rec.Together(func() { rec.Note(login("root", true)) })
	sum, truncated, err := rec.Close("done")
	require.NoError(t, err)
	assert.False(t, truncated)
	_, frames, err := framesOf(t, v.Path(sum))
	require.NoError(t, err)
	var kinds strings.Builder
	for _, f := range frames {
		kinds.WriteByte(byte(f.kind))
	}
	assert.Equal(t, "iioe", kinds.String(), "in their order, beside the notes")
	assert.Len(t, leftBy(t, v, id, sum), 4)

	var nobody *record.Recorder
	ran := false
	nobody.Together(func() { ran = true })
	assert.True(t, ran)
}
