package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// say sends messages of programs on the host by its own road.
func (s *site) say(messages ...string) {
	s.t.Helper()
	b := event.Batch{Host: "web", Road: event.RoadAgent, Origin: "/var/log/other.log", Received: time.Now()}
	for _, m := range messages {
		s.sent++
		b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web %s", time.Now().Format(time.RFC3339Nano), m))
	}
	b.ID = fmt.Sprint("said-", s.sent)
	require.NoError(s.t, s.host.PublishBatch(s.t.Context(), b))
}

// TestLoginsWithoutASecretExemptNobody: who logs in where no password is needed, or gets a web page that looks like a login,
// is redirected for guessing like everyone else.
func TestLoginsWithoutASecretExemptNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.stop()
	s.conf.HTTP.ShippedLogins = true
	s.start()
	s.say(
		`vsftpd[1]: [ftp] OK LOGIN: Client "192.0.2.66", anon password "x"`,
		`nginx: 192.0.2.66 - alice [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "-"`,
		`nginx: 192.0.2.66 - - [22/Nov/2026:18:00:00 +0000] "POST /wp-login.php HTTP/1.1" 302 12 "-" "-"`,
		`vsftpd[1]: [alice] OK LOGIN: Client "192.0.2.20"`,
	)
	s.fail("192.0.2.66", 5)
	s.fail("192.0.2.20", 5)
	s.evaluated()
	live := s.server.decider.Board().Desired("web").Redirects
	require.Len(t, live, 1, "only who knew a password before is exempt")
	require.Equal(t, netip.MustParsePrefix("192.0.2.66/32"), live[0].Source)
	st, err := s.api.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(4), st.Counters["events"]["auth_ok"])
}

// TestHTTPIsReadAsConfigured: the configuration's login forms are those of the parser.
func TestHTTPIsReadAsConfigured(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.stop()
	s.conf.HTTP = config.HTTP{
		Logins:  []config.HTTPLogin{{Path: "/shop/login.do", Methods: []string{"PUT"}, Failed: []int{200}}},
		Proxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28")}, ForwardedField: 1,
	}
	s.start()
	const line = `nginx: 198.51.100.1 - - [22/Nov/2026:18:00:00 +0000] "%s HTTP/1.1" 200 12 "192.0.2.66" "-"`
	s.say(fmt.Sprintf(line, "PUT /shop/login.do"), fmt.Sprintf(line, "POST /shop/login.do"), fmt.Sprintf(line, "POST /wp-login.php"))
	s.evaluated()
	st, err := s.api.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1), st.Counters["guesses"]["http"])
	e := parse.NewReader(s.server.pipeline.parserOptions()).Message(event.HTTP, fmt.Appendf(nil, line, "PUT /shop/login.do")[len("nginx: "):])
	require.Equal(t, netip.MustParseAddr("192.0.2.66"), e.Source)
}
