package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

func probeOf(p peer) fact {
	return fact{kind: event.Probe, source: p.addr, port: p.port}
}

// sshEnded reads "[authenticating user X |invalid user X |user X ]A port P" to the end ("Connection
// closed by", "Connection reset by", "Disconnected from"), or A alone as versions before 7.3 wrote it.
func sshEnded(b []byte) fact {
	before, p, ok := peerAtEnd(b)
	if !ok {
		addr, _ := address(b)
		return fact{kind: event.Context, source: addr, closed: true}
	}
	return fact{kind: event.Context, source: p.addr, port: p.port, account: preamble(before), closed: true}
}

// preamble returns the user of "authenticating user X", "invalid user X" or "user X".
func preamble(b []byte) []byte {
	for _, prefix := range [...]string{"authenticating user ", "invalid user ", "user "} {
		if user, ok := cut(b, prefix); ok {
			return user
		}
	}
	return nil
}

// sshDisconnecting reads " [authenticating user X |invalid user X |user X ]A port P: REASON" or, as
// versions before 7.6 wrote it, ": REASON".
func sshDisconnecting(b []byte) fact {
	b, ok := cut(b, " ")
	if !ok {
		return fact{kind: event.Context}
	}
	f := remoteThenReason(b)
	f.closed = f.source.IsValid()
	return f
}

// remoteThenReason reads "[… user X ]A port P: REASON", where both X and REASON may hold a client's text:
// without X the address comes first; with it the place must be the only one that has the form.
func remoteThenReason(b []byte) fact {
	f := fact{kind: event.Context}
	user := preamble(b)
	if user == nil {
		if p, rest, ok := peerAtStart(b); ok && (len(rest) == 0 || rest[0] == ':' || rest[0] == ' ') {
			f.source, f.port = p.addr, p.port
		}
		return f
	}
	found := 0
	for i := indexFrom(user, " ", 0); i >= 0; i = indexFrom(user, " ", i+1) {
		p, rest, ok := peerAtStart(user[i+1:])
		if !ok || !p.addr.IsValid() || len(rest) > 0 && rest[0] != ':' {
			continue
		}
		if found++; found > 1 {
			return fact{kind: event.Context}
		}
		f.source, f.port, f.account = p.addr, p.port, user[:i]
	}
	return f
}

// sshConnectionFrom reads "A port P on B port Q[ rdomain …]" of a new connection, and "[… user X ]A port
// P: REASON" or "… timed out" of one that ended.
func sshConnectionFrom(b []byte) fact {
	if p, rest, ok := peerAtStart(b); ok {
		_, opened := cut(rest, " on ")
		return fact{kind: event.Context, source: p.addr, port: p.port, closed: !opened}
	}
	if rest, ok := cutEnd(b, " timed out"); ok {
		return sshEnded(rest)
	}
	f := remoteThenReason(b)
	f.closed = f.source.IsValid()
	return f
}

// sshReceivedDisconnect reads "A port P:CODE: TEXT" or "A: CODE: TEXT"; TEXT is the client's.
func sshReceivedDisconnect(b []byte) fact {
	if p, rest, ok := peerAtStart(b); ok && len(rest) > 0 && rest[0] == ':' {
		return fact{kind: event.Context, source: p.addr, port: p.port, closed: true}
	}
	a, _ := word(b)
	if a, ok := cutEnd(a, ":"); ok {
		addr, _ := address(a)
		return fact{kind: event.Context, source: addr, closed: true}
	}
	return fact{kind: event.Context}
}

// sshNoIdentification reads "A[ port P]".
func sshNoIdentification(b []byte) fact {
	f := sshPeerOnly(b)
	f.kind = event.Probe
	return f
}

// sshBadVersion reads "TEXT' from A[ port P]"; TEXT is the client's.
func sshBadVersion(b []byte) fact {
	_, p, ok := fromAtEnd(b)
	if !ok {
		return fact{kind: event.Probe}
	}
	return probeOf(p)
}

// sshBannerExchange reads "A port P: REASON".
func sshBannerExchange(b []byte) fact {
	p, rest, ok := peerAtStart(b)
	if !ok || len(rest) == 0 || rest[0] != ':' {
		return fact{kind: event.Probe}
	}
	return probeOf(p)
}

// sshNoCommon reads "A port P: REASON. Their offer: TEXT"; TEXT is the client's.
func sshNoCommon(b []byte) fact {
	p, rest, ok := peerAtStart(b)
	if ok && len(rest) > 0 && rest[0] == ':' {
		return probeOf(p)
	}
	a, _ := word(b)
	a, _ = cutEnd(a, ":")
	addr, _ := address(a)
	return probeOf(peer{addr: addr})
}

// sshNotAllowed reads "X from A not allowed because …" and "X not allowed because …"; X exists on the
// host. Other messages that begin with "User " are none.
func sshNotAllowed(b []byte) fact {
	i := bytes.Index(b, []byte(" not allowed because "))
	if i < 0 {
		return fact{}
	}
	b = b[:i]
	before, a := lastWord(b)
	user, ok := cutEnd(before, " from")
	if !ok {
		return contextOf(peer{}, b)
	}
	addr, _ := address(a)
	return contextOf(peer{addr: addr}, user)
}

// sshReverseMapping reads "NAME [A] failed.…"; NAME is what the PTR record says.
func sshReverseMapping(b []byte) fact {
	i := bytes.LastIndex(b, []byte("] failed"))
	if i < 0 {
		return fact{kind: event.Context}
	}
	b = b[:i]
	open := bytes.LastIndex(b, []byte(" ["))
	if open < 0 {
		return fact{kind: event.Context}
	}
	addr, _ := address(b[open+2:])
	return contextOf(peer{addr: addr}, nil)
}

// sshMapsTo reads "A maps to NAME, but this does not map back to the address".
func sshMapsTo(b []byte) fact {
	a, rest := word(b)
	if _, ok := cut(rest, "maps to "); !ok {
		return fact{}
	}
	addr, _ := address(a)
	return contextOf(peer{addr: addr}, nil)
}

// sshNastyPTR reads "NAME" is set up for A, ignoring"; NAME is what the PTR record says.
func sshNastyPTR(b []byte) fact {
	const middle = `" is set up for `
	b, ok := cutEnd(b, ", ignoring")
	i := bytes.LastIndex(b, []byte(middle))
	if !ok || i < 0 {
		return fact{kind: event.Context}
	}
	addr, _ := address(b[i+len(middle):])
	return contextOf(peer{addr: addr}, nil)
}

// sshDropped reads "N from [A]:P on [B]:Q REASON".
func sshDropped(b []byte) fact {
	f := fact{kind: event.Context}
	_, rest := word(b)
	rest, ok := cut(rest, "from [")
	i := bytes.IndexByte(rest, ']')
	if !ok || i < 0 {
		return f
	}
	f.source, _ = address(rest[:i])
	p, _ := word(rest[i+1:])
	if p, ok := cut(p, ":"); ok {
		f.port, _ = portNumber(p)
	}
	return f
}

// sshPenalty reads "FAMILY: new A/BITS STATE penalty of N seconds for REASON" and its siblings; only a
// whole address names a source.
func sshPenalty(b []byte) fact {
	f := fact{kind: event.Context}
	for range 4 {
		var w []byte
		w, b = word(b)
		a, bits, ok := bytes.Cut(w, []byte("/"))
		if !ok {
			continue
		}
		addr, ok := address(a)
		if n, okBits := number(bits); ok && okBits && len(bits) <= 3 && n == addr.BitLen() {
			f.source = addr
		}
		return f
	}
	return f
}

// sshTimeout reads "A port P".
func sshTimeout(b []byte) fact {
	f := sshPeerOnly(b)
	f.closed = true
	return f
}

// sshTimeoutTo reads "A to B, pid = N" (9.8 and later).
func sshTimeoutTo(b []byte) fact {
	a, _ := word(b)
	addr, _ := address(a)
	return contextOf(peer{addr: addr}, nil)
}

// sshStartingSession reads "WHAT for USER from A port P id N".
func sshStartingSession(b []byte) fact {
	return contextOf(sessionPeer(b), nil)
}

// sshCloseSession reads "USER from A port P id N". Other sessions of the connection may go on.
func sshCloseSession(b []byte) fact {
	return contextOf(sessionPeer(b), nil)
}

// sessionPeer reads "… from A port P id N" from the end: a forced command's text comes before it.
func sessionPeer(b []byte) peer {
	before, id := lastWord(b)
	if _, ok := number(id); !ok {
		return peer{}
	}
	before, ok := cutEnd(before, " id")
	if !ok {
		return peer{}
	}
	before, p, ok := peerAtEnd(before)
	if !ok {
		return peer{}
	}
	if _, ok = cutEnd(before, " from"); !ok {
		return peer{}
	}
	return p
}
