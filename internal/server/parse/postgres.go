package parse

import (
	"bytes"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// postgresMessage reads a message of PostgreSQL 9.6 to 17, either as it writes it itself, to syslog or to a file, with any
// log_line_prefix:
//
//	[3-1] 2026-11-22 18:00:00.123 UTC [4711] alice@shop FATAL:  password authentication failed for user "alice"
//
// or as a record of one of our formats, whose text begins with the severity, and whose parameters state the rest. The
// forms are those of its auth.c, postmaster.c, postinit.c and crypt.c. Each connection may try once, so one line is one guess.
func postgresMessage(msg *message) fact {
	if msg.said != nil && bytes.HasPrefix(msg.said.format, []byte("postgres-")) {
		return postgresRecord(msg.said, msg.text)
	}
	text, part, serial := postgresChunk(trimLeft(msg.text))
	if part == laterChunk {
		return postgresLater(text, serial)
	}
	var line native.PGLine
	if !line.Split(text) {
		return fact{}
	}
	f, atStart := postgresPart(line.Text, part)
	f.serial = serial
	sure := part == firstChunk || len(msg.tag) == 0 // else a line feed in a name may have begun this line
	if !sure {
		f.source, f.port = netip.Addr{}, 0
	}
	if sure && atStart && !f.source.IsValid() && f.join != joinOpened {
		f.source, f.port = line.SourceOf(f.account)
	}
	if f.kind == event.AuthOK {
		f.join = joinPassedBlind // a name may hold this line, and a line feed after it, with more to come in the next part
	}
	return f
}

// postgresLater reads a later part of a message, which was cut at its line feeds. What the server says goes on after a tab, so
// the others are in the names of the prefix; such a name may begin with a tab too.
func postgresLater(text, serial []byte) fact {
	i := native.PostgresSeverity(text)
	if i < 0 {
		text, _ = cut(text, "#011")
		return postgresDetail(bytes.TrimLeft(text, "\t"))
	}
	f, _ := postgresPart(text[i:], laterChunk)
	switch {
	case f.kind == event.Context && f.join == noJoin:
		return fact{kind: event.Context}
	case f.join != joinFailed:
		return fact{}
	}
	f.source, f.port, f.serial = netip.Addr{}, 0, serial
	f.tabbed = text[0] == '\t' || bytes.HasPrefix(text, []byte("#011"))
	return f
}

// postgresPart reads a part of a message; a name that it ends with may go on in the next.
func postgresPart(text []byte, part chunk) (f fact, atStart bool) {
	f, atStart = postgresText(text)
	if atStart || f.kind == event.AuthFailed || part == noChunk {
		return f, atStart
	}
	if rest, ok := cut(text, `FATAL:  password authentication failed for user "`); ok {
		return fact{kind: event.AuthFailed, attempts: 1, account: rest, join: joinFailed}, false
	}
	return f, false
}

// chunk says which part of a message a line is.
type chunk uint8

const (
	noChunk chunk = iota
	firstChunk
	laterChunk
)

// postgresChunk cuts "[N-M] " off, which syslog gets: the Mth part of the Nth message.
func postgresChunk(b []byte) (text []byte, part chunk, serial []byte) {
	if len(b) == 0 || b[0] != '[' {
		return b, noChunk, nil
	}
	n := digits(b[1:])
	if n == 0 || b[1+n] != '-' {
		return b, noChunk, nil
	}
	message, rest := b[1:1+n], b[n+2:]
	m := digits(rest)
	switch {
	case m == 0 || rest[m] != ']' || m+1 == len(rest) || rest[m+1] != ' ':
		return b, noChunk, nil
	case m == 1 && rest[0] == '1':
		return rest[3:], firstChunk, message
	}
	return rest[m+2:], laterChunk, message
}

// digits is how many of them b begins with; 0 where nothing follows them.
func digits(b []byte) int {
	for i, c := range b {
		if c < '0' || c > '9' {
			return i
		}
	}
	return 0
}

// postgresRecord reads a record with its parameters, which are to be believed unless it says otherwise.
func postgresRecord(p *fields, text []byte) fact {
	if string(p.reason) == native.ReasonFragment {
		return fact{kind: event.Context}
	}
	f, atStart := postgresSeverity(text), true
	if string(p.format) == native.PostgresStderr {
		f, atStart = postgresText(text)
	}
	if f.kind == "" {
		return f
	}
	if string(p.reason) == native.ReasonUnsure {
		return f.unsure()
	}
	if len(p.source) > 0 && atStart {
		f.source, _ = address(p.source)
		f.port, _ = portNumber(p.port)
	}
	if len(f.account) == 0 {
		f.account = p.account
	}
	if len(p.database) > 0 {
		f.resource = p.database
	}
	return f
}

// unsure is f without what names may have invented; a login above all.
func (f fact) unsure() fact {
	f.source, f.port, f.join, f.closed = netip.Addr{}, 0, noJoin, false
	if f.kind == event.AuthOK {
		f.kind = event.Context
	}
	return f
}

// postgresText reads "SEVERITY:  MESSAGE". Where that says nothing known, the severity may be in a name of the prefix, and
// the true one, which comes later, says it; then atStart is false, and of the peer only the process is to be believed.
func postgresText(b []byte) (f fact, atStart bool) {
	const names = 2*63 + 16 // what may come before the true severity
	read, rest := postgresReading(b)
	if f = read(rest); f.kind != "" {
		return f, true
	}
	if postgresStatement(b) {
		return fact{}, true
	}
	for i := 0; ; {
		n := native.PostgresSeverity(b[min(i+1, len(b)):])
		if i += n + 1; n < 0 || i > names {
			return fact{}, false
		}
		if f = postgresSeverity(b[i:]); f.kind != "" {
			if f.join == joinFailed {
				f.source, f.port = netip.Addr{}, 0
				return f, false
			}
			return f.unsure(), false
		}
	}
}

// postgresStatement says whether a message repeats what somebody who got in sent: an application's queries, and in them what
// its users wrote.
func postgresStatement(b []byte) bool {
	for _, begin := range []string{"LOG:  statement: ", "LOG:  execute ", "LOG:  parse ", "LOG:  bind ", "LOG:  fastpath ", "LOG:  duration: ", "LOG:  could not "} {
		if bytes.HasPrefix(b, []byte(begin)) {
			return true
		}
	}
	return !bytes.HasPrefix(b, []byte("LOG:  ")) && !bytes.HasPrefix(b, []byte("FATAL:  "))
}

func postgresSeverity(b []byte) fact {
	read, rest := postgresReading(b)
	return read(rest)
}

// postgresReading is who reads what follows a severity, and that.
func postgresReading(b []byte) (reading, []byte) {
	if len(b) == 0 {
		return unknown, nil
	}
	switch b[0] {
	case 'F':
		if m, ok := cut(b, "FATAL:  "); ok {
			return postgresFatal(m)
		}
	case 'L':
		if m, ok := cut(b, "LOG:  "); ok {
			return postgresLog(m)
		}
	case 'D':
		return readAfter(b, "DETAIL:  ", postgresDetail)
	}
	return unknown, nil
}

func postgresFatal(m []byte) (reading, []byte) {
	if m, ok := cut(m, "28P01: "); ok { // log_error_verbosity = verbose
		return postgresFatal(m)
	} else if m, ok := cut(m, "28000: "); ok {
		return postgresFatal(m)
	}
	if len(m) == 0 {
		return unknown, nil
	}
	if _, _, ok := postgresMethod(m); ok {
		return postgresFailed, m
	}
	switch m[0] {
	case 'n':
		return readFirst(m, entry{"no pg_hba.conf entry for ", postgresHBA}, entry{"no PostgreSQL user name specified in startup packet", postgresProbe})
	case 'p':
		return readAfter(m, "pg_hba.conf rejects ", postgresHBA)
	case 'r':
		return readAfter(m, `role "`, postgresRole)
	case 'd':
		return readAfter(m, `database "`, sshContextOnly)
	case 'u':
		return readAfter(m, "unsupported frontend protocol ", postgresProbe)
	case 'i':
		return readFirst(m, entry{"invalid length of startup packet", postgresProbe}, entry{"invalid startup packet layout", postgresProbe})
	case 'c':
		return readFirst(m, entry{"connection requires a valid client certificate", postgresProbe}, entry{"canceling authentication due to timeout", postgresProbe})
	case 'e':
		return readFirst(m, entry{"expected password response, got message type ", postgresProbe}, entry{"expected SASL response, got message type ", postgresProbe},
			entry{"empty password returned by client", postgresEmpty})
	}
	return unknown, nil
}

func postgresProbe([]byte) fact { return fact{kind: event.Probe, join: joinFailed} }

func postgresEmpty([]byte) fact { return fact{kind: event.AuthFailed, attempts: 1, join: joinFailed} }

// postgresFailed reads `METHOD authentication failed for user "U"`. Only some methods ask for a secret; the others look
// at who the client is.
func postgresFailed(m []byte) fact {
	method, rest, ok := postgresMethod(m)
	if !ok {
		return fact{}
	}
	user, ok := cutEnd(rest, `"`)
	if !ok || !postgresName(user) {
		return fact{}
	}
	f := fact{kind: event.Probe, account: user, method: method, join: joinFailed}
	switch string(method) {
	case "password", "PAM", "LDAP", "RADIUS", "BSD":
		f.kind, f.attempts = event.AuthFailed, 1
	}
	return f
}

// postgresMethod cuts `METHOD authentication failed for user "` off.
func postgresMethod(m []byte) (method, rest []byte, ok bool) {
	const longest = len("certificate")
	n := 0
	for n < len(m) && n < longest && m[n] != ' ' {
		n++
	}
	rest, ok = cut(m[n:], ` authentication failed for user "`)
	return m[:n], rest, ok
}

// postgresName says whether b is short enough for a name (NAMEDATALEN; PostgreSQL cuts longer ones), in which line
// feeds have become #012. What is longer is more than a name.
func postgresName(b []byte) bool {
	return len(b) <= 63 || len(b) <= 63*4 && len(b)-3*bytes.Count(b, []byte("#012")) <= 63
}

// postgresHBA reads `[replication connection from ]host "H", user "U", database "D", SSL off`, with "connection for" where
// a rule rejects. Nobody was asked for a secret. H is to be believed where U and D don't contain the same words.
func postgresHBA(b []byte) fact {
	f := fact{kind: event.Probe, join: joinFailed}
	i := bytes.LastIndex(b, []byte(`", `))
	if i < 0 || !postgresEncryption(b[i+3:]) {
		return fact{}
	}
	b = b[:i]
	const host, user, database = `host "`, `", user "`, `", database "`
	if bytes.Count(b, []byte(host)) != 1 || bytes.Count(b, []byte(user)) != 1 {
		return f
	}
	_, rest, _ := bytes.Cut(b, []byte(host))
	h, rest, _ := bytes.Cut(rest, []byte(user))
	f.source, _ = address(h)
	f.account = rest
	if name, name2, ok := bytes.Cut(rest, []byte(database)); ok {
		f.account, f.resource = name, name2
	}
	return f
}

func postgresEncryption(b []byte) bool {
	switch string(b) {
	case "no encryption", "SSL off", "SSL on", "SSL encryption", "GSS encryption":
		return true
	}
	return false
}

// postgresRole reads `U" does not exist`, where no secret was asked for, and `U" is not permitted to log in` of one who knew it.
func postgresRole(b []byte) fact {
	if user, ok := cutEnd(b, `" does not exist`); ok && postgresName(user) {
		return fact{kind: event.Probe, account: user, join: joinFailed}
	}
	if user, ok := cutEnd(b, `" is not permitted to log in`); ok {
		return fact{kind: event.Context, account: user, join: joinClosed}
	}
	return fact{}
}

func postgresLog(m []byte) (reading, []byte) {
	if m, ok := cut(m, "00000: "); ok {
		return postgresLog(m)
	}
	if len(m) == 0 {
		return unknown, nil
	}
	switch m[0] {
	case 'c':
		return readFirst(m, entry{"connection received: host=", postgresReceived}, entry{"connection authorized: user=", postgresAuthorized},
			entry{"connection authenticated: ", sshContextOnly}, entry{"could not accept SSL connection: ", postgresProbe},
			entry{"could not connect to Ident server at address ", sshContextOnly})
	case 'r':
		return readAfter(m, "replication connection authorized: user=", postgresAuthorized)
	case 'd':
		return readAfter(m, "disconnection: session time: ", postgresDisconnection)
	case 'i':
		return readFirst(m, entry{"invalid length of startup packet", postgresProbe}, entry{"incomplete startup packet", postgresProbe})
	case 'p':
		return readFirst(m, entry{"provided user name (", sshContextOnly}, entry{"pam_authenticate failed: ", sshContextOnly})
	}
	return unknown, nil
}

// postgresReceived reads "A port=P" or "[local]".
func postgresReceived(b []byte) fact {
	f := fact{kind: event.Context, join: joinOpened}
	f.source, f.port = postgresPeer(b)
	return f
}

// postgresPeer reads "A port=P"; with log_hostname A may be a name, and is none.
func postgresPeer(b []byte) (a netip.Addr, port uint16) {
	host, digits, ok := bytes.Cut(b, []byte(" port="))
	port, isPort := portNumber(digits)
	a, isAddr := address(host)
	if !ok || !isPort || !isAddr {
		return netip.Addr{}, 0
	}
	return a, port
}

// postgresAuthorized reads "U database=D[ application_name=A][ SSL enabled …]".
func postgresAuthorized(b []byte) fact {
	user, rest, ok := bytes.Cut(b, []byte(" database="))
	if !ok { // for replication there is none
		user, _, _ = bytes.Cut(b, []byte(" application_name="))
		user, _, _ = bytes.Cut(user, []byte(" SSL enabled ("))
	}
	database, _, _ := bytes.Cut(rest, []byte(" application_name="))
	database, _, _ = bytes.Cut(database, []byte(" SSL enabled ("))
	if len(user) > 63 || native.PostgresSeverity(b) >= 0 {
		return fact{kind: event.Context} // the end of a longer line
	}
	return fact{kind: event.AuthOK, account: user, resource: database, join: joinPassed}
}

// postgresDisconnection reads "… user=U database=D host=A port=P".
func postgresDisconnection(b []byte) fact {
	f := fact{kind: event.Context, join: joinClosed}
	if i := bytes.LastIndex(b, []byte(" host=")); i >= 0 {
		f.source, f.port = postgresPeer(b[i+len(" host="):])
		f.closed = f.source.IsValid()
	}
	return f
}

// postgresDetail reads what explains a failure that was stated in the line before.
func postgresDetail(b []byte) fact {
	for _, begin := range []string{"Connection matched ", "Password does not match for user ", `Role "`, `User "`} {
		if bytes.HasPrefix(b, []byte(begin)) {
			return fact{kind: event.Context}
		}
	}
	return fact{}
}
