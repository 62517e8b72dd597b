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
func sshMessage(msg message) fact {
	m := trimLeft(msg.text)
	if inner, n, ok := repeated(m); ok {
		f := sshLine(inner)
		f.attempts *= n
		f.repeated = n
		return f
	}
	return sshLine(m)
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

func sshLine(m []byte) fact {
	if rest, ok := cut(m, "error: "); ok {
		m = rest
	} else if rest, ok := cut(m, "fatal: "); ok {
		m = rest
	}
	m, _ = cutEnd(m, " [preauth]")
	m, _ = cutEnd(m, " [postauth]")
	if len(m) == 0 {
		return fact{kind: event.None}
	}
	return sshByFirstByte(m)
}

// sshByFirstByte is the table of messages. A zero fact means that m is none of them.
func sshByFirstByte(m []byte) fact {
	switch m[0] {
	case 'F':
		return after(m, "Failed ", sshFailed)
	case 'A':
		return first(m, entry{"Accepted ", sshAccepted}, entry{"Address ", sshMapsTo})
	case 'P':
		return first(m, entry{"PAM: ", sshPAMError}, entry{"PAM ", sshPAMMore},
			entry{"Protocol major versions differ", sshContextOnly}, entry{"Postponed ", sshOtherAuth}, entry{"Partial ", sshOtherAuth})
	case 'p':
		return after(m, "pam_", sshPAMModule)
	case 'I':
		return after(m, "Invalid user ", sshInvalidUser)
	case 'i':
		return after(m, "input_userauth_request: invalid user ", sshNamedOnly)
	case 'C':
		return first(m, entry{"Closing connection to ", sshEnded}, entry{"Connection closed by ", sshEnded}, entry{"Connection reset by ", sshEnded},
			entry{"Connection from ", sshConnectionFrom}, entry{"Close session: user ", sshCloseSession},
			entry{"Could not get shadow information for ", sshContextOnly})
	case 'D':
		return first(m, entry{"Disconnected from ", sshEnded}, entry{"Disconnecting", sshDisconnecting},
			entry{"Did not receive identification string from ", sshNoIdentification})
	case 'R':
		return first(m, entry{"Received disconnect from ", sshReceivedDisconnect},
			entry{"ROOT LOGIN REFUSED FROM ", sshPeerOnly})
	case 'm':
		return after(m, "maximum authentication attempts exceeded for ", sshMaximum)
	case 'B':
		return first(m, entry{"Bad protocol version identification '", sshBadVersion}, entry{"Bad packet length ", sshContextOnly})
	case 'b':
		return after(m, "banner exchange: Connection from ", sshBannerExchange)
	case 'U':
		return first(m, entry{"User ", sshNotAllowed}, entry{"Unable to negotiate with ", sshNoCommon})
	case 'k':
		return after(m, "kex_exchange_identification: ", sshContextOnly)
	default:
		return sshRare(m)
	}
}

// sshRare is the rest of the table.
func sshRare(m []byte) fact {
	switch m[0] {
	case 'r':
		return first(m, entry{"reverse mapping checking getaddrinfo for ", sshReverseMapping},
			entry{"read: Connection reset by peer", sshContextOnly})
	case 's':
		return first(m, entry{"srclimit_penalise: ", sshPenalty},
			entry{"ssh_dispatch_run_fatal: Connection from ", sshConnectionFrom}, entry{"ssh_packet_send_debug: ", sshContextOnly},
			entry{"send_error: ", sshContextOnly})
	case 'd':
		return after(m, "drop connection #", sshDropped)
	case 'N':
		return after(m, "Nasty PTR record \"", sshNastyPTR)
	case 'S':
		return after(m, "Starting session: ", sshStartingSession)
	case 'T':
		return first(m, entry{"Timeout before authentication for connection from ", sshTimeoutTo},
			entry{"Timeout before authentication for ", sshTimeout},
			entry{"Too many authentication failures for ", sshMaximum})
	}
	return fact{}
}

// entry says which function reads what follows a prefix.
type entry struct {
	prefix string
	read   func(rest []byte) fact
}

func after(m []byte, prefix string, read func([]byte) fact) fact {
	if rest, ok := cut(m, prefix); ok {
		return read(rest)
	}
	return fact{}
}

func first(m []byte, entries ...entry) fact {
	for _, e := range entries {
		if rest, ok := cut(m, e.prefix); ok {
			return e.read(rest)
		}
	}
	return fact{}
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
