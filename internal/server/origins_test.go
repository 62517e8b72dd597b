package server

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestLinesThatCountForNothing sends, over the real bus, what a local user forges, guesses without an address, and lines of a
// host whose zone is another, and looks at what status and doctor say of them.
func TestLinesThatCountForNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const by = `1 %s web %s %d - [kokkuri@32473 uid="%d" exe="%s"] Failed password for root from %s port 9 ssh2`
	sshd := event.Batch{Host: "web", Road: event.RoadAgent, Origin: "journal", Received: time.Now(), ID: "vouched"}
	now := time.Now().UTC().Format(time.RFC3339)
	for i := range 9 {
		sshd.Lines = append(sshd.Lines, fmt.Appendf(nil, by, now, "sshd", i, 1000, "/usr/bin/logger", "192.0.2.66"))
		sshd.Lines = append(sshd.Lines, fmt.Appendf(nil, by, now, "sshd", i, 1000, "/home/mallory/sshd", "192.0.2.66"))
		sshd.Lines = append(sshd.Lines, fmt.Appendf(nil, by, now, "sshd", i, 0, "/usr/sbin/sshd", "evil.example"))
	}
	require.NoError(t, s.host.PublishBatch(t.Context(), sshd))
	s.evaluated()
	require.Empty(t, s.got(), "nobody is redirected for what was forged")
	st, err := s.api.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(18), st.Counters["lines_forged"]["web ssh"])
	require.Equal(t, int64(9), st.Counters["events_without_address"]["web ssh"])
	found := texts(st.Findings)
	require.Contains(t, found, "host web: 18 lines by road agent claimed to be of ssh and were written by another program: they count for nothing")
	require.Contains(t, found, "host web: 9 attempts at ssh name no address and count against nobody: a name proves nothing, its owner chooses it")
	require.NotContains(t, found, "host web: the road agent does not say who wrote a line: any user of the host can write one in another program's name")

	// The same road, as it comes from a file: nobody vouches for it.
	s.fail("192.0.2.67", 1)
	for i := range 5 {
		at := time.Now().Add(time.Duration(i) * time.Minute)
		b := event.Batch{Host: "web", Road: event.RoadAgent, Origin: "/var/log/auth.log", Received: at, ID: fmt.Sprint("east", i)}
		b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web sshd[7]: Connection closed by 192.0.2.68 port 7", at.UTC().Add(2*time.Hour).Format(time.Stamp)))
		require.NoError(t, s.host.PublishBatch(t.Context(), b))
	}
	s.evaluated()
	st, err = s.api.Status(t.Context())
	require.NoError(t, err)
	found = texts(st.Findings)
	require.Contains(t, found, "host web: the road agent does not say who wrote a line: any user of the host can write one in another program's name")
	require.Contains(t, found, "host web: the times in its lines by road agent are 2h0m0s ahead: they are mended")
	for _, f := range st.Findings {
		require.NotEmpty(t, f.Mend, f.Text)
	}
}

// TestRoadsThatProveNothing: over a road that any program of the host can speak on, what a line says of its writer is no proof.
func TestRoadsThatProveNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for road, warned := range map[event.Road]bool{event.RoadAgent: false, event.RoadSyslogTCP: true, event.RoadSyslogUDP: true} {
		var o origins
		o.note("web", road, event.AuthFailed, parse.Note{Service: event.SSH, Vouched: true}, now)
		require.Equal(t, warned, len(o.findings(now)) == 1, road)
		o.note("web", road, event.Context, parse.Note{Service: event.SSH}, now)
		require.Equal(t, warned, len(o.findings(now)) == 1, "context proves nothing against anybody")
		o.note("web", road, event.AuthFailed, parse.Note{Service: event.SSH}, now)
		require.Len(t, o.findings(now), 1, road)
	}
}

func texts(list []event.Finding) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.Subject+": "+f.Text)
	}
	return out
}

func TestOriginsAreBounded(t *testing.T) {
	t.Parallel()
	var o origins
	now := time.Now()
	for i := range maxOrigins + 10 {
		o.note(fmt.Sprint("host", i), event.RoadFile, event.None, parse.Note{Service: event.SSH, Forged: true}, now)
	}
	require.Len(t, o.by, maxOrigins)
	require.Len(t, o.findings(now), maxOrigins)
	require.Empty(t, o.findings(now.Add(originMemory)), "what is old is told no more")
}

// TestThatARoadProvesNothingIsToldOnce: by the agent, which knows the file, or else by the server.
func TestThatARoadProvesNothingIsToldOnce(t *testing.T) {
	t.Parallel()
	var o origins
	now := time.Now()
	for _, host := range []string{"web", "db"} {
		o.note(host, event.RoadAgent, event.AuthFailed, parse.Note{Service: event.SSH}, now)
		o.note(host, event.RoadSyslogTCP, event.AuthFailed, parse.Note{Service: event.SSH}, now)
	}
	var told []string
	for _, f := range toldOnce(o.findings(now), func(host string) []event.Finding {
		if host == "web" {
			return []event.Finding{{Subject: "/var/log/auth.log", Text: event.Forgeable}}
		}
		return nil
	}) {
		told = append(told, f.Subject+": "+f.Text)
	}
	require.Equal(t, []string{
		"host db: " + unvouchedText(event.RoadAgent), "host db: " + unvouchedText(event.RoadSyslogTCP), "host web: " + unvouchedText(event.RoadSyslogTCP),
	}, told)
}

// TestWhatAgentsCountIsBounded: an agent may be an attacker's.
func TestWhatAgentsCountIsBounded(t *testing.T) {
	t.Parallel()
	many := map[string]int64{"lines_cut": 3, "negative": -1, strings.Repeat("x", 33): 1}
	require.Equal(t, map[string]int64{"lines_cut": 3}, boundedCounts(many))
	for i := range 100 {
		many[strconv.Itoa(i)] = 1
	}
	require.Len(t, boundedCounts(many), 32)
}
