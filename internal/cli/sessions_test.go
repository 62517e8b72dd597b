package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// hostile is what an attacker types to harm who reads it.
const hostile = "\x1b]0;owned\a\x1b[2J\u202egnp.exe\xff<script>alert(1)</script>"

// visited is a server that knows one session full of hostile bytes.
func visited(t *testing.T) *backend {
	t.Helper()
	began := now().Add(-time.Minute)
	s := event.Session{
		ID: "0123456789ab", Node: "node1", Host: "web", Service: event.SSH, Attacker: netip.MustParsePrefix("203.0.113.66/32"),
		Peer: netip.MustParseAddrPort("198.51.100.10:4022"), Target: netip.MustParseAddrPort("203.0.113.10:22"),
		StartedAt: began, EndedAt: now(), Client: hostile, Account: hostile, Guesses: 2, Commands: 1, Files: 1,
	}
	file := sha256.Sum256([]byte("malware"))
	sum := hex.EncodeToString(file[:])
	b := full()
	b.left = []event.Evidence{
		{Client: &event.Client{Version: hostile, HASSH: "aa"}, Kind: event.EvidenceClient},
		{Login: &event.Login{Account: hostile, Password: hostile, Method: "password", Success: true}, Kind: event.EvidenceLogin},
		{Key: &event.Key{Account: hostile}, Kind: event.EvidenceKey},
		{Variable: &event.Variable{Name: hostile, Value: hostile}, Kind: event.EvidenceVariable},
		{Channel: 1, Start: &event.Start{What: "shell", Term: hostile, Width: 80, Height: 24}, Kind: event.EvidenceStart},
		{Channel: 1, Kind: event.EvidenceInput, Input: hostile},
		{Channel: 1, File: &event.File{How: "sftp", Path: hostile, SHA256: sum, Size: 7}, Kind: event.EvidenceFile},
		{Channel: 1, Exit: &event.Exit{Status: 3}, Kind: event.EvidenceExit},
		{Forward: &event.Forward{What: "direct-tcpip", Destination: hostile, Port: 80}, Kind: event.EvidenceForward},
		{Egress: &event.Egress{What: "name", Name: hostile, Type: "A", Code: "NOERROR", Answer: []string{"45.32.1.2"}}, Kind: event.EvidenceEgress},
		{Egress: &event.Egress{What: "request", Protocol: "http", Method: hostile, URL: "http://evil.example.com/x.sh" + hostile, Status: 200, How: "sinkhole", Headers: []event.EgressHeader{{Name: hostile, Value: hostile}}, Data: hostile}, Kind: event.EvidenceEgress},
		{Egress: &event.Egress{What: "connect", Protocol: "tls", Destination: netip.MustParseAddrPort("45.32.1.2:443"), Name: hostile, ALPN: []event.Bytes{hostile}, Data: hostile}, Kind: event.EvidenceEgress},
		{File: &event.File{How: "fetched", URL: hostile, SHA256: sum, Size: 7}, Kind: event.EvidenceFile},
		{Egress: &event.Egress{What: "dropped", Count: 12}, Kind: event.EvidenceEgress},
		{Kind: event.EvidenceMalformed, Data: hostile},
		{Kind: event.EvidenceOverflow, Reason: "builtin"},
		{Kind: event.EvidenceAsked, Request: &event.Request{Args: []event.Bytes{hostile, hostile}, Truncated: true, Failed: true, Answer: hostile}},
		{Login: &event.Login{Account: hostile, Password: hostile, Method: "password"}, Kind: event.EvidenceLogin, Reason: "node full"},
		{Kind: event.EvidenceClosed, Reason: "attacker closed"},
	}
	rec, err := recording.EncodeHeader(recording.Header{Session: s.ID, Host: s.Host, Attacker: s.Attacker, StartedAt: began})
	require.NoError(t, err)
	for i := range b.left {
		e := &b.left[i]
		e.Session, e.Number, e.At = s.ID, i+1, began.Add(time.Duration(i)*time.Second)
		payload, err := json.Marshal(e)
		require.NoError(t, err)
		rec = recording.AppendFrame(rec, recording.Frame{Kind: recording.Note, Channel: e.Channel, Offset: time.Duration(i) * time.Second, Payload: payload})
		if e.Start != nil {
			rec = recording.AppendFrame(rec, recording.Frame{Kind: recording.Out, Channel: 1, Offset: time.Duration(i) * time.Second, Payload: []byte("$ " + hostile + "\r\n")})
		}
	}
	rec = recording.AppendFrame(rec, recording.Frame{Kind: recording.End})
	whole := sha256.Sum256(rec)
	s.Recording = hex.EncodeToString(whole[:])
	b.sessions = []event.Session{s}
	b.content = map[string][]byte{s.Recording: rec, sum: []byte("malware")}
	return b
}

// inert requires that text can do nothing to the terminal of who reads it.
func inert(t *testing.T, what, text string) {
	t.Helper()
	for _, bad := range []string{"\x1b", "\a", "\u202e", "\xff"} {
		assert.NotContains(t, text, bad, what)
	}
}

func TestWhatAttackersChoseIsInertEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, visited(t))
	for _, line := range []string{
		"sessions ls", "sessions ls --json", "sessions show 0123456789ab", "sessions show 0123456789ab --json", "sessions replay 0123456789ab",
		"sessions export 0123456789ab --format cowrie",
	} {
		inert(t, line, w.ok(t, line))
	}
	for _, format := range []string{"text", "json", "cowrie"} {
		b := visited(t)
		b.events = make(chan api.Watched, len(b.left))
		for i := range b.left {
			b.events <- api.Watched{Session: &b.sessions[0], Evidence: &b.left[i]}
		}
		close(b.events)
		out := newWorld(t, b).ok(t, "events tail --format "+format)
		inert(t, format, out)
		assert.GreaterOrEqual(t, strings.Count(out, "\n"), len(b.left)-2, format)
		if format == "cowrie" {
			closed := strings.Index(out, `"eventid":"cowrie.log.closed"`)
			require.Positive(t, closed, "the recording is whole when its session has closed")
			assert.Less(t, closed, strings.Index(out, `"eventid":"cowrie.session.closed"`))
		}
	}
}

func TestSessionsAreShownWithWhatTheyLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, visited(t))
	out := w.ok(t, "sessions show 0123456789ab")
	for _, want := range []string{"target:         203.0.113.10:22", "guesses:        2", "status 3", "sftp ", "5.000 s   1        input"} {
		assert.Contains(t, out, want)
	}
	var shown struct {
		ID   string           `json:"id"`
		Left []event.Evidence `json:"left"`
	}
	require.NoError(t, json.Unmarshal([]byte(w.ok(t, "sessions show 0123456789ab --json")), &shown))
	assert.Equal(t, "0123456789ab", shown.ID)
	require.Len(t, shown.Left, 19)
	assert.Equal(t, event.Bytes(hostile), shown.Left[5].Input, "nothing is lost by the escapes")
}

func TestSessionsAreExported(t *testing.T) {
	t.Parallel()
	b := visited(t)
	w := newWorld(t, b)
	cast := w.ok(t, "sessions export 0123456789ab --format asciicast")
	assert.True(t, strings.HasPrefix(cast, `{"version":2,"width":80,"height":24,`), cast)
	assert.Equal(t, string(b.content[b.sessions[0].Recording]), w.ok(t, "sessions export 0123456789ab --format raw"))
	assert.Len(t, w.ok(t, "sessions export 0123456789ab --format ttylog"), 4*24+len("$ "+hostile+"\r\n"))
	_, said, code := w.run(t.Context(), "sessions export 0123456789ab --format pcapng")
	assert.NotZero(t, code)
	assert.Contains(t, said, "encrypted")
	lines := strings.Split(strings.TrimSpace(w.ok(t, "sessions export 0123456789ab --format cowrie")), "\n")
	assert.Contains(t, lines[0], `"eventid":"cowrie.session.connect"`)
	assert.Contains(t, lines[len(lines)-1], `"eventid":"cowrie.session.closed"`)
	all := strings.Join(lines, "\n")
	assert.Contains(t, all, `"eventid":"cowrie.log.closed"`)
	path := filepath.Join(t.TempDir(), "out")
	w.ok(t, "sessions export 0123456789ab --format raw -o "+path)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, b.content[b.sessions[0].Recording], data)
	w.ok(t, "sessions file 0123456789ab "+b.left[6].File.SHA256[:8]+" -o "+path)
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "malware", string(data))
}

// What the node sees of programs is told later than what came over the connection.
func TestWhatWasLeftIsShownInTheOrderOfItsTime(t *testing.T) {
	t.Parallel()
	b := visited(t)
	b.left[4].At, b.left[7].At = b.left[7].At, b.left[4].At
	out := newWorld(t, b).ok(t, "sessions show 0123456789ab")
	early, late := strings.Index(out, "4.000 s"), strings.Index(out, "7.000 s")
	require.Positive(t, early)
	assert.Less(t, early, late)
}
