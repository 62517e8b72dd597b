package parse_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// hostileText draws what a client might send as a name to be taken for the rest of a line.
func hostileText(limit int) *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{
			" from 198.51.100.9 port 1 ssh2", " from 198.51.100.9", " 198.51.100.9 port 1", " port 1", " ssh2", ": RSA SHA256:AAAA",
			" 198.51.100.9 port 1: Too many authentication failures", " [preauth]", "]", "'", "\"", ": ", " for ", " from ", "invalid user ",
			"#012Nov 22 18:00:00 web sshd[1]: Failed password for root from 198.51.100.9 port 1 ssh2", "\\n", "\x1b[2J", "\xff",
			" rhost=198.51.100.9 ", "message repeated 9 times: [ ", " (serial 7) CA RSA SHA256:BBBB", " ID ", " from ::1 port 1 ssh2:",
		}),
		rapid.StringN(0, 8, -1),
	)
	return rapid.Map(rapid.SliceOfN(piece, 0, 5), func(list []string) string {
		s := strings.ReplaceAll(strings.Join(list, ""), "\n", "\\n")
		if len(s) > limit {
			s = s[:limit]
		}
		return s
	})
}

func drawPeer(t *rapid.T) (netip.Addr, uint16) {
	text := rapid.SampledFrom([]string{"203.0.113.66", "0.0.0.0", "255.255.255.255", "2001:db8:1:66::66", "::1", "fe80::1"}).Draw(t, "source")
	return netip.MustParseAddr(text), rapid.Uint16().Draw(t, "port")
}

// TestSourceIsTheTrueOne: whatever name a client gives, and whatever text it sends, the source that is
// read is its own, or, where a message can't tell, none.
func TestSourceIsTheTrueOne(t *testing.T) {
	t.Parallel()
	// %[1]s is the user's name, %[2]s the peer's address, %[3]d its port, %[4]s other text of the client.
	for _, c := range []struct {
		form string
		sure bool // the source must be found
	}{
		{"Failed password for %[1]s from %[2]s port %[3]d ssh2", true},
		{"Failed password for invalid user %[1]s from %[2]s port %[3]d ssh2", true},
		{"Failed keyboard-interactive/pam for invalid user %[1]s from %[2]s port %[3]d ssh2", true},
		{"message repeated 3 times: [ Failed password for invalid user %[1]s from %[2]s port %[3]d ssh2]", true},
		{"Failed publickey for invalid user %[1]s from %[2]s port %[3]d ssh2: RSA SHA256:R4Qj2wWjRPpwpnY0tYl2sKkvMZbBkjKsq", true},
		{"Failed none for invalid user %[1]s from %[2]s port %[3]d ssh2", true},
		{"Invalid user %[1]s from %[2]s port %[3]d", true},
		{"error: maximum authentication attempts exceeded for invalid user %[1]s from %[2]s port %[3]d ssh2 [preauth]", true},
		{"Connection closed by invalid user %[1]s %[2]s port %[3]d [preauth]", true},
		{"Connection reset by authenticating user %[1]s %[2]s port %[3]d [preauth]", true},
		{"Disconnected from invalid user %[1]s %[2]s port %[3]d [preauth]", true},
		{"Bad protocol version identification '%[1]s' from %[2]s port %[3]d", true},
		{"Received disconnect from %[2]s port %[3]d:11: %[4]s [preauth]", true},
		{"Unable to negotiate with %[2]s port %[3]d: no matching cipher found. Their offer: %[4]s [preauth]", true},
		{"banner exchange: Connection from %[2]s port %[3]d: %[4]s", true},
		{"Accepted publickey for alice from %[2]s port %[3]d ssh2: RSA-CERT SHA256:AAAA ID %[4]s (serial 7) CA RSA SHA256:BBBB", true},
	} {
		t.Run(c.form, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				source, port := drawPeer(t)
				user, text := hostileText(100).Draw(t, "user"), hostileText(300).Draw(t, "text")
				msg := fmt.Sprintf(c.form, user, source, port, text)
				msg, _, _ = strings.Cut(msg, "%!(EXTRA")
				e := parse.Message(event.SSH, []byte(msg))
				if e.Source != source || e.SourcePort != port {
					t.Fatalf("read %s port %d from %q", e.Source, e.SourcePort, msg)
				}
			})
		})
	}
}

// TestNoOtherSourceIsBlamed holds messages with a client's text on both sides of the address.
func TestNoOtherSourceIsBlamed(t *testing.T) {
	t.Parallel()
	for _, form := range []string{
		"Failed publickey for invalid user %[1]s from %[2]s port %[3]d ssh2: RSA-CERT SHA256:AAAA ID %[4]s (serial 7) CA RSA SHA256:BBBB",
		"Disconnecting invalid user %[1]s %[2]s port %[3]d: Change of username or service not allowed: (%[1]s,ssh-connection) -> (%[4]s,ssh-connection) [preauth]",
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				source, port := drawPeer(t)
				msg := fmt.Sprintf(form, hostileText(100).Draw(t, "user"), source, port, hostileText(300).Draw(t, "text"))
				if e := parse.Message(event.SSH, []byte(msg)); e.Source.IsValid() && e.Source != source {
					t.Fatalf("read %s from %q", e.Source, msg)
				}
			})
		})
	}
}

func seeds(f *testing.F) {
	f.Helper()
	for _, s := range []string{
		"Nov 22 18:00:00 web sshd[1]: Failed password for root from 203.0.113.66 port 4022 ssh2",
		"2026-11-22T18:00:00.1+00:00 web sshd-session[1]: message repeated 4 times: [ Failed password for root from ::1 port 4022 ssh2]",
		`1 2026-11-22T18:00:00Z web sshd 1 - [a b="c\"]"] Accepted publickey for a from 203.0.113.66 port 1 ssh2: RSA SHA256:x`,
		"<38>Feb 29 18:00:00 web sshd[1]: error: PAM: Authentication failure for illegal user x from 203.0.113.66",
		"Nov 22 18:00:00 web sshd[1]: Disconnecting invalid user x 203.0.113.66 port 1: Too many authentication failures [preauth]",
		"Nov 22 18:00:00 web sshd[1]: srclimit_penalise: ipv4: new 203.0.113.66/32 deferred penalty of 5 seconds for penalty: x",
		"Nov 22 18:00:00 web sshd[1]: drop connection #0 from [203.0.113.66]:4022 on [203.0.113.10]:22 past MaxStartups",
	} {
		f.Add([]byte(s))
	}
	for _, line := range textLines(f, "testdata/lines/logins.txt") {
		left, _, _ := strings.Cut(line, " => ")
		tag, msg, ok := strings.Cut(left, ": ")
		if ok && !strings.HasPrefix(line, "#") {
			f.Add([]byte("2026-11-22T18:00:00.1+00:00 web " + tag + "[1]: " + msg))
		}
	}
}

func FuzzHeader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		h, ok := parse.Header(line, at("2026-11-22T18:00:10Z"))
		if ok && !strings.HasSuffix(string(line), string(h.Msg)) {
			t.Errorf("message %q is not the end of %q", h.Msg, line)
		}
		if strings.ContainsAny(h.Host, " ") || strings.ContainsAny(h.Tag, " ") {
			t.Errorf("spaces in %+v", h)
		}
	})
}

func FuzzLine(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		e := parse.Line(line, at("2026-11-22T18:00:10Z"))
		var p parse.Parser
		again := p.Line(line, at("2026-11-22T18:00:10Z"))
		if (again.Kind == event.AuthFailed) != (again.Attempts > 0) || again.Source != e.Source {
			t.Errorf("Parser.Line reads %+v", again)
		}
		if again != e && again.Method != "keyboard-interactive/pam" {
			t.Errorf("Parser.Line differs: %+v, %+v", again, e)
		}
		if e.Source.Is4In6() || e.Source.Zone() != "" {
			t.Errorf("source %s is not canonical", e.Source)
		}
		if (e.Kind == event.AuthFailed) != (e.Attempts > 0) {
			t.Errorf("%s with %d attempts", e.Kind, e.Attempts)
		}
		if e.Kind == "" || len(e.Account) > 512 {
			t.Errorf("%+v", e)
		}
		// A line whose text only went through more quoting can't name another source.
		if e.Kind == event.AuthFailed && e.Source.Is4() && !strings.Contains(string(line), e.Source.String()) {
			t.Errorf("source %s does not stand in %q", e.Source, line)
		}
		_ = parse.Escape(string(line))
	})
}
