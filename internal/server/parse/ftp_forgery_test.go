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

// TestForgedFTPLines: 198.51.100.9 is never read; what else is, the right side says.
func TestForgedFTPLines(t *testing.T) {
	t.Parallel()
	const peer = "203.0.113.66"
	for _, c := range []struct {
		name, tag, line string
		kind            event.Kind
		source          bool // the peer's
		account         string
	}{
		{"vsftpd, plain", "vsftpd", `[root] FAIL LOGIN: Client "203.0.113.66"`, event.AuthFailed, true, "root"},
		{"vsftpd, mapped", "vsftpd", `[root] FAIL LOGIN: Client "::ffff:203.0.113.66"`, event.AuthFailed, true, "root"},
		{"vsftpd, repeated", "vsftpd", `message repeated 3 times: [ [root] FAIL LOGIN: Client "203.0.113.66"]`, event.AuthFailed, true, "root"},
		{"vsftpd, a line as name", "vsftpd", `[x] FAIL LOGIN: Client "198.51.100.9"] FAIL LOGIN: Client "203.0.113.66"`, event.AuthFailed, true, `x] FAIL LOGIN: Client "198.51.100.9"`},
		{"vsftpd, an open quote as name", "vsftpd", `[x] FAIL LOGIN: Client "198.51.100.9] FAIL LOGIN: Client "203.0.113.66"`, event.AuthFailed, true, `x] FAIL LOGIN: Client "198.51.100.9`},
		{"vsftpd, a deletion as name", "vsftpd", `[x] FAIL DELETE: Client "198.51.100.9", "] FAIL LOGIN: Client "203.0.113.66"`, event.Context, false, ""},
		{"vsftpd, a login as file", "vsftpd", `[alice] FAIL DELETE: Client "203.0.113.66", "/x] FAIL LOGIN: Client "198.51.100.9"`, event.Context, false, ""},
		{"vsftpd, a login as file with sizes", "vsftpd", `[alice] OK UPLOAD: Client "203.0.113.66", "/x] FAIL LOGIN: Client "198.51.100.9"", 12 bytes, 0.10Kbyte/sec`, event.None, false, "alice"},
		{"vsftpd, a login as command", "vsftpd", `[alice] FTP command: Client "203.0.113.66", "DELE x] FAIL LOGIN: Client "198.51.100.9"`, event.Context, false, ""},
		{"vsftpd, a login as anonymous password", "vsftpd", `[ftp] OK LOGIN: Client "203.0.113.66", anon password "x] FAIL LOGIN: Client "198.51.100.9"`, event.Context, false, ""},
		{"vsftpd, anonymous", "vsftpd", `[ftp] OK LOGIN: Client "203.0.113.66", anon password "me@example.org"`, event.AuthOK, true, "ftp"},
		{"vsftpd, a name as peer", "vsftpd", `[root] FAIL LOGIN: Client "198.51.100.9.example.org"`, event.None, false, ""},
		{"vsftpd, list of users", "vsftpd", `[root] FAIL LOGIN: Client "203.0.113.66", "User is in the deny user list."`, event.Probe, true, "root"},
		{"vsftpd, PAM", "vsftpd", `pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=x rhost=198.51.100.9 rhost=203.0.113.66`, event.Context, false, ""},
		{"ProFTPD, plain", "proftpd", `web (203.0.113.66[203.0.113.66]) - USER root (Login failed): Incorrect password`, event.AuthFailed, true, "root"},
		{"ProFTPD, named", "proftpd", `web (198.51.100.9.example.org[203.0.113.66]) - USER root (Login failed): Incorrect password`, event.AuthFailed, true, "root"},
		{"ProFTPD, named as an address", "proftpd", `web (198.51.100.9[203.0.113.66]) - USER root (Login failed): Incorrect password`, event.AuthFailed, true, "root"},
		{"ProFTPD, a line as name", "proftpd", `web (203.0.113.66[203.0.113.66]) - USER web (198.51.100.9[198.51.100.9]) - USER x: no such user found from 203.0.113.66 [203.0.113.66] to 203.0.113.10:21`, event.AuthFailed, true, "web (198.51.100.9[198.51.100.9]) - USER x"},
		{"ProFTPD, success as name", "proftpd", `web (203.0.113.66[203.0.113.66]) - USER x: Login successful.: no such user found from 203.0.113.66 [203.0.113.66] to 203.0.113.10:21`, event.AuthFailed, true, "x: Login successful."},
		{"ProFTPD, root", "proftpd", `web (203.0.113.66[203.0.113.66]) - SECURITY VIOLATION: root login attempted.`, event.AuthFailed, true, "root"},
		{"ProFTPD, success", "proftpd", `web (203.0.113.66[203.0.113.66]) - USER alice: Login successful.`, event.AuthOK, true, "alice"},
		{"ProFTPD, limit", "proftpd", `web (203.0.113.66[203.0.113.66]) - Maximum login attempts (3) exceeded, connection refused`, event.Context, true, ""},
		{"ProFTPD, PAM", "proftpd", `web (203.0.113.66[203.0.113.66]) - PAM(root): Authentication failure`, event.Context, true, ""},
		{"Pure-FTPd, plain", "pure-ftpd", `(?@203.0.113.66) [WARNING] Authentication failed for user [root]`, event.AuthFailed, true, "root"},
		{"Pure-FTPd, a line as name", "pure-ftpd", `(?@203.0.113.66) [WARNING] Authentication failed for user [(?@198.51.100.9) [WARNING] Authentication failed for user [root]]`, event.AuthFailed, true, "(?@198.51.100.9) [WARNING] Authentication failed for user [root]"},
		{"Pure-FTPd, a name as peer", "pure-ftpd", `(?@198.51.100.9.example.org) [WARNING] Authentication failed for user [root]`, event.AuthFailed, false, "root"},
		{"Pure-FTPd, transfer", "pure-ftpd", `203.0.113.66 - alice [22/Nov/2026:18:00:00 -0000] "PUT /home/alice/x" 200 12`, event.Context, true, "alice"},
		{"Pure-FTPd, cut", "pure-ftpd", `(?@203.0.113.66) [WARNING] Authentication failed for user [roo`, event.Context, true, ""},
	} {
		var want netip.Addr
		if c.source {
			want = netip.MustParseAddr(peer)
		}
		check := func(road string, e event.Event) {
			if e.Kind != c.kind || e.Source != want || e.Account != c.account && e.Kind != event.None {
				t.Errorf("%s %s: %s from %s with %q, want %s from %s with %q", c.name, road, e.Kind, e.Source, e.Account, c.kind, want, c.account)
			}
		}
		check("in syslog", parse.Line([]byte("2026-11-22T18:00:00Z web "+c.tag+"[1]: "+c.line), capturedAt()))
		check("by service", parse.Message(event.FTP, []byte(c.line)))
		switch c.tag {
		case "vsftpd":
			if !strings.HasPrefix(c.line, "message repeated") {
				check("in a file", parse.Message(event.FTP, []byte("Sun Nov 22 18:00:00 2026 [pid 2] "+c.line)))
			}
		case "proftpd":
			check("in a file", parse.Message(event.FTP, []byte("2026-11-22 18:00:00,123 web proftpd[1] "+strings.Replace(c.line, ") - ", "): ", 1))))
		}
	}
}

// hostileFTP draws what a client may send as a name or a file's.
func hostileFTP() *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{
			`] FAIL LOGIN: Client "198.51.100.9"`, `] FAIL LOGIN: Client "198.51.100.9`, `] OK LOGIN: Client "198.51.100.9", anon password "`, `] FAIL DELETE: Client "198.51.100.9", "`,
			`CONNECT: Client "198.51.100.9"`, `"`, `", "`, "]", "[", " (Login failed): ", ": no such user found from ", ": Login successful.", "web (198.51.100.9[198.51.100.9]) - USER x",
			"(?@198.51.100.9) [WARNING] ", "Authentication failed for user [root]", " is now logged in", ")", "(", "@198.51.100.9) [INFO] ", "\x1b[2J", "\xff", ` 12 bytes`, `Kbyte/sec`,
			"Sun Nov 22 18:00:00 2026 [pid 2] ", " rhost=198.51.100.9 ",
		}),
		rapid.StringN(0, 6, -1),
	)
	return rapid.Map(rapid.SliceOfN(piece, 0, 5), func(list []string) string {
		return strings.NewReplacer("\n", "?", "\r", "?").Replace(strings.Join(list, ""))
	})
}

// TestPeersOfFTPServersAreTheTrueOnes: whatever a client sends, the source that is read is its own or none.
func TestPeersOfFTPServersAreTheTrueOnes(t *testing.T) {
	t.Parallel()
	// %[1]s is the client's text, %[2]s its address.
	for _, form := range []string{
		`[%[1]s] FAIL LOGIN: Client "%[2]s"`, `[alice] OK DELETE: Client "%[2]s", "/%[1]s"`, `[ftp] OK LOGIN: Client "%[2]s", anon password "%[1]s"`,
		`[alice] OK UPLOAD: Client "%[2]s", "/%[1]s", 12 bytes, 0.10Kbyte/sec`, `[alice] FTP command: Client "%[2]s", "%[1]s"`,
		`Sun Nov 22 18:00:00 2026 [pid 2] [%[1]s] FAIL LOGIN: Client "%[2]s"`,
		`web (%[2]s[%[2]s]) - USER %[1]s: no such user found from %[2]s [%[2]s] to 203.0.113.10:21`, `web (%[2]s[%[2]s]): USER %[1]s (Login failed): Incorrect password`,
		`2026-11-22 18:00:00,123 web proftpd[7] web (%[2]s[%[2]s]): USER %[1]s: no such user found from %[2]s [%[2]s] to 203.0.113.10:21`,
		`(?@%[2]s) [WARNING] Authentication failed for user [%[1]s]`, `(alice@%[2]s) [NOTICE] Deleted %[1]s`,
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				source, _ := drawPeer(t)
				msg := fmt.Sprintf(form, hostileFTP().Draw(t, "text"), source)
				if e := parse.Message(event.FTP, []byte(msg)); e.Source.IsValid() && e.Source != source {
					t.Fatalf("read %s from %q", e.Source, msg)
				}
			})
		})
	}
}
