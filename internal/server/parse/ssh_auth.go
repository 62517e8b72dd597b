package parse

import (
	"bytes"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// sshFailed reads "METHOD for [invalid user ]X from A port P ssh2[: INFO]" (auth_log in auth.c).
// Passwords and answers to prompts are guesses; refused keys, the opening "none", and
// keyboard-interactive without a device (nothing was asked) are not.
func sshFailed(b []byte) fact {
	method, rest, ok := methodFor(b)
	if !ok {
		return fact{}
	}
	if isGuess(method) {
		user, p, ok := authAtEnd(rest)
		if !ok {
			return fact{}
		}
		return fact{kind: event.AuthFailed, source: p.addr, port: p.port, account: user, method: method, attempts: 1}
	}
	f := fact{kind: event.Context, method: method}
	f.account, f.source, f.port = authAnywhere(rest, false)
	return f
}

// sshAccepted reads the same form after "Accepted ", and "key …" and "certificate …", which precede a login.
func sshAccepted(b []byte) fact {
	if w, _ := word(b); string(w) == "key" || string(w) == "certificate" {
		return fact{kind: event.Context}
	}
	method, rest, ok := methodFor(b)
	if !ok {
		return fact{}
	}
	if user, p, ok := authAtEnd(rest); ok && (isGuess(method) || string(method) == "none") {
		return fact{kind: event.AuthOK, source: p.addr, port: p.port, account: user, method: method}
	}
	f := fact{kind: event.AuthOK, method: method}
	f.account, f.source, f.port = authAnywhere(rest, true)
	if f.account == nil {
		return fact{}
	}
	return f
}

// sshOtherAuth reads the same form after "Postponed " and "Partial ".
func sshOtherAuth(b []byte) fact {
	method, rest, ok := methodFor(b)
	if !ok {
		return fact{}
	}
	f := fact{kind: event.Context, method: method}
	f.account, f.source, f.port = authAnywhere(rest, false)
	return f
}

// methodFor cuts "METHOD for " off; a method is one word.
func methodFor(b []byte) (method, rest []byte, ok bool) {
	method, rest = word(b)
	if len(method) == 0 || len(method) > 64 {
		return nil, nil, false
	}
	rest, ok = cut(rest, "for ")
	return method, rest, ok
}

// isGuess says whether a failure by this method was a guess at a secret.
func isGuess(method []byte) bool {
	switch string(method) {
	case "password", "challenge-response", "keyboard-interactive/pam", "keyboard-interactive/bsdauth":
		return true
	}
	_, ok := cut(method, "keyboard-interactive/")
	return ok
}

// authAtEnd reads "[invalid user ]X from A port P ssh2" where nothing may follow: sshd wrote the end.
func authAtEnd(b []byte) (user []byte, p peer, ok bool) {
	b, ok = cutEnd(b, " ssh2")
	if !ok {
		return nil, peer{}, false
	}
	before, p, ok := peerAtEnd(b)
	if !ok {
		return nil, peer{}, false
	}
	user, ok = cutEnd(before, " from")
	if !ok {
		return nil, peer{}, false
	}
	user = trimInvalid(user)
	if len(user) > maxUser {
		return nil, peer{}, false
	}
	return user, p, true
}

// authAnywhere reads "[invalid user ]X from A port P ssh2[: INFO]" of methods with INFO (a key's
// fingerprint, a certificate's id, a Kerberos principal). There text of others stands on both sides of
// the address: X before it and, in certificates, an id after it.
//
// A user who got in exists, and names of accounts don't contain " from A port P ssh2": the first place
// that has the form is the right one (accepted). Otherwise a plain key, whose INFO is two words,
// or no INFO decides by the end of the line; else the only place that has the form; else none.
func authAnywhere(b []byte, accepted bool) (user []byte, source netip.Addr, port uint16) {
	const from = " from "
	var firstAt, lastAt place
	count := 0
	for i := indexFrom(b, from, 0); i >= 0; i = indexFrom(b, from, i+1) {
		p, info, ok := peerAtStart(b[i+len(from):])
		if !ok {
			continue
		}
		if info, ok = cut(info, " ssh2"); !ok || len(info) > 0 && info[0] != ':' {
			continue
		}
		lastAt = place{i, p, info}
		if count == 0 {
			firstAt = lastAt
		}
		count++
		if accepted || count > 16 {
			break
		}
	}
	switch {
	case count == 0:
		return nil, netip.Addr{}, 0
	case accepted || count == 1:
		return trimInvalid(b[:firstAt.at]), firstAt.addr, firstAt.port
	case count <= 16 && len(b) <= maxKeyLine && (len(lastAt.info) == 0 || plainKey(lastAt.info)):
		return trimInvalid(b[:lastAt.at]), lastAt.addr, lastAt.port
	}
	return nil, netip.Addr{}, 0
}

// place is where the form was found.
type place struct {
	at int
	peer
	info []byte
}

// plainKey says whether INFO is ": TYPE HASH:FINGERPRINT" to the end.
func plainKey(info []byte) bool {
	info, ok := cut(info, ": ")
	if !ok {
		return false
	}
	_, hash := word(info)
	return (bytes.HasPrefix(hash, []byte("SHA256:")) || bytes.HasPrefix(hash, []byte("MD5:"))) &&
		bytes.IndexByte(hash, ' ') < 0
}

// sshInvalidUser reads "X from A[ port P]".
func sshInvalidUser(b []byte) fact {
	user, p, ok := fromAtEnd(b)
	if !ok {
		return sshNamedOnly(b)
	}
	return contextOf(p, user)
}

// sshMaximum reads "[invalid user ]X from A port P ssh2".
func sshMaximum(b []byte) fact {
	user, p, ok := authAtEnd(b)
	if !ok {
		return fact{kind: event.Context}
	}
	return contextOf(p, user)
}

// sshPAMError reads "REASON for [illegal user ]X from A" (auth-pam.c), the first line of a guess at PAM's
// prompt (see twins) unless the password was right and something has expired.
func sshPAMError(b []byte) fact {
	reason, rest, ok := bytes.Cut(b, []byte(" for "))
	if more, again := cut(rest, "service for "); again { // "Have exhausted maximum number of retries for service for X"
		rest = more
	}
	if !ok {
		return fact{kind: event.Context}
	}
	user, p, ok := fromAtEnd(rest)
	if !ok {
		return fact{kind: event.Context}
	}
	user, unknown := cut(user, "illegal user ")
	f := contextOf(p, user)
	switch {
	case bytes.Contains(reason, []byte("expired")):
	case unknown:
		f.first = firstOfUnknown
	default:
		f.first = firstOfKnown
	}
	return f
}

// sshPAMMore reads "N more authentication failure[s]; logname= … rhost=A [ user=X]" and "service(sshd)
// ignoring max retries; …".
func sshPAMMore(b []byte) fact {
	if i := bytes.Index(b, []byte("; logname=")); i >= 0 && i < len("99999 more authentication failures") {
		return pamFields(b[i+len("; "):])
	}
	if _, ok := cut(b, "service(sshd)"); ok {
		return fact{kind: event.Context}
	}
	return fact{}
}

// sshPAMModule reads "unix(sshd:auth): authentication failure; logname= … rhost=A  user=X",
// "unix(sshd:auth): check pass; user unknown" and the like of any module.
func sshPAMModule(b []byte) fact {
	i := bytes.IndexByte(b, '(')
	if i < 0 || bytes.IndexByte(b[:i], ' ') >= 0 {
		return fact{}
	}
	rest, ok := cut(b[i:], "(sshd:")
	if !ok {
		return fact{}
	}
	_, rest, ok = bytes.Cut(rest, []byte("): "))
	if !ok {
		return fact{}
	}
	if rest, ok = cut(rest, "authentication failure; "); ok {
		return pamFields(rest)
	}
	return fact{kind: event.Context}
}

// pamFields reads "logname=L uid=0 euid=0 tty=ssh ruser=R rhost=A[  user=X]". sshd sets no ruser, and
// nothing before rhost is the client's; user is last.
func pamFields(b []byte) fact {
	f := fact{kind: event.Context}
	i := indexFrom(b, " rhost=", 0)
	if i < 0 {
		return f
	}
	host, rest := word(b[i+len(" rhost="):])
	f.source, _ = address(host)
	if user, ok := cut(trimLeft(rest), "user="); ok {
		f.account = user
	}
	return f
}
