package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// auditMessage reads what MariaDB's plugin server_audit 1.4 (MariaDB 10.5 to 11.8) writes to syslog: the only log of MariaDB's
// that tells of successful logins.
//
//	[INFO ]HOST,U,H,ID,QUERY,CONNECT,D,,0               U got in from H; D is the database that it asked for
//	[INFO ]HOST,U,H,ID,QUERY,FAILED_CONNECT,,,1045      it did not; the error log states the guess
//	[INFO ]HOST,U,H,ID,QUERY,DISCONNECT,D,,0            either is over
//	[INFO ]HOST,U,H,ID,QUERY,QUERY,D,'TEXT',0           and other events of those who got in
//
// U and D are what clients sent, commas and all, but what ends the message is the server's: only CONNECT and DISCONNECT
// end with ",,0". A message in which more than one place could be that of the operation states nothing: so U or D
// of another can't invent a login. In the plugin's own files names have line feeds in them, so that nothing there is
// sure; to syslog each message is one.
func auditMessage(msg *message) fact {
	m, _ := cutEnd(trimLeft(msg.text), "#012") // it ends its messages with a line feed, which most daemons drop
	at, ok := auditAt(m)
	f := fact{kind: event.Context, style: framed}
	switch {
	case !ok:
		return fact{style: framed}
	case at.again:
		return f
	}
	f.source, _ = address(at.host)
	f.account = at.user
	if string(at.operation) == "CONNECT" && bytes.HasSuffix(at.rest, []byte(",,0")) && len(at.host) > 0 && string(at.host) != "localhost" {
		f.kind = event.AuthOK
		f.resource = at.rest[:len(at.rest)-len(",,0")]
	}
	return f
}

// auditPlace is a message split at its operation.
type auditPlace struct {
	user, host, operation []byte
	rest                  []byte // after the operation and its comma
	again                 bool   // another place could be the operation's
}

// auditAt finds ",ID,QUERY,OPERATION,": two numbers and a word in capitals.
func auditAt(m []byte) (at auditPlace, ok bool) {
	fields := [5][]byte{} // the last that were read: user, host, ID, query, operation
	rest := m
	for n := 1; ; n++ {
		i := bytes.IndexByte(rest, ',')
		if i < 0 {
			return at, ok
		}
		copy(fields[:], fields[1:])
		fields[4], rest = rest[:i], rest[i+1:]
		if !auditOperation(fields[4]) || !decimal(fields[3]) || !decimal(fields[2]) || n < 6 {
			continue
		}
		if ok {
			at.again = true
			return at, true
		}
		at, ok = auditPlace{user: fields[0], host: fields[1], operation: fields[4], rest: rest}, true
	}
}

func auditOperation(b []byte) bool {
	for _, c := range b {
		if (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return len(b) > 0
}
