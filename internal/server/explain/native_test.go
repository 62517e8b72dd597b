package explain_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/server/explain"
)

// TestRealServersOwnLogs: what real PostgreSQL servers wrote, in every form that they know, is recognised by itself, and as many guesses
// are found as there were (the captures' "## " lines say it).
func TestRealServersOwnLogs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../parse/testdata/postgres/*.txt")
	require.NoError(t, err)
	require.Greater(t, len(files), 10)
	guesses := regexp.MustCompile(`(?m)^## .*\| guesses (\d+) `)
	notes := regexp.MustCompile(`(?m)^#.*\n`)
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			want := 0
			for _, m := range guesses.FindAllSubmatch(data, -1) {
				n, err := strconv.Atoi(string(m[1]))
				require.NoError(t, err)
				want += n
			}
			require.Positive(t, want)
			log := notes.ReplaceAll(data, nil)
			_, sum := explainText(t, bytes.NewReader(log), explain.Options{Summary: true})
			assert.Equal(t, want, sum.Guesses)
			assert.Equal(t, bytes.Count(log, []byte{'\n'}), sum.Lines)
			zipped, err := explain.Explain(t.Context(), []explain.Input{file("log", gzipped(t, log), time.Now())}, &bytes.Buffer{}, explain.Options{Rules: shipped(), JSON: true})
			require.NoError(t, err)
			assert.Equal(t, want, zipped.Guesses)
		})
	}
}
