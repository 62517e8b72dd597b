package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// dropbearMessage reads a message of dropbear, 2013 to 2025 (svr-auth*.c, svr-session.c, svr-main.c). It escapes nothing but
// what is not printable, and the address stands last: the end of a message decides. Since an account that doesn't exist
// is named in no message, there is one line for all guesses at such accounts of a connection: they count as one.
func dropbearMessage(msg *message) fact {
	m := trimLeft(msg.text)
	if inner, n, ok := repeated(m); ok {
		f := dropbearLine(inner)
		f.attempts *= n
		return f
	}
	return dropbearLine(m)
}

func dropbearLine(m []byte) fact {
	if len(m) == 0 {
		return fact{}
	}
	switch m[0] {
	case 'B':
		return first(m, entry{"Bad password attempt for ", dropbearGuess}, entry{"Bad PAM password attempt for ", dropbearGuess})
	case 'L':
		return first(m, entry{"Login attempt for nonexistent user", dropbearUnknown}, entry{"Login attempt with wrong user ", dropbearNamed})
	case 'P':
		return first(m, entry{"Password auth succeeded for ", dropbearLogin}, entry{"PAM password auth succeeded for ", dropbearLogin},
			entry{"Pubkey auth succeeded for ", dropbearKey}, entry{"Pubkey auth ", dropbearNamed})
	case 'A':
		return after(m, "Auth succeeded with blank password for ", dropbearBlank)
	case 'C':
		return after(m, "Child connection from ", dropbearChild)
	case 'E':
		return first(m, entry{"Exit before auth", dropbearExit}, entry{"Exit (", dropbearEnd})
	case 'M':
		return after(m, "Max auth tries reached - user ", dropbearNamed)
	case 'U', 'u':
		return first(m, entry{"User '", dropbearRejected}, entry{"user '", dropbearRejected})
	case 'r':
		return first(m, entry{"root login", sshContextOnly})
	case 'p':
		return after(m, "pam_", dropbearPAM)
	}
	return fact{}
}

// dropbearGuess reads "'X' from A:P".
func dropbearGuess(b []byte) fact {
	user, p, ok := quotedFrom(b)
	if !ok {
		return fact{}
	}
	return fact{kind: event.AuthFailed, source: p.addr, port: p.port, account: user, means: "password", attempts: 1, part: guessInside}
}

// dropbearUnknown reads nothing or " from A:P", and " 'X' from A:P" where it was built to name users.
func dropbearUnknown(b []byte) fact {
	f := fact{kind: event.AuthFailed, means: "password", attempts: 1, part: guessInside}
	if len(b) == 0 {
		return f
	}
	if rest, ok := cut(b, " '"); ok {
		user, p, ok := quotedFrom(b[len(b)-len(rest)-1:])
		if !ok {
			return fact{}
		}
		f.source, f.port, f.account = p.addr, p.port, user
		return f
	}
	a, ok := cut(b, " from ")
	p, ok2 := peerWithColon(a)
	if !ok || !ok2 {
		return fact{}
	}
	f.source, f.port = p.addr, p.port
	return f
}

func dropbearLogin(b []byte) fact {
	user, p, ok := quotedFrom(b)
	if !ok {
		return fact{}
	}
	return fact{kind: event.AuthOK, source: p.addr, port: p.port, account: user, means: "password"}
}

func dropbearBlank(b []byte) fact {
	f := dropbearLogin(b)
	f.means = "none"
	return f
}

// dropbearKey reads "'X' with TYPE key FINGERPRINT from A:P". Who got in exists, and accounts have no quotes.
func dropbearKey(b []byte) fact {
	b, ok := cut(b, "'")
	i := bytes.IndexByte(b, '\'')
	j := lastIndex(b, " from ")
	if !ok || i < 0 || j < i {
		return fact{}
	}
	p, ok := peerWithColon(b[j+len(" from "):])
	if !ok {
		return fact{}
	}
	return fact{kind: event.AuthOK, source: p.addr, port: p.port, account: b[:i], means: "publickey"}
}

// dropbearNamed is a message about an attempt that ends with " from A:P", or doesn't.
func dropbearNamed(b []byte) fact {
	f := fact{kind: event.Context}
	if i := lastIndex(b, " from "); i >= 0 {
		if p, ok := peerWithColon(b[i+len(" from "):]); ok {
			f.source, f.port = p.addr, p.port
		}
	}
	return f
}

// dropbearRejected reads "X' has invalid shell, rejected" and "X' has blank password, rejected": its guesses follow
// at the end of the connection.
func dropbearRejected(b []byte) fact {
	user, ok := cutEnd(b, ", rejected")
	i := lastIndex(user, "' has ")
	if !ok || i < 0 {
		return fact{}
	}
	return fact{kind: event.Context, account: user[:i]}
}

func dropbearChild(b []byte) fact {
	p, ok := peerWithColon(b)
	if !ok {
		return fact{}
	}
	return fact{kind: event.Context, source: p.addr, port: p.port, part: firstOfConnection}
}

// dropbearExit reads "[ from <A:P>][:] [(user 'X', N fails)]: REASON". Older versions name no address here.
func dropbearExit(b []byte) fact {
	f := fact{kind: event.Probe, closed: true, part: lastOfConnection}
	if rest, ok := cut(b, " from <"); ok {
		a, after, found := bytes.Cut(rest, []byte(">"))
		p, ok := peerWithColon(a)
		if !found || !ok {
			return fact{}
		}
		f.source, f.port, b = p.addr, p.port, after
	} else {
		f.kind, f.closed = event.Context, false
	}
	b, _ = cut(b, ":")
	user, ok := cut(b, " (user '")
	if !ok {
		if _, ok := cut(b, " Max auth tries reached"); ok {
			f.kind = event.Context
		}
		return f
	}
	f.kind = event.Context
	// The account exists, so that nothing in its name looks like what follows it.
	name, rest, ok := bytes.Cut(user, []byte("', "))
	if !ok {
		return f
	}
	f.account = name
	digits, rest := word(rest)
	if n, ok := number(digits); ok && len(digits) <= 5 && bytes.HasPrefix(rest, []byte("fails)")) {
		f.fails = n
	}
	return f
}

// dropbearEnd reads "X) from <A:P>: REASON" or "X): REASON" of a connection that was let in.
func dropbearEnd(b []byte) fact {
	name, rest, ok := bytes.Cut(b, []byte(")"))
	if !ok {
		return fact{}
	}
	f := fact{kind: event.Context, account: name, part: lastOfConnection}
	if rest, ok := cut(rest, " from <"); ok {
		a, _, _ := bytes.Cut(rest, []byte(">"))
		if p, ok := peerWithColon(a); ok {
			f.source, f.port, f.closed = p.addr, p.port, true
		}
	}
	return f
}

// dropbearPAM is the twin of a guess where dropbear asks PAM.
func dropbearPAM(b []byte) fact {
	if bytes.Contains(b, []byte("(dropbear:")) || bytes.Contains(b, []byte("(sshd:")) {
		return fact{kind: event.Context}
	}
	return fact{}
}

// quotedFrom reads "'X' from A:P" that fills b; its end decides, whatever X holds.
func quotedFrom(b []byte) (user []byte, p peer, ok bool) {
	b, ok = cut(b, "'")
	if !ok {
		return nil, peer{}, false
	}
	rest, a := lastWord(b)
	if p, ok = peerWithColon(a); !ok {
		return nil, peer{}, false
	}
	user, ok = cutEnd(rest, "' from")
	return user, p, ok
}

// peerWithColon reads "A:P" that fills b; IPv6 has no brackets, so that the last colon separates.
func peerWithColon(b []byte) (peer, bool) {
	i := bytes.LastIndexByte(b, ':')
	if i <= 0 {
		return peer{}, false
	}
	port, ok := portNumber(b[i+1:])
	if !ok || bytes.IndexByte(b[:i], ' ') >= 0 {
		return peer{}, false
	}
	a := b[:i]
	if a[0] == '[' && a[len(a)-1] == ']' {
		a = a[1 : len(a)-1]
	}
	addr, _ := address(a)
	return peer{addr, port}, true
}
