package parse

import (
	"bytes"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// programOfPAM is the program behind a message of PAM that comes under a tag which is not known otherwise. Where the PAM service
// is that of a program which states its guesses itself, the message restates; else it is all that there is.
func programOfPAM(m []byte) program {
	switch {
	case len(m) < len("PAM 1 more"):
		return program{}
	case string(m[:4]) == "pam_":
		service, rest, ok := pamService(m)
		if !ok || !bytes.HasPrefix(rest, []byte("auth")) && !bytes.HasPrefix(rest, []byte("check pass")) {
			return program{}
		}
		if s := serviceOfPAM(service); s != "" {
			return program{service: s, read: pamTwin, uid: "0"}
		}
	case string(m[:4]) == "PAM ":
		if i := bytes.Index(m, []byte(" more authentication failure")); i < 0 || i > len("PAM 99999") {
			return program{}
		}
	default:
		return program{}
	}
	return program{service: event.PAM, read: pamMessage, uid: "0"}
}

// serviceOfPAM names the service of those that ask PAM under this name and say themselves what came of it.
func serviceOfPAM(pamService []byte) event.Service {
	switch string(pamService) {
	case "sshd", "dropbear":
		return event.SSH
	case "login", "remote":
		return event.Telnet
	case "dovecot", "imap", "pop3":
		return event.IMAP
	case "smtp", "smtpd", "submission":
		return event.SMTP
	case "vsftpd", "proftpd", "pure-ftpd", "ftp":
		return event.FTP
	case "postgresql":
		return event.Postgres
	case "mysql", "mariadb":
		return event.MySQL
	}
	return ""
}

func pamTwin(msg *message) fact {
	f := pamMessage(msg)
	f.kind, f.attempts = event.Context, 0
	return f
}

// pamService reads "pam_MODULE(SERVICE:auth): REST".
func pamService(m []byte) (service, rest []byte, ok bool) {
	i := bytes.IndexByte(m, '(')
	if i < 0 || bytes.IndexByte(m[:i], ' ') >= 0 {
		return nil, nil, false
	}
	j := indexFrom(m, ":auth): ", i)
	if j < 0 || bytes.IndexByte(m[i:j], ' ') >= 0 {
		return nil, nil, false
	}
	return m[i+1 : j], m[j+len(":auth): "):], true
}

// pamMessage reads what PAM's modules say of attempts (pam_unix's support.c and pam_unix_auth.c, pam_sss.c):
//
//	pam_unix(SERVICE:auth): authentication failure; logname=L uid=0 euid=0 tty=T ruser=R rhost=A  user=X
//	PAM N more authentication failures; logname=L uid=0 euid=0 tty=T ruser=R rhost=A  user=X
//	pam_sss(SERVICE:auth): authentication success; … rhost=A user=X
//
// The first states the first guess of a connection and the second the others. A failure without rhost is one at the machine
// itself. Other modules of a stack restate what pam_unix stated.
func pamMessage(msg *message) fact {
	m := trimLeft(msg.text)
	if more, ok := cut(m, "PAM "); ok {
		digits, rest := word(more)
		n, ok := number(digits)
		if !ok || len(digits) > 5 || n < 1 {
			return fact{}
		}
		_, rest, ok = bytes.Cut(rest, []byte("; "))
		if !ok {
			return fact{}
		}
		return pamFailed(rest, n)
	}
	_, rest, ok := pamService(m)
	if !ok {
		return fact{}
	}
	if success, ok := cut(rest, "authentication success; "); ok && bytes.HasPrefix(m, []byte("pam_sss(")) {
		f := pamFailed(success, 0)
		if f.source.IsValid() {
			f.kind, f.means = event.AuthOK, "password"
		}
		return f
	}
	failure, ok := cut(rest, "authentication failure; ")
	switch {
	case !ok:
		return fact{kind: event.Context}
	case bytes.HasPrefix(m, []byte("pam_unix(")):
		return pamFailed(failure, 1)
	}
	return pamFailed(failure, 0)
}

// pamFailed reads the fields of n guesses. Before rhost stands ruser and after it user, both a client's in some programs: where
// more than one place looks like rhost there is no source.
func pamFailed(b []byte, n int) fact {
	const rhost = " rhost="
	f := fact{kind: event.Context}
	i := indexFrom(b, rhost, 0)
	if i < 0 {
		return f
	}
	host, rest := word(b[i+len(rhost):])
	if len(host) == 0 {
		return f
	}
	if user, ok := cut(trimLeft(rest), "user="); ok {
		f.account = user
	}
	f.source, _ = address(host)
	if indexFrom(b, rhost, i+1) >= 0 {
		f.source, f.account = netip.Addr{}, nil
	}
	if n > 0 {
		f.kind, f.attempts, f.means = event.AuthFailed, n, "password"
	}
	return f
}
