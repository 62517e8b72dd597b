package ftplog_test

import (
	"testing"

	"github.com/kokkuri/kokkuri/internal/native/ftplog"
)

func TestEntries(t *testing.T) {
	t.Parallel()
	const peer = "203.0.113.66"
	for _, c := range []struct {
		read     func([]byte) (ftplog.Entry, bool)
		line     string
		what     ftplog.What
		peer     string
		user     string
		notKnown bool
	}{
		{read: ftplog.Vsftpd, line: `CONNECT: Client "203.0.113.66"`, what: ftplog.Around, peer: peer},
		{read: ftplog.Vsftpd, line: `CONNECT: Client "203.0.113.66", "Connection refused: tcp_wrappers denial."`, what: ftplog.Around, peer: peer},
		{read: ftplog.Vsftpd, line: `[a] OK LOGIN: Client "203.0.113.66"`, what: ftplog.OK, peer: peer, user: "a"},
		{read: ftplog.Vsftpd, line: `[a] FAIL LOGIN: Client "203.0.113.66", "User is not in the allow user list."`, what: ftplog.Refused, peer: peer, user: "a"},
		{read: ftplog.Vsftpd, line: `[a] OK DOWNLOAD: Client "203.0.113.66", "/x", 12 bytes, 0.10Kbyte/sec`, what: ftplog.Other, peer: peer, user: "a"},
		{read: ftplog.Vsftpd, line: `FTP command: Client "203.0.113.66", "USER a"`, what: ftplog.Other, peer: peer},
		{read: ftplog.Vsftpd, line: `[a] OK LOGIN: Client "203.0.113.66" and more`, notKnown: true},
		{read: ftplog.Vsftpd, line: `FAIL LOGIN: Client "203.0.113.66"`, notKnown: true},
		{read: ftplog.Vsftpd, line: `[a] FAIL LOGIN: Client "203.0.113.66`, notKnown: true},
		{read: ftplog.Vsftpd, line: `[a`, notKnown: true},
		{read: ftplog.Proftpd, line: `web (203.0.113.66[203.0.113.66]) - FTP session opened.`, what: ftplog.Around, peer: peer},
		{read: ftplog.Proftpd, line: `web (203.0.113.66[203.0.113.66]): client sent HTTP command 'GET', disconnecting`, what: ftplog.Probe, peer: peer},
		{read: ftplog.Proftpd, line: `web (203.0.113.66[203.0.113.66]) USER a: Login successful.`, notKnown: true},
		{read: ftplog.Proftpd, line: `web (x[y]) - USER a: Login successful.`, notKnown: true},
		{read: ftplog.Proftpd, line: `notice: 'web' (203.0.113.66[203.0.113.66]) - x`, notKnown: true},
		{read: ftplog.Pureftpd, line: `(?@203.0.113.66) [INFO] a b is now logged in`, what: ftplog.OK, peer: peer, user: "a b"},
		{read: ftplog.Pureftpd, line: `(?@203.0.113.66) [INFO] HTTP command: [get]`, what: ftplog.Probe, peer: peer},
		{read: ftplog.Pureftpd, line: `(alice@203.0.113.66) [NOTICE] /x uploaded`, what: ftplog.Other, peer: peer},
		{read: ftplog.Pureftpd, line: `(x y) [INFO] z`, notKnown: true},
		{read: ftplog.Pureftpd, line: `pam_unix(pure-ftpd:auth): check pass; user unknown`, what: ftplog.Around},
	} {
		e, ok := c.read([]byte(c.line))
		if ok == c.notKnown || ok && (e.What != c.what || string(e.Peer) != c.peer || string(e.User) != c.user) {
			t.Errorf("%s: %d, peer %q, user %q, %v", c.line, e.What, e.Peer, e.User, ok)
		}
	}
}
