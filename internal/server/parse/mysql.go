package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// mysqlMessage reads a message of MariaDB 10 and 11 or of MySQL 5.5 to 9, with or without the prefix that they write
// themselves:
//
//	2026-11-22  8:00:00 31 [Warning] …                                    MariaDB, local time
//	2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] …          MySQL 8 and 9; 5.7 without the brackets' MY- and Server
//	261122  8:00:00 [Warning] …                                           MySQL 5.5
//
// The forms are those of MariaDB's errmsg-utf8.txt and sql_acl.cc, and of MySQL's error message reference. One line with
// "Access denied for user" and no database is one guess. An authenticated login is in none of these logs.
func mysqlMessage(msg *message) fact {
	m, style := mysqlText(trimLeft(msg.text))
	if len(m) == 0 {
		return fact{}
	}
	read, rest := mysqlByFirstByte(m)
	f := read(rest)
	f.style = style
	if f.style == unknownStyle && msg.said != nil && string(msg.said.format) == native.MySQLJSON {
		f.style = oneLine
	}
	return f
}

// lineStyle says what may be in the names of the messages of a program.
type lineStyle uint8

const (
	unknownStyle lineStyle = iota
	oneLine                // a message is one line, whatever names are in it: MySQL 8 and 9 write line feeds as spaces
	rawNames               // line feeds stand in names as clients sent them: MariaDB, MySQL 5
	framed                 // messages of a stream of their own, each in one line: server_audit
)

// mysqlText cuts the prefix off.
func mysqlText(b []byte) (text []byte, style lineStyle) {
	rest, timed := mysqlTime(b)
	if id, after := word(rest); len(id) <= 20 && decimal(id) && len(after) > 0 && after[0] == '[' {
		rest = after
	} else if !timed && (len(b) == 0 || b[0] != '[') {
		return b, unknownStyle
	}
	style = rawNames
	for len(rest) > 0 && rest[0] == '[' {
		n := mysqlLabel(rest)
		if n == 0 {
			break
		}
		if rest[1] == 'M' && rest[2] == 'Y' && rest[3] == '-' {
			style = oneLine
		}
		rest = rest[n:]
	}
	return rest, style
}

// mysqlLabel is how long "[LABEL] " is that b begins with; 0 where it does not.
func mysqlLabel(b []byte) int {
	const longest = 32
	for i := 1; i+1 < len(b) && i <= longest+1; i++ {
		switch {
		case b[i] == ' ':
			return 0
		case b[i] == ']' && b[i+1] == ' ':
			return i + 2
		}
	}
	return 0
}

// mysqlTime cuts off a time, in any of the forms above.
func mysqlTime(b []byte) (rest []byte, ok bool) {
	switch {
	case len(b) > 19 && b[4] == '-' && b[10] == ' ' && b[13] == ':' && b[16] == ':' && b[19] == ' ':
		return trimLeft(b[20:]), true
	case len(b) > 20 && b[4] == '-' && b[10] == 'T' && b[13] == ':' && b[16] == ':':
		_, rest = word(b)
		return trimLeft(rest), true
	case len(b) > 15 && b[6] == ' ' && b[9] == ':' && b[12] == ':' && b[15] == ' ' && decimal(b[:6]):
		return trimLeft(b[16:]), true
	}
	return b, false
}

func decimal(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// mysqlByFirstByte is the table of messages.
func mysqlByFirstByte(m []byte) (reading, []byte) {
	switch m[0] {
	case 'A':
		return readFirst(m, entry{"Access denied for user '", mysqlDenied}, entry{"Access denied trying to change to user '", mysqlDeniedChange},
			entry{"Aborted connection ", mysqlAborted})
	case 'H':
		return readFirst(m, entry{"Host '", mysqlHost}, entry{"Hostname '", sshContextOnly}, entry{"Host name '", sshContextOnly})
	case 'I':
		return readAfter(m, "IP address '", sshContextOnly)
	}
	return unknown, nil
}

// mysqlDenied reads what follows "Access denied for user '":
//
//	U'@'H' (using password: YES)    a guess; U is whatever the client sent
//	U'@'H'                          a guess where the account's plugin knows no passwords
//	U'@'P' to database 'D'          no guess: U got in, and asked for a database D; P is the account's pattern for hosts
//	U'@'H'. Account is locked.      no guess: the password was right
//	U'@'H'. Account is blocked for …
//
// What the server wrote last decides; H, an address or a host name, has no quotes in it.
func mysqlDenied(b []byte) fact {
	rest, method, using := mysqlUsing(b)
	user, host, ok := mysqlAccount(rest)
	switch {
	case ok && (using || !bytes.Contains(user, []byte("' to database '"))):
		return mysqlGuess(user, host, method)
	case ok: // U or D imitates the other form: nobody can tell which
		return mysqlGuess(user, nil, nil)
	case using:
	default:
		if f, ok := mysqlNoDatabase(rest); ok {
			return f
		}
		if f, ok := mysqlLocked(rest); ok {
			return f
		}
	}
	// A name with a line feed in it, in a log that doesn't escape them: the rest is on lines to come.
	return fact{kind: event.AuthFailed, attempts: 1, account: b, open: true}
}

func mysqlGuess(user, host, method []byte) fact {
	addr, _ := address(host)
	return fact{kind: event.AuthFailed, source: addr, account: user, method: method, attempts: 1}
}

// mysqlUsing cuts " (using password: YES)" off the end; the method is then a password.
func mysqlUsing(b []byte) (rest, method []byte, ok bool) {
	if rest, ok := cutEnd(b, " (using password: YES)"); ok {
		return rest, b[len(rest)+len(" (using "):][:len("password")], true
	}
	rest, ok = cutEnd(b, " (using password: NO)")
	return rest, nil, ok
}

// mysqlAccount reads "U'@'H'".
func mysqlAccount(b []byte) (user, host []byte, ok bool) {
	b, ok = cutEnd(b, "'")
	i := lastIndex(b, "'@'")
	if !ok || i < 0 || bytes.IndexByte(b[i+3:], '\'') >= 0 {
		return nil, nil, false
	}
	return b[:i], b[i+3:], true
}

// mysqlNoDatabase reads "U'@'P' to database 'D'". A P that is an address is the client's.
func mysqlNoDatabase(b []byte) (fact, bool) {
	user, rest, ok := bytes.Cut(b, []byte("'@'"))
	if !ok {
		return fact{}, false
	}
	pattern, database, ok := bytes.Cut(rest, []byte("' to database '"))
	if !ok {
		return fact{}, false
	}
	database, _ = cutEnd(database, "'") // it is missing where D begins with a line feed
	f := fact{kind: event.Context, account: user, resource: database, inDatabase: true}
	if !bytes.Contains(database, []byte("'@'")) {
		f.source, _ = address(pattern)
	}
	return f, true
}

// mysqlLocked reads "U'@'H'. Account is locked." and "U'@'H'. Account is blocked for N day(s) …".
func mysqlLocked(b []byte) (fact, bool) {
	i := lastIndex(b, "'. Account is ")
	if i < 0 || b[len(b)-1] != '.' {
		return fact{}, false
	}
	user, host, ok := mysqlAccount(b[:i+1])
	state := b[i+len("'. Account is "):]
	f := mysqlGuess(user, host, nil)
	switch {
	case !ok:
		return fact{}, false
	case string(state) == "locked.":
		f.kind, f.attempts = event.Context, 0
		return f, true
	}
	return f, bytes.HasPrefix(state, []byte("blocked for "))
}

// mysqlDeniedChange reads "U'@'H' (using password: YES). Disconnecting.", a guess on a connection that got in.
func mysqlDeniedChange(b []byte) fact {
	b, _ = cutEnd(b, ". Disconnecting.")
	rest, method, using := mysqlUsing(b)
	if user, host, ok := mysqlAccount(rest); ok && using {
		return mysqlGuess(user, host, method)
	}
	return fact{kind: event.AuthFailed, attempts: 1, account: b, open: true}
}

// mysqlAborted reads "N to db: 'D' user: 'U' host: 'H' (REASON)". Whoever was not authenticated sent no password.
func mysqlAborted(b []byte) fact {
	f := fact{kind: event.Context}
	id, rest := word(b)
	rest, ok := cut(rest, "to db: 'unconnected' user: 'unauthenticated' host: '")
	if !ok || !decimal(id) {
		return f
	}
	host, reason, ok := bytes.Cut(rest, []byte("' ("))
	reason, _ = cutEnd(reason, ".")
	if !ok || !mysqlAbortReason(reason) {
		return f
	}
	f.kind = event.Probe
	f.source, _ = address(host)
	return f
}

// mysqlAbortReason knows the reasons, all too long for a name to hold the whole message with its prefix (see names).
func mysqlAbortReason(b []byte) bool {
	switch string(b) {
	case "This connection closed normally without authentication)", "Got an error reading communication packets)",
		"Got timeout reading communication packets)", "Got packets out of order)", "Got an error writing communication packets)",
		"Got timeout writing communication packets)", "Got a packet bigger than 'max_allowed_packet' bytes)":
		return true
	}
	return false
}

// mysqlHost reads "X' is not allowed to connect to this …" and "X' is blocked because of many connection errors; …",
// where nobody was asked for a password.
func mysqlHost(b []byte) fact {
	_, rest, _ := bytes.Cut(b, []byte("' is "))
	if bytes.HasPrefix(rest, []byte("not allowed to connect to this M")) || bytes.HasPrefix(rest, []byte("blocked because of many connection errors")) {
		return fact{kind: event.Probe}
	}
	return fact{kind: event.Context}
}
