package parse_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// hostileLogin draws what a client might send to a mail, telnet or SSH server to be taken for the rest of a line.
func hostileLogin() *rapid.Generator[string] {
	piece := rapid.OneOf(rapid.SampledFrom([]string{
		"' from 198.51.100.9:1", " from '198.51.100.9'", " FROM 198.51.100.9", " FOR 'root', Authentication failure", "', ", ", ", ">", "<",
		", rip=198.51.100.9, lip=1.1.1.1", ", method=PLAIN", "user=<x>", "(auth failed, 99 attempts in 1 secs)", "[198.51.100.9]",
		": SASL LOGIN authentication failed: x", ", sasl_username=y", " rhost=198.51.100.9", " rhost=198.51.100.9  user=z", "  user=root",
		"message repeated 9 times: [ ", "]", "'", "\"", "#012", "\x1b[2J", "\xff", " on '/dev/pts/0' from '198.51.100.9'", "', 99 fails): x",
	}), rapid.StringN(0, 6, -1))
	return rapid.Map(rapid.SliceOfN(piece, 0, 5), func(list []string) string {
		s := strings.Join(list, "")
		return s[:min(len(s), 200)]
	})
}

// TestLoginsBlameTheTrueSource: whatever names clients give, the source that is read is their own, and one line is no more
// guesses than it states.
func TestLoginsBlameTheTrueSource(t *testing.T) {
	t.Parallel()
	// %[1]s is what the client chose, %[2]s its address.
	for _, c := range []struct {
		tag, form string
		sure      bool // the source must be found
		guesses   int
	}{
		{"dropbear", "Bad password attempt for '%[1]s' from %[2]s:4022", true, 1},
		{"dropbear", "Pubkey auth attempt with unknown algo for '%[1]s' from %[2]s:4022", true, 0},
		{"login", "FAILED LOGIN (1) on '/dev/pts/0' from '%[2]s' FOR '%[1]s', Authentication failure", true, 1},
		{"login", "FAILED LOGIN 1 FROM %[2]s FOR %[1]s, Authentication failure", true, 1},
		{"login", "invalid password for '%[1]s' on '/dev/pts/0' from '%[2]s'", true, 1},
		{"postfix/smtpd", "warning: unknown[%[2]s]: SASL LOGIN authentication failed: x, sasl_username=%[1]s", true, 1},
		{"postfix/smtpd", "warning: non-SMTP command from unknown[%[2]s]: %[1]s", true, 0},
		{"postfix/smtpd", "improper command pipelining after EHLO from unknown[%[2]s]: %[1]s", true, 0},
		{"dovecot", "imap-login: Aborted login (auth failed, 2 attempts in 3 secs): user=<%[1]s>, method=PLAIN, rip=%[2]s, lip=203.0.113.10, session=<abc>", true, 2},
		{"dovecot", "imap-login: Disconnected (no auth attempts in 3 secs): user=<%[1]s>, rip=%[2]s, lip=203.0.113.10, session=<abc>", true, 0},
		{"rexecd", "pam_unix(rexec:auth): authentication failure; logname= uid=0 euid=0 tty= ruser=%[1]s rhost=%[2]s  user=%[1]s", false, 1},
	} {
		t.Run(c.tag+" "+c.form, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				source := netip.MustParseAddr(rapid.SampledFrom([]string{"203.0.113.66", "255.255.255.255", "2001:db8:1:66::66", "::1"}).Draw(t, "source"))
				msg := fmt.Sprintf(c.form, hostileLogin().Draw(t, "name"), source)
				var p parse.Parser
				e := p.Line([]byte("2026-11-22T18:00:00Z web "+c.tag+"[1]: "+msg), time.Time{})
				if e.Source != source && (c.sure || e.Source.IsValid()) {
					t.Fatalf("read %s from %q", e.Source, msg)
				}
				if e.Attempts != c.guesses && e.Kind != event.None {
					t.Fatalf("read %d guesses from %q", e.Attempts, msg)
				}
			})
		})
	}
}
