package parse

import (
	"github.com/kokkuri/kokkuri/internal/event"
)

// Bounds of what sshd can have written: it prints at most 100 bytes of a user name, each as at most
// four characters (\ooo); a line with more is not sshd's, or was cut in the middle.
const (
	maxUser     = 400
	maxKeyLine  = 700 // of "Failed publickey …" with a plain key
	maxRepeated = 1 << 20
)

// sshMessage reads a message of OpenSSH 7 to 10 (sshd, sshd-session, sshd-auth). The forms are those
// of its auth.c, auth2-pubkey.c, auth-pam.c, packet.c, kex.c, sshd.c and srclimit.c; sshd escapes
// control characters, backslashes and bytes above 127 in them (vis(3)), but not spaces.
//
// Which events are guesses: exactly one line of each attempt, the one with "Failed" that the
// authenticating process writes at the end of it. Every other line about the attempt is context.
func sshMessage(msg *message) fact {
	m := trimLeft(msg.text)
	inner, n, ok := repeated(m)
	if !ok {
		inner = m
	}
	f := fact{kind: event.None}
	read, rest := sshLine(inner)
	if read != nil {
		f = read(rest)
	}
	if ok {
		f.attempts *= n
		f.repeated = n
	}
	return f
}

// repeated unwraps "message repeated N times: [ msg]" as rsyslog writes it for the N repetitions
// that followed the first.
func repeated(m []byte) (inner []byte, n int, ok bool) {
	m, ok = cut(m, "message repeated ")
	if !ok {
		return nil, 0, false
	}
	digits, m := word(m)
	if len(digits) == 0 || len(digits) > 7 {
		return nil, 0, false
	}
	n, ok = number(digits)
	if !ok || n < 1 || n > maxRepeated {
		return nil, 0, false
	}
	m, ok = cut(m, "times: [")
	if !ok {
		return nil, 0, false
	}
	m, ok = cutEnd(m, "]")
	return trimLeft(m), n, ok
}

// sshLine finds who reads a line, and what of it; nil where nothing is left. Facts are large: nobody passes them on who need not.
func sshLine(m []byte) (read reading, rest []byte) {
	if rest, ok := cut(m, "error: "); ok {
		m = rest
	} else if rest, ok := cut(m, "fatal: "); ok {
		m = rest
	}
	m, _ = cutEnd(m, " [preauth]")
	m, _ = cutEnd(m, " [postauth]")
	if len(m) == 0 {
		return nil, nil
	}
	return sshByFirstByte(m)
}

// sshByFirstByte is the table of messages.
func sshByFirstByte(m []byte) (read reading, rest []byte) {
	switch m[0] {
	case 'F':
		return readAfter(m, "Failed ", sshFailed)
	case 'A':
		return readFirst(m, entry{"Accepted ", sshAccepted}, entry{"Address ", sshMapsTo})
	case 'P':
		return readFirst(m, entry{"PAM: ", sshPAMError}, entry{"PAM ", sshPAMMore},
			entry{"Protocol major versions differ", sshContextOnly}, entry{"Postponed ", sshOtherAuth}, entry{"Partial ", sshOtherAuth})
	case 'p':
		return readAfter(m, "pam_", sshPAMModule)
	case 'I':
		return readAfter(m, "Invalid user ", sshInvalidUser)
	case 'i':
		return readAfter(m, "input_userauth_request: invalid user ", sshNamedOnly)
	case 'C':
		return readFirst(m, entry{"Closing connection to ", sshEnded}, entry{"Connection closed by ", sshEnded}, entry{"Connection reset by ", sshEnded},
			entry{"Connection from ", sshConnectionFrom}, entry{"Close session: user ", sshCloseSession},
			entry{"Could not get shadow information for ", sshContextOnly})
	case 'D':
		return readFirst(m, entry{"Disconnected from ", sshEnded}, entry{"Disconnecting", sshDisconnecting},
			entry{"Did not receive identification string from ", sshNoIdentification})
	case 'R':
		return readFirst(m, entry{"Received disconnect from ", sshReceivedDisconnect},
			entry{"ROOT LOGIN REFUSED FROM ", sshPeerOnly})
	case 'm':
		return readAfter(m, "maximum authentication attempts exceeded for ", sshMaximum)
	case 'B':
		return readFirst(m, entry{"Bad protocol version identification '", sshBadVersion}, entry{"Bad packet length ", sshContextOnly})
	case 'b':
		return readAfter(m, "banner exchange: Connection from ", sshBannerExchange)
	case 'U':
		return readFirst(m, entry{"User ", sshNotAllowed}, entry{"Unable to negotiate with ", sshNoCommon})
	case 'k':
		return readAfter(m, "kex_exchange_identification: ", sshContextOnly)
	default:
		return sshRare(m)
	}
}

// sshRare is the rest of the table.
func sshRare(m []byte) (read reading, rest []byte) {
	switch m[0] {
	case 'r':
		return readFirst(m, entry{"reverse mapping checking getaddrinfo for ", sshReverseMapping},
			entry{"read: Connection reset by peer", sshContextOnly})
	case 's':
		return readFirst(m, entry{"srclimit_penalise: ", sshPenalty},
			entry{"ssh_dispatch_run_fatal: Connection from ", sshConnectionFrom}, entry{"ssh_packet_send_debug: ", sshContextOnly},
			entry{"send_error: ", sshContextOnly})
	case 'd':
		return readAfter(m, "drop connection #", sshDropped)
	case 'N':
		return readAfter(m, "Nasty PTR record \"", sshNastyPTR)
	case 'S':
		return readAfter(m, "Starting session: ", sshStartingSession)
	case 'T':
		return readFirst(m, entry{"Timeout before authentication for connection from ", sshTimeoutTo},
			entry{"Timeout before authentication for ", sshTimeout},
			entry{"Too many authentication failures for ", sshMaximum})
	}
	return unknown, nil
}

// reading reads what is left of a message.
type reading = func(rest []byte) fact

// entry says which function reads what follows a prefix.
type entry struct {
	prefix string
	read   reading
}

// readAfter is who reads what follows a prefix, and that.
func readAfter(m []byte, prefix string, read reading) (reading, []byte) {
	if rest, ok := cut(m, prefix); ok {
		return read, rest
	}
	return unknown, nil
}

// readFirst is the same for the first of several prefixes.
func readFirst(m []byte, entries ...entry) (reading, []byte) {
	for i := range entries {
		if rest, ok := cut(m, entries[i].prefix); ok {
			return entries[i].read, rest
		}
	}
	return unknown, nil
}

// unknown reads a message that is none of those which are known.
func unknown([]byte) fact { return fact{} }

func after(m []byte, prefix string, read reading) fact {
	read, rest := readAfter(m, prefix, read)
	return read(rest)
}

func first(m []byte, entries ...entry) fact {
	read, rest := readFirst(m, entries...)
	return read(rest)
}

func contextOf(p peer, account []byte) fact {
	return fact{kind: event.Context, source: p.addr, port: p.port, account: account}
}

func sshContextOnly([]byte) fact { return fact{kind: event.Context} }

// sshNamedOnly reads "USER" to the end.
func sshNamedOnly(b []byte) fact { return contextOf(peer{}, b) }

// sshPeerOnly reads "A[ port P]" (ROOT LOGIN REFUSED FROM).
func sshPeerOnly(b []byte) fact {
	if p, _, ok := peerAtStart(b); ok {
		return contextOf(p, nil)
	}
	addr, _ := address(b)
	return contextOf(peer{addr: addr}, nil)
}

// fromAtEnd reads "X from A port P" or, as versions before 7.3 wrote some messages, "X from A". Both
// end with what sshd wrote, so the end decides, whatever X contains.
func fromAtEnd(b []byte) (x []byte, p peer, ok bool) {
	if before, p, ok := peerAtEnd(b); ok {
		x, ok = cutEnd(before, " from")
		return x, p, ok
	}
	before, a := lastWord(b)
	x, ok = cutEnd(before, " from")
	addr, _ := address(a)
	return x, peer{addr: addr}, ok
}

func trimInvalid(user []byte) []byte {
	user, _ = cut(user, "invalid user ")
	return user
}
