package honeypot_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// redisAttack is what somebody sends who got in, and what is left of it.
type redisAttack struct {
	Name    string   `yaml:"name"`
	Of      string   `yaml:"of"`
	Send    []string `yaml:"send"`
	Refused []string `yaml:"refused"`
	Wrote   string   `yaml:"wrote"`  // in a file of the pot
	Called  string   `yaml:"called"` // by the pot
}

// Published attacks on Redis end in evidence: each request with its answer, the payload in a file that is kept, the
// master that the pot was told to follow, in the sinkhole.
func TestRedisAttacksEndInEvidence(t *testing.T) {
	data, err := os.ReadFile("testdata/redis/attacks.yaml")
	require.NoError(t, err)
	var attacks []redisAttack
	require.NoError(t, yaml.UnmarshalWithOptions(data, &attacks, yaml.Strict()))
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.Redis)
	_, err = f.say(t.Context(), l, "AUTH wrong\r\n")
	require.NoError(t, err)
	for _, a := range attacks {
		t.Run(a.Name, func(t *testing.T) {
			answers := f.converse(t, l, append([]string{"AUTH right"}, a.Send...))
			require.Equal(t, "+OK", answers[0])
			left := f.leftBy(t, l)
			var sent, refused []string
			for _, e := range left {
				if e.Request == nil {
					continue
				}
				words := make([]string, len(e.Request.Args))
				for i, w := range e.Request.Args {
					words[i] = string(w)
				}
				sent = append(sent, strings.Join(words, " "))
				if e.Request.Failed {
					refused = append(refused, strings.Join(words, " "))
				}
			}
			assert.Len(t, sent, len(a.Send))
			assert.Equal(t, a.Refused, refused)
			if a.Wrote != "" {
				require.Eventually(t, func() bool { return f.wrote(a.Wrote) }, time.Minute, 50*time.Millisecond, "no file has %q", a.Wrote)
			}
			if a.Called != "" {
				f.called(t, a.Called, func(e event.Egress) bool { return e.Destination.String() == a.Called })
			}
		})
	}
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
