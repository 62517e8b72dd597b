package explain

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimesAreRFC3339(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-80_000_000_000, 300_000_000_000).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"))
		if got, want := string(appendTime(nil, at)), `"`+at.UTC().Format(time.RFC3339Nano)+`"`; got != want && !at.IsZero() {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}
