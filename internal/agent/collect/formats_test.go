package collect

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// softwareLines are lines of every form of log, whole and in pieces.
func softwareLines() []string {
	return []string{
		"2026-11-22 18:00:00 31 [Warning] Access denied for user 'root'@'203.0.113.66' (using password: YES)",
		"2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] Access denied for user 'root'@'203.0.113.66' (using password: YES)",
		`{ "prio": 3, "err_code": 10926, "source_line": 1, "msg": "Access denied for user 'a'@'203.0.113.66' (using password: YES)", "time": "2026-11-22T18:00:00.123456Z", "thread": 31, "err_symbol": "X", "SQL_state": "28000", "subsystem": "Server", "label": "Note" }`,
		"goes on without a time",
		"2026-11-22 18:00:00.123 UTC [77] postgres@postgres FATAL:  password authentication failed for user \"postgres\"",
		"2026-11-22 18:00:00.123 UTC [77] postgres@postgres DETAIL:  Connection matched pg_hba.conf line 97: \"host all all\"",
		"2026-11-22 18:00:00.100 UTC [77] [unknown]@[unknown] LOG:  connection received: host=203.0.113.66 port=4022",
		"\tand a further line of it",
		`2026-11-22 18:00:00.123 UTC,"postgres","postgres",77,"203.0.113.66:4022",692.4d,2,"authentication",2026-11-22 18:00:00 UTC,3/5,0,FATAL,28P01,"password authentication failed for user ""postgres""","Connection matched`,
		`line 97: ""host all all""",,,,,,,,"","client backend",,0`,
		`{"timestamp":"2026-11-22 18:00:00.123 UTC","user":"postgres","dbname":"postgres","pid":77,"remote_host":"203.0.113.66","remote_port":4022,"error_severity":"FATAL","state_code":"28P01","message":"password authentication failed for user \"postgres\""}`,
		`203.0.113.66 - root [22/Nov/2026:18:00:00 +0000] "GET /admin HTTP/1.1" 401 179 "-" "curl/7.88.1"`,
		`2026/11/22 18:00:00 [error] 7#7: *1 user "root" was not found in "/etc/nginx/htpasswd", client: 203.0.113.66, server: _, request: "GET / HTTP/1.1", host: "x"`,
		`[Sun Nov 22 18:00:00.123456 2026] [auth_basic:error] [pid 7:tid 8] [client 203.0.113.66:4022] AH01617: user root: authentication failure for "/": Password Mismatch`,
		`Sun Nov 22 18:00:00 2026 [pid 7] [root] FAIL LOGIN: Client "203.0.113.66"`,
		`2026-11-22 18:00:00,123 web proftpd[7] web (203.0.113.66[203.0.113.66]): USER root: no such user found from 203.0.113.66 [203.0.113.66] to 203.0.113.10:21`,
		`a quotation " begins`,
		"",
	}
}

// TestEveryFormatSurvivesCrashes: with every form of log that is known, what is published with crashes is what is without. (Only
// the time of a line that states none, which is that of a line before it, may be lost with what said it.)
func TestEveryFormatSurvivesCrashes(t *testing.T) {
	t.Parallel()
	formats := append(native.Formats(), Plain("soft"))
	for _, f := range testFormats() {
		formats = append(formats, f)
	}
	for _, f := range formats {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			rapid.Check(t, func(t *rapid.T) {
				lines := rapid.SliceOfN(rapid.SampledFrom(softwareLines()), 1, 40).Draw(t, "lines")
				cuts := rapid.SliceOfN(rapid.IntRange(1, 6), 40, 40).Draw(t, "cuts")
				crash := rapid.SliceOfN(rapid.Bool(), 40, 40).Draw(t, "crash")
				idle := rapid.SliceOfN(rapid.IntRange(0, 5), 40, 40).Draw(t, "idle")
				want := converted(t, f, filepath.Join(dir, newNonce()), lines, cuts, idle, nil)
				got := converted(t, f, filepath.Join(dir, newNonce()), lines, cuts, idle, crash)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("without crashes - and with +:\n%s", diff)
				}
			})
		})
	}
}

// converted is what a converter publishes; it is replaced by a new one where crash says so.
func converted(t *rapid.T, f native.Format, state string, lines []string, cuts, idle []int, crash []bool) []string {
	s := &stream{}
	log := slog.New(slog.DiscardHandler)
	ctx := t.Context()
	var v *converter
	launch := func() {
		if v != nil {
			v.kept.close()
		}
		v = newConverter(f, "", state, &Options{Host: "web", Publish: s.publish, Log: log}, trouble.New(log, "test"))
		v.now = func() time.Time { return time.Unix(1_795_600_000, 0) }
		v.idle = time.NewTimer(time.Hour)
		require.NoError(t, v.restore(ctx))
	}
	launch()
	defer func() { v.kept.close() }()
	for i, at := 0, 0; at < len(lines); i++ {
		n := min(cuts[i], len(lines)-at)
		b := tail.Batch{ID: strconv.Itoa(at)}
		for _, l := range lines[at : at+n] {
			b.Lines = append(b.Lines, []byte(l))
		}
		require.NoError(t, v.take(ctx, b))
		if crash != nil && crash[i] {
			launch()
		}
		if idle[i] == 0 {
			v.last = time.Time{}
			require.NoError(t, v.settle(ctx))
		}
		at += n
	}
	v.last = time.Time{}
	require.NoError(t, v.settle(ctx))
	out := s.got()
	for i := range out {
		_, rest, _ := strings.Cut(out[i], " ")
		_, out[i], _ = strings.Cut(rest, " ")
	}
	return out
}
