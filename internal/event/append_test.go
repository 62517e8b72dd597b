package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
)

// What is written without reflection is read as what the encoder of the library writes.
func TestAppendedEvidenceIsWhatTheLibraryEncodes(t *testing.T) {
	text := func(t *rapid.T, name string) event.Bytes {
		if rapid.Bool().Draw(t, name+" is text") {
			return event.Bytes(rapid.String().Draw(t, name))
		}
		return event.Bytes(rapid.SliceOf(rapid.Byte()).Draw(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		e := event.Evidence{
			Session: rapid.StringMatching(`[0-9a-f]{12}`).Draw(t, "session"), Number: rapid.Int().Draw(t, "number"),
			At:   time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "second"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanosecond")).UTC(),
			Kind: event.EvidenceAsked, Channel: rapid.Uint32().Draw(t, "channel"),
			Request: &event.Request{
				Size: rapid.Int64().Draw(t, "size"), Truncated: rapid.Bool().Draw(t, "truncated"), Failed: rapid.Bool().Draw(t, "failed"),
				Answer: text(t, "answer"), Answered: rapid.Int64().Draw(t, "answered"),
			},
		}
		for range rapid.IntRange(0, 4).Draw(t, "args") {
			e.Request.Args = append(e.Request.Args, text(t, "arg"))
		}
		switch rapid.IntRange(0, 4).Draw(t, "beside") {
		case 0:
			e.Reason = "reason"
		case 1:
			e.Data = "data"
		}
		got, err := e.AppendJSON(nil)
		require.NoError(t, err)
		want, err := json.Marshal(e)
		require.NoError(t, err)
		var is, should event.Evidence
		require.NoError(t, json.Unmarshal(got, &is), "%s", got)
		require.NoError(t, json.Unmarshal(want, &should))
		require.Equal(t, should, is)
	})
}
