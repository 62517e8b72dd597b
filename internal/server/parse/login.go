package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// loginMessage reads a message of login(1): shadow's (Debian 12 and before) and util-linux' (13). Both name the host before
// the user, so that the beginning decides. telnetd hands the host over, as a name where the address has one; then
// there is no address. At a terminal of the machine itself there is no source: nothing counts.
func loginMessage(msg *message) fact {
	m := trimLeft(msg.text)
	if len(m) == 0 {
		return fact{}
	}
	switch m[0] {
	case 'F':
		return first(m, entry{"FAILED LOGIN (", shadowFailed}, entry{"FAILED LOGIN ", utilFailed})
	case 'T':
		return after(m, "TOO MANY LOGIN TRIES (", loginTooMany)
	case 'R':
		return after(m, "ROOT LOGIN ", loginRoot)
	case 'L':
		return after(m, "LOGIN ON ", loginOn)
	case 'i':
		return after(m, "invalid password for '", shadowInvalid)
	case '\'':
		return shadowLoggedIn(m[1:])
	case 'D':
		return after(m, "DIALUP AT ", sshContextOnly)
	case 'p':
		return after(m, "pam_", loginPAM)
	case 'P':
		return after(m, "PAM ", sshContextOnly)
	}
	return fact{}
}

// telnetdMessage reads what telnetd says: nothing of it is an attempt.
func telnetdMessage(*message) fact { return fact{kind: event.Context} }

func loginGuess(host, user []byte) fact {
	if localTerminal(host) {
		return fact{kind: event.Context, account: user}
	}
	addr, _ := address(host)
	return fact{kind: event.AuthFailed, source: addr, account: user, means: "password", attempts: 1, part: guessInside}
}

// localTerminal says whether there is no host but a terminal, or nothing.
func localTerminal(host []byte) bool {
	if len(host) == 0 {
		return true
	}
	for _, prefix := range [...]string{"/dev/", "tty", "pts/", "console"} {
		if _, ok := cut(host, prefix); ok {
			return true
		}
	}
	return false
}

// shadowFailed reads "N) on 'TTY'[ from 'A'] FOR 'X', REASON".
func shadowFailed(b []byte) fact {
	host, rest, ok := shadowPlace(afterNumber(b))
	if !ok {
		return fact{}
	}
	rest, ok = cut(rest, " FOR '")
	i := lastIndex(rest, "', ")
	if !ok || i < 0 {
		return fact{}
	}
	return loginGuess(host, knownName(rest[:i]))
}

// shadowInvalid reads "X' on 'TTY'[ from 'A']" of a login that was built without PAM. Here the name stands first, but
// the host ends the message.
func shadowInvalid(b []byte) fact {
	i := lastIndex(b, "' on '")
	if i < 0 {
		return fact{}
	}
	host, rest, ok := shadowPlace(b[i+1:])
	if !ok || len(rest) > 0 {
		return fact{}
	}
	return loginGuess(host, knownName(b[:i]))
}

// shadowLoggedIn reads "X' logged in on 'TTY'[ from 'A']".
func shadowLoggedIn(b []byte) fact {
	user, place, ok := bytes.Cut(b, []byte("' logged in"))
	if !ok {
		return fact{}
	}
	host, _, ok := shadowPlace(place)
	return loginDone(host, user, ok)
}

func loginDone(host, user []byte, ok bool) fact {
	switch {
	case !ok:
		return fact{}
	case localTerminal(host):
		return fact{kind: event.Context, account: user}
	}
	addr, _ := address(host)
	return fact{kind: event.AuthOK, source: addr, account: user, means: "password"}
}

// shadowPlace reads " on 'TTY'[ from 'A']".
func shadowPlace(b []byte) (host, rest []byte, ok bool) {
	b = trimLeft(b)
	b, ok = cut(b, "on '")
	_, rest, found := bytes.Cut(b, []byte("'"))
	if !ok || !found {
		return nil, nil, false
	}
	if from, ok := cut(rest, " from '"); ok {
		host, rest, ok = bytes.Cut(from, []byte("'"))
		return host, rest, ok
	}
	return nil, rest, true
}

// afterNumber skips "N)" .
func afterNumber(b []byte) []byte {
	digits, rest, ok := bytes.Cut(b, []byte(")"))
	if _, isNumber := number(digits); !ok || !isNumber {
		return nil
	}
	return rest
}

// knownName is empty where login does not write what was typed: it may have been a password.
func knownName(b []byte) []byte {
	if string(b) == "UNKNOWN" {
		return nil
	}
	return b
}

// utilFailed reads "N FROM A FOR X, REASON" and "SESSION FROM A FOR X, REASON". The second states the last guess of a
// connection, or that something else went wrong.
func utilFailed(b []byte) fact {
	w, rest := word(b)
	session := string(w) == "SESSION"
	if _, ok := number(w); !ok && !session {
		return fact{}
	}
	host, user, reason, ok := utilPlace(rest)
	if !ok {
		return fact{}
	}
	if session && !refused(reason) {
		return fact{kind: event.Context, account: user}
	}
	return loginGuess(host, user)
}

// refused says whether PAM's reason is about a secret.
func refused(reason []byte) bool {
	switch string(reason) {
	case "Authentication failure", "User not known to the underlying authentication module", "Permission denied",
		"Insufficient credentials to access authentication data", "Have exhausted maximum number of retries for service":
		return true
	}
	return false
}

// utilPlace reads "FROM A FOR X, REASON".
func utilPlace(b []byte) (host, user, reason []byte, ok bool) {
	b, ok = cut(b, "FROM ")
	host, rest := word(b)
	rest, ok2 := cut(rest, "FOR ")
	i := lastIndex(rest, ", ")
	if !ok || !ok2 || i < 0 {
		return nil, nil, nil, false
	}
	return host, rest[:i], rest[i+2:], true
}

// loginTooMany reads "N) on 'TTY'[ from 'A'] FOR 'X'", which restates the last guess, and util-linux' "N) FROM A FOR X,
// REASON", which states it.
func loginTooMany(b []byte) fact {
	rest := trimLeft(afterNumber(b))
	if host, user, _, ok := utilPlace(rest); ok {
		return loginGuess(host, user)
	}
	host, rest, ok := shadowPlace(rest)
	if !ok {
		return fact{}
	}
	f := fact{kind: event.Context}
	f.source, _ = address(host)
	if user, ok := cut(rest, " FOR '"); ok {
		user, _ = cutEnd(user, "'")
		f.account = knownName(user)
	}
	return f
}

// loginRoot reads " on 'TTY'[ from 'A']" and "ON TTY[ FROM A]".
func loginRoot(b []byte) fact {
	root := []byte(nil)
	if host, rest, ok := shadowPlace(b); ok && len(rest) == 0 {
		f := loginDone(host, root, true)
		return f
	}
	rest, ok := cut(b, "ON ")
	if !ok {
		return fact{}
	}
	_, rest = word(rest)
	host, _ := cut(rest, "FROM ")
	return loginDone(host, root, true)
}

// loginOn reads "TTY BY X[ FROM A]" : X was let in, and so names an account.
func loginOn(b []byte) fact {
	_, rest := word(b)
	rest, ok := cut(rest, "BY ")
	user, rest := word(rest)
	host, _ := cut(rest, "FROM ")
	return loginDone(host, user, ok)
}

// loginPAM reads what PAM says of a login that login itself states, or, of one that succeeded, may not.
func loginPAM(b []byte) fact {
	_, rest, ok := bytes.Cut(b, []byte("): "))
	if !ok {
		return fact{}
	}
	user, ok := cut(rest, "session opened for user ")
	if !ok {
		return fact{kind: event.Context}
	}
	user, _ = word(user)
	user, _, _ = bytes.Cut(user, []byte("("))
	if string(user) == "root" { // there is a line of its own for root
		return fact{kind: event.Context, account: user}
	}
	return fact{kind: event.Context, account: user, part: loginInside}
}
