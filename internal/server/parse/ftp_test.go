package parse_test

import (
	"strings"
	"testing"
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
		case s.server == "pureftpd" && strings.Contains(s.title, "a name"):
			want.unsourced = s.guesses
		}
		order := append(s.only("native"), s.only("syslog")...)
		lines := asSyslog(t, order, ftpFormatsOf(s.server))
		s.expect(t, "all", s.read(t, lines), want, lines)
	}
}
