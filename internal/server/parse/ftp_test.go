package parse_test

import (
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// ftpFormatsOf are the formats of a server's own log.
func ftpFormatsOf(server string) map[string]string {
	if server == "pureftpd" {
		server = "pure-ftpd"
	}
	return map[string]string{"native": server}
}

// TestRealFTPServers holds what real servers wrote against what their clients know that they did.
func TestRealFTPServers(t *testing.T) {
	t.Parallel()
	for _, s := range scenesOf(t, "ftp", 9, 450) {
		want := tally{guesses: s.guesses, logins: s.logins}
		switch {
		case strings.HasSuffix(s.title, ": another protocol") && s.server != "vsftpd":
			want.probes = 1
		case s.server == "vsftpd" && strings.Contains(s.title, `hostile user "x] FAIL DELETE`):
			want.guesses = 0 // may be the name of a file that was deleted
		case s.server == "pureftpd" && strings.HasSuffix(s.title, ": a name"):
			want.unsourced = s.guesses
		case s.server == "pureftpd" && strings.HasSuffix(s.title, ": a name that is an address"):
			continue // see TestNamesOfPeers
		}
		order := append(s.only("native"), s.only("syslog")...)
		lines := asSyslog(t, order, ftpFormatsOf(s.server))
		s.expect(t, "all", s.read(t, lines), want, lines)
	}
}

// TestNamesOfPeers: where a server writes names for addresses, one that looks like an address names nobody.
func TestNamesOfPeers(t *testing.T) {
	t.Parallel()
	tested := map[string]int{}
	for _, folder := range []string{"http", "ftp"} {
		var before [][]byte
		for _, s := range scenesOf(t, folder, 6, 400) {
			formats := ftpFormatsOf(s.server)
			if folder == "http" {
				formats = httpFormatsOf(s.server)
			}
			lines := asSyslog(t, s.lines, formats)
			if strings.HasSuffix(s.title, ": a name") {
				before = lines
			}
			if !strings.HasSuffix(s.title, ": a name that is an address") || s.server == "proftpd" {
				continue
			}
			tested[s.server]++
			var p parse.Parser
			for _, line := range before {
				p.Line(line, capturedAt())
			}
			guesses := 0
			for _, line := range lines {
				e := p.Line(line, capturedAt())
				if guesses += e.Attempts; e.Source.IsValid() {
					t.Errorf("%s: blames %s: %s", s.title, e.Source, line)
				}
			}
			if guesses != s.guesses {
				t.Errorf("%s: read %d guesses, made %d", s.title, guesses, s.guesses)
			}
		}
	}
	if tested["pureftpd"] != 3 || tested["apache"] != 3 {
		t.Errorf("tested %v", tested)
	}
}
