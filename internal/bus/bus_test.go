package bus

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The agent links this package and pki: neither may bring in what the agent must not contain.
func TestAgentSideLinksNoServer(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/kokkuri/kokkuri/internal/bus", "github.com/kokkuri/kokkuri/internal/pki").CombinedOutput()
	require.NoError(t, err, string(out))
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "github.com/nats-io/nats.go")
	for _, dep := range deps {
		for _, banned := range []string{"github.com/nats-io/nats-server", "github.com/moby/", "modernc.org/", "github.com/jackc/", "database/sql", "testing"} {
			assert.False(t, strings.HasPrefix(dep, banned), "%s is linked", dep)
		}
	}
}

func TestValidName(t *testing.T) {
	for _, good := range []string{"a", "web", "web-01", "0", strings.Repeat("a", 63)} {
		require.NoError(t, ValidName(good))
	}
	for _, bad := range []string{"", "-a", "a-", "-", "Web", "a.b", "a_b", "a b", "ä", "*", ">", "a*", "a\n", "a\x00", strings.Repeat("a", 64), strings.Repeat("x", 1<<20)} {
		err := ValidName(bad)
		require.ErrorIs(t, err, ErrName)
		assert.Less(t, len(err.Error()), 300)
	}
}

func TestReplyAllowed(t *testing.T) {
	for _, c := range []struct {
		subject, reply string
		want           bool
	}{
		{"desired.web", "_INBOX_host_web.x.y", true},
		{"status.web", "_INBOX_host_web.x", true},
		{"nodes.n1", "_INBOX_node_n1.x", true},
		{"renew.host.web", "_INBOX_host_web.x", true},
		{"renew.node.n1", "_INBOX_node_n1.x", true},
		{"enroll", "_INBOX_enroll.abc.x", true},
		{"lease.n1", "_INBOX_server.x", true},
		{"desired.web", "_INBOX_host_db.x", false},
		{"desired.web", "_INBOX_host_webb.x", false},
		{"desired.web", "_INBOX_host_web", false},
		{"desired.web", "_INBOX_node_web.x", false},
		{"nodes.n1", "_INBOX_host_n1.x", false},
		{"renew.host.web", "_INBOX_node_web.x", false},
		{"enroll", "_INBOX_host_web.x", false},
		{"lease.n1", "_INBOX_node_n1.x", false},
		{"desired.web", "", false},
		{"desired.web", "logs.web", false},
		{"desired.web", "$JS.API.STREAM.DELETE.LOGS", false},
		{"other", "_INBOX_host_web.x", false},
	} {
		assert.Equal(t, c.want, replyAllowed(c.subject, c.reply), "%s to %s", c.subject, c.reply)
	}
}

func TestBatchSurvivesTheWire(t *testing.T) {
	for _, b := range []event.Batch{
		{Host: "web", Road: event.RoadAgent, Origin: "/var/log/auth.log", ID: "web/1", Lines: [][]byte{[]byte("one"), {}, []byte("\xff\x00\r")}},
		{Host: "web", Road: event.RoadSyslogTCP, Origin: "[2001:db8::1%eth0]:5", ID: "ü \r\n%/\x00", Lines: [][]byte{{}}},
		{Host: "w", Road: event.RoadFile, Origin: "/a b\n\r: c", ID: " x ", Lines: [][]byte{{}, {}, {}}},
	} {
		b.Received = time.Date(2026, 11, 22, 18, 0, 0, 123456789, time.UTC)
		h, body, err := encodeBatch(b)
		require.NoError(t, err)
		for _, values := range h {
			require.NotContains(t, values[0], "\n")
			require.Equal(t, strings.TrimSpace(values[0]), values[0])
		}
		got, err := decodeBatch(LogsSubject(b.Host), h, body)
		require.NoError(t, err)
		require.Len(t, got.Lines, len(b.Lines))
		require.Equal(t, string(body), string(bytes.Join(got.Lines, []byte{'\n'})))
		b.Lines, got.Lines = nil, nil
		require.Equal(t, b, got)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add("logs.web", "agent", "%2Fvar%2Flog%2Fauth.log", "2026-11-22T18:00:00Z", "web%2F1", []byte("one\ntwo"))
	f.Add("logs.web", "syslog-udp", "", "2026-11-22T18:00:00.123456789+01:00", "x", []byte(""))
	f.Add("logs.", "", "%", "", "", []byte("\n\n\n"))
	f.Add("logs", "x", "%zz", "0000-00-00T00:00:00Z", "%00", bytes.Repeat([]byte{'\n'}, MaxBatchLines))
	f.Fuzz(func(t *testing.T, subject, road, origin, received, id string, data []byte) {
		h := nats.Header{headerRoad: {road}, headerOrigin: {origin}, headerReceived: {received}, headerID: {id}}
		b, err := decodeBatch(subject, h, data)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.NoError(t, ValidName(b.Host))
		require.NotEmpty(t, b.Lines)
		require.LessOrEqual(t, len(b.Lines), MaxBatchLines)
		require.Equal(t, string(data), string(bytes.Join(b.Lines, []byte{'\n'})))
	})
}

func TestReconnectDelayIsBounded(t *testing.T) {
	for attempts := range 100 {
		d := reconnectDelay(attempts)
		assert.Positive(t, d)
		assert.LessOrEqual(t, d, maxReconnect)
	}
	assert.Less(t, reconnectDelay(1), 100*time.Millisecond, "a restarted server is found at once")
}

func TestRemoteErrorsArePrintable(t *testing.T) {
	assert.Equal(t, "a\uFFFD[31mb", printable("a\x1b[31mb"))
	assert.LessOrEqual(t, len(printable(strings.Repeat("x", 1<<20))), maxErrorText+len("…"))
}

func TestDialNeedsAnAddress(t *testing.T) {
	_, err := Dial(t.Context(), Options{})
	require.ErrorContains(t, err, "an address and a TLS configuration are needed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Dial(ctx, Options{})
	require.ErrorIs(t, err, context.Canceled)
}
