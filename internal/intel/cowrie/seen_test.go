package cowrie_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/cowrie"
)

// What programs do is told by events of our own, so that nobody takes them for what was typed; bytes are escaped.
func TestWhatProgramsDoHasEventsOfOurOwn(t *testing.T) {
	t.Parallel()
	for id, v := range map[string]event.Evidence{
		"kokkuri.execution": {Kind: event.EvidenceExecution, Execution: &event.Execution{
			Path: "/bin/x", Args: []event.Bytes{"x\x1b[2J"}, Exit: &event.Exit{Status: 1}, Lasted: time.Second, File: &event.Content{SHA256: "ab", Size: 1},
		}},
		"kokkuri.ending":     {Kind: event.EvidenceEnding, Ending: &event.Ending{Path: "\x1b"}},
		"kokkuri.connection": {Kind: event.EvidenceConnection, Connection: &event.Connection{What: "connect"}},
		"kokkuri.write":      {Kind: event.EvidenceWrite, Write: &event.Write{Path: "\x1b"}},
		"kokkuri.change":     {Kind: event.EvidenceChange, Change: &event.Difference{Path: "\x1b"}},
		"kokkuri.archive":    {Kind: event.EvidenceArchive, Archive: &event.Archive{}},
	} {
		events := cowrie.Renderer{}.Events(event.Session{ID: "s", Service: event.ServicePot}, v)
		require.Len(t, events, 1, id)
		assert.Equal(t, id, events[0]["eventid"])
		text, err := json.Marshal(events[0])
		require.NoError(t, err)
		assert.False(t, strings.Contains(string(text), "\\u001b") || strings.Contains(string(text), "\x1b"), "%s", text)
	}
	assert.Empty(t, cowrie.Renderer{}.Events(event.Session{}, event.Evidence{Kind: event.EvidenceMissed, Missed: &event.Missed{}}))
}
