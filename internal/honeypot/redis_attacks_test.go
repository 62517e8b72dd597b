package honeypot_test

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Published attacks on Redis end in evidence: each request with its answer, the payload in a file that is kept, the
// master that the pot was told to follow, in the sinkhole.
func TestRedisAttacksEndInEvidence(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.Redis)
	_, err := f.say(t.Context(), l, "AUTH wrong\r\n")
	require.NoError(t, err)
	f.attacks(t, l, client{
		send: func(t *testing.T, lines []string) {
			t.Helper()
			answers := f.converse(t, l, append([]string{"AUTH right"}, lines...))
			require.Equal(t, "+OK", answers[0])
		},
		asked: func(r event.Request) (string, bool) {
			words := make([]string, len(r.Args))
			for i, w := range r.Args {
				words[i] = string(w)
			}
			return strings.Join(words, " "), true
		},
		sent: func(t *testing.T, lines, evidence []string) { // lines have quotes in them
			t.Helper()
			assert.Len(t, evidence, len(lines))
		},
	})
}

// converse sends lines one by one and returns the first line of each answer.
func (f *fixture) converse(t *testing.T, l event.Lease, lines []string) []string {
	t.Helper()
	conn, err := f.dial(t.Context(), l.Endpoint)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(conn)
	var answers []string
	for _, line := range lines {
		_, err := io.WriteString(conn, line+"\r\n")
		require.NoError(t, err)
		answer, err := r.ReadString('\n')
		require.NoError(t, err, line)
		answers = append(answers, strings.TrimSpace(answer))
	}
	return answers
}

// leftBy waits for the end of the lease's newest session, and returns what it left.
func (f *fixture) leftBy(t *testing.T, l event.Lease) (left []event.Evidence) {
	t.Helper()
	require.Eventually(t, func() bool {
		var newest event.Session
		f.bus.mu.Lock()
		for _, s := range f.bus.sessions {
			if s.LeaseID == l.ID && s.StartedAt.After(newest.StartedAt) {
				newest = s
			}
		}
		f.bus.mu.Unlock()
		left = f.bus.left(newest.ID)
		return slices.ContainsFunc(left, func(e event.Evidence) bool { return e.Kind == event.EvidenceClosed })
	}, time.Minute, 20*time.Millisecond)
	return left
}

// wrote reports whether a file was written in a pot that has a text in it.
func (f *fixture) wrote(text string) bool {
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	for _, left := range f.bus.evidence {
		for _, e := range left {
			if e.Write == nil || e.Write.File == nil || e.Write.File.SHA256 == "" {
				continue
			}
			reply := f.bus.serveEvidence(context.Background(), event.EvidenceRequest{SHA256: e.Write.File.SHA256})
			if reply.Error == "" && strings.Contains(string(reply.Data), text) {
				return true
			}
		}
	}
	return false
}
