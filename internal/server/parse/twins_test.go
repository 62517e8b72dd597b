package parse_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestPromptsCountOnce: of the two lines of a guess at PAM's prompt one counts, whichever of them there are.
func TestPromptsCountOnce(t *testing.T) {
	t.Parallel()
	const (
		pamKnown   = "18:00:00 [1] error: PAM: Authentication failure for root from 203.0.113.66"
		failKnown  = "18:00:00 [1] Failed keyboard-interactive/pam for root from 203.0.113.66 port 4022 ssh2"
		pamOther   = "18:00:00 [1] error: PAM: User not known to the underlying authentication module for illegal user admin from 203.0.113.66"
		failOther  = "18:00:00 [1] Failed keyboard-interactive/pam for invalid user admin from 203.0.113.66 port 4022 ssh2"
		named      = "18:00:00 [1] error: PAM: Authentication failure for root from evil.example.org"
		secondProc = "18:00:00 [2] Failed keyboard-interactive/pam for root from 203.0.113.66 port 4023 ssh2"
		muchLater  = "18:30:00 [1] Failed keyboard-interactive/pam for root from 203.0.113.66 port 4024 ssh2"
		exhausted  = "18:00:00 [1] error: PAM: Have exhausted maximum number of retries for service for root from 203.0.113.66"
		expired    = "18:00:00 [1] error: PAM: User account has expired for root from 203.0.113.66"
		repeated   = "18:00:00 [1] message repeated 3 times: [ error: PAM: Authentication failure for root from 203.0.113.66]"
	)
	for _, c := range []struct {
		name  string
		lines []string
		want  int
	}{
		{"known account, both lines", []string{pamKnown, failKnown, pamKnown, failKnown}, 2},
		{"known account, only the first", []string{pamKnown, pamKnown}, 2},
		{"known account, only the second", []string{failKnown, failKnown}, 2},
		{"known account, the second from half of the limit on", []string{pamKnown, pamKnown, pamKnown, failKnown}, 3},
		{"unknown account, both lines", []string{pamOther, failOther, pamOther, failOther}, 2},
		{"unknown account, only the second", []string{failOther, failOther}, 2},
		{"prompt left unanswered", []string{pamKnown, failKnown, failKnown}, 1},
		{"prompt of unknown account left unanswered", []string{pamOther, failOther, failOther}, 1},
		{"a name instead of the address", []string{named, failKnown}, 1},
		{"another process", []string{pamKnown, failKnown, secondProc}, 2},
		{"the process number came again", []string{pamKnown, failKnown, muchLater}, 2},
		{"too many for PAM", []string{exhausted, failKnown}, 1},
		{"an expired account", []string{expired}, 0},
		{"repeated", []string{pamKnown, repeated}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p parse.Parser
			got := 0
			for _, l := range c.lines {
				clock, rest, _ := strings.Cut(l, " ")
				pid, msg, _ := strings.Cut(rest, " ")
				e := p.Line([]byte("2026-11-22T"+clock+"Z web sshd"+pid+": "+msg), at("2026-11-22T18:00:10Z"))
				if (e.Kind == event.AuthFailed) != (e.Attempts > 0) || e.Kind != event.AuthFailed && e.Kind != event.Context {
					t.Errorf("%s: %s with %d attempts", l, e.Kind, e.Attempts)
				}
				got += e.Attempts
			}
			if got != c.want {
				t.Errorf("%d guesses, want %d", got, c.want)
			}
		})
	}
}

// TestTwinsAreKnownAmongManyConnections: however many connections there were, those under way are remembered.
func TestTwinsAreKnownAmongManyConnections(t *testing.T) {
	t.Parallel()
	var p parse.Parser
	ref := at("2026-11-22T18:00:10Z")
	guesses := 0
	read := func(format string, args ...any) {
		guesses += p.Line(fmt.Appendf(nil, "Nov 22 18:00:00 web "+format, args...), ref).Attempts
	}
	const connections, apart = 20_000, 50
	for i := range connections + apart {
		if i < connections {
			read("sshd[%d]: error: PAM: Authentication failure for root from 203.0.113.%d", i, i%250)
		}
		if i >= apart {
			read("sshd[%d]: Failed keyboard-interactive/pam for root from 203.0.113.%d port 4022 ssh2", i-apart, (i-apart)%250)
		}
	}
	if guesses != connections {
		t.Errorf("%d guesses; there were %d", guesses, connections)
	}
}
