package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// isPostfix says whether a tag is that of an smtpd of Postfix, which has a syslog_name of its own in every instance and service.
func isPostfix(tag []byte) bool {
	return len(tag) > 0 && tag[0] == 'p' && bytes.HasPrefix(tag, []byte("postfix")) && bytes.HasSuffix(tag, []byte("/smtpd"))
}

// postfixMessage reads a message of Postfix' smtpd, 3.5 to 3.10. A client is written NAME[ADDRESS], NAME being what the address
// resolves to and back; it stands before all that a client says, and has no bracket in it.
func postfixMessage(msg *message) fact {
	m := trimLeft(msg.text)
	if len(m) == 0 {
		return fact{}
	}
	switch m[0] {
	case 'w':
		return after(m, "warning: ", postfixWarning)
	case 'c':
		return after(m, "connect from ", postfixAbout)
	case 'd':
		return after(m, "disconnect from ", postfixEnd)
	case 'l', 't', 'i':
		return first(m, entry{"lost connection after ", postfixAfter}, entry{"timeout after ", postfixAfter},
			entry{"too many errors after ", postfixAfter}, entry{"improper command pipelining after ", postfixAfter})
	case 'S':
		return after(m, "SSL_accept error from ", postfixAbout)
	}
	return postfixQueued(m)
}

// postfixWarning reads "NAME[A]: SASL METHOD authentication failed: REASON[, sasl_username=X]".
func postfixWarning(b []byte) fact {
	p, rest, ok := postfixClient(b)
	if !ok {
		return first(b, entry{"non-SMTP command from ", postfixAbout}, entry{"", sshContextOnly})
	}
	f := fact{kind: event.Context, source: p.addr, port: p.port}
	rest, ok = cut(rest, ": SASL ")
	if !ok {
		return f
	}
	method, rest := word(rest)
	reason, ok := cut(rest, "authentication failed: ")
	if !ok || len(method) > maxMethod {
		return f
	}
	reason, user, named := bytes.Cut(reason, []byte(", sasl_username="))
	if named && string(user) != "(unavailable)" {
		f.account = user
	}
	f.method = method
	if neverAsked(reason) {
		return f
	}
	f.kind, f.attempts = event.AuthFailed, 1
	return f
}

// maxMethod bounds the name of a SASL mechanism: 20 characters (RFC 4422, section 3.1).
const maxMethod = 20

// neverAsked says whether a failure is none of the secret: no server judged it.
func neverAsked(reason []byte) bool {
	for _, text := range [...]string{
		"Invalid authentication mechanism", "no mechanism available", "Connection lost to authentication server", "Connection reset by peer",
		"authentication aborted", "Temporary authentication failure", "cannot connect to saslauthd server",
	} {
		if bytes.HasPrefix(reason, []byte(text)) {
			return true
		}
	}
	return false
}

// postfixClient reads "NAME[A]" or "NAME[A]:PORT" that begins b.
func postfixClient(b []byte) (p peer, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '[')
	if i <= 0 || bytes.IndexByte(b[:i], ' ') >= 0 {
		return peer{}, nil, false
	}
	a, rest, ok := bytes.Cut(b[i+1:], []byte("]"))
	if !ok {
		return peer{}, nil, false
	}
	p.addr, _ = address(a)
	if len(rest) > 1 && rest[0] == ':' && rest[1] >= '0' && rest[1] <= '9' {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if port, ok := portNumber(rest[1:n]); ok {
			p.port, rest = port, rest[n:]
		}
	}
	return p, rest, true
}

func postfixAbout(b []byte) fact {
	p, _, ok := postfixClient(b)
	if !ok {
		return fact{kind: event.Context}
	}
	return contextOf(p, nil)
}

// postfixEnd reads "NAME[A] ehlo=1 auth=0/3 commands=1/4". The counts restate the guesses.
func postfixEnd(b []byte) fact {
	f := postfixAbout(b)
	f.closed = f.source.IsValid()
	return f
}

// postfixAfter reads "COMMAND[ (N bytes)] from NAME[A]…"; the command is one that smtpd knows.
func postfixAfter(b []byte) fact {
	_, rest, ok := bytes.Cut(b, []byte(" from "))
	if !ok {
		return fact{kind: event.Context}
	}
	return postfixAbout(rest)
}

// postfixQueued reads "QUEUEID: client=NAME[A], sasl_method=M, sasl_username=X", which is how smtpd states a login, once there is
// mail, and "NOQUEUE: reject: COMMAND from NAME[A]: …"; 3.10 puts an id before other messages too.
func postfixQueued(b []byte) fact {
	id, rest, ok := bytes.Cut(b, []byte(": "))
	if !ok || len(id) > 32 || bytes.IndexByte(id, ' ') >= 0 {
		return fact{}
	}
	for _, prefix := range [...]string{"reject: ", "lost connection after ", "timeout after ", "too many errors after "} {
		if command, ok := cut(rest, prefix); ok {
			return postfixAfter(command)
		}
	}
	client, ok := cut(rest, "client=")
	if !ok {
		return fact{}
	}
	p, rest, ok := postfixClient(client)
	if !ok {
		return fact{}
	}
	f := contextOf(p, nil)
	method, ok := cut(rest, ", sasl_method=")
	if !ok {
		return f
	}
	method, user, ok := bytes.Cut(method, []byte(", sasl_username="))
	if !ok || len(method) > maxMethod {
		return f
	}
	user, _, _ = bytes.Cut(user, []byte(", sasl_sender="))
	f.kind, f.method, f.account = event.AuthOK, method, user
	return f
}

// saslauthdMessage reads "do_auth         : auth failure: [user=X] [service=smtp] …" and the like: smtpd states the attempt.
func saslauthdMessage(*message) fact { return fact{kind: event.Context} }
