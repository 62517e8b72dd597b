package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// dovecotMessage reads a message of Dovecot 2.3 and 2.4. Its login processes state at the end of a connection how many
// guesses there were; what its auth processes say of each restates them. A login before which guesses failed does not
// tell of them.
func dovecotMessage(msg *message) fact {
	m := trimLeft(msg.text)
	process, rest, ok := bytes.Cut(m, []byte(": "))
	if !ok {
		return fact{}
	}
	switch string(process) {
	case "imap-login", "pop3-login", "managesieve-login", "sieve-login":
		return dovecotLogin(rest)
	case "submission-login":
		f := dovecotLogin(rest)
		f.service = event.SMTP
		return f
	case "auth", "auth-worker":
		return fact{kind: event.Context}
	}
	if bytes.HasPrefix(process, []byte("auth-worker(")) || bytes.HasPrefix(process, []byte("auth(")) {
		return fact{kind: event.Context}
	}
	return fact{}
}

// dovecotLogin reads "WHAT: user=<X>, method=M, rip=A, lip=B, …", WHAT being Dovecot's own words:
//
//	Login                                                                        2.3
//	Logged in                                                                    2.4
//	Disconnected: Connection closed (auth failed, 3 attempts in 10 secs)         2.3
//	Aborted login by logging out (auth failed, 1 attempts in 2 secs)             2.3
//	Login aborted: Logged out (auth failed, 2 attempts in 9 secs) (auth_failed)  2.4
//	Disconnected (no auth attempts in 0 secs)
//	proxy(X): started proxying to HOST
func dovecotLogin(b []byte) fact {
	b, _ = cut(b, "Info: ")
	what, rest, ok := bytes.Cut(b, []byte("user=<"))
	if !ok {
		return fact{kind: event.Context}
	}
	f := dovecotFields(rest)
	f.kind, f.closed = event.Context, true
	switch {
	case string(what) == "Login: ", string(what) == "Logged in: ":
		f.kind, f.closed = event.AuthOK, false
	case bytes.HasPrefix(what, []byte("proxy(")):
		f.closed = false
		if bytes.Contains(what, []byte("): started proxying to ")) {
			f.kind = event.AuthOK
		}
	default:
		dovecotAttempts(&f, what)
	}
	return f
}

// dovecotAttempts reads "(auth failed, N attempts in S secs)" and "(no auth attempts in S secs)".
func dovecotAttempts(f *fact, what []byte) {
	const failed = "(auth failed, "
	if _, counts, ok := bytes.Cut(what, []byte(failed)); ok {
		digits, rest := word(counts)
		n, ok := number(digits)
		if ok && len(digits) <= 6 && n > 0 && bytes.HasPrefix(rest, []byte("attempt")) {
			f.kind, f.attempts = event.AuthFailed, n
		}
		return
	}
	if bytes.Contains(what, []byte("(no auth attempts")) {
		f.kind = event.Probe
	}
}

// dovecotFields reads "X>, method=M, rip=A, lip=B, …". After rip nothing is a client's, so that the last one is true,
// whatever X contains.
func dovecotFields(b []byte) fact {
	var f fact
	i := lastIndex(b, ", rip=")
	if i < 0 {
		return f
	}
	rip, _, _ := bytes.Cut(b[i+len(", rip="):], []byte(","))
	f.source, _ = address(rip)
	b = b[:i]
	if j := lastIndex(b, ", method="); j >= 0 && len(b)-j <= len(", method=")+maxMethod {
		b, f.method = b[:j], b[j+len(", method="):]
	}
	f.account, _ = cutEnd(b, ">")
	return f
}
