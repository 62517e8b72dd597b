package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// redisMessage reads what Kokkuri's agent says of Redis's ACL LOG (see [native.ACLEntry]), and the few lines of the log
// of Redis 6 to 8 and Valkey that are about clients. A failed AUTH is in no line of that log.
//
// Who may run scripts writes into the log what they like, whole lines in Redis's own form (redis.log), and on a server
// without passwords that is everybody. So these lines are no guesses and name no source.
func redisMessage(msg *message) fact {
	if msg.said != nil && string(msg.said.format) == native.RedisACLFormat {
		return redisACL(msg.said)
	}
	m := redisText(trimLeft(msg.text))
	switch {
	case bytes.HasPrefix(m, []byte("Possible SECURITY ATTACK detected.")), bytes.HasPrefix(m, []byte("Protocol error (")),
		bytes.HasPrefix(m, []byte("Error accepting a client connection: ")), bytes.HasPrefix(m, []byte("-DENIED Redis is running in protected mode")):
		return fact{kind: event.Probe}
	case bytes.HasPrefix(m, []byte("Accepted ")), bytes.HasPrefix(m, []byte("Client closed connection")), bytes.HasPrefix(m, []byte("Reading from client: ")):
		return fact{kind: event.Context}
	}
	return fact{}
}

// redisText cuts "1234:M 22 Nov 2026 18:00:00.123 # " off, the prefix of a line in Redis's own file.
func redisText(b []byte) []byte {
	pid, rest, ok := bytes.Cut(b, []byte(":"))
	if !ok || !decimal(pid) || len(rest) < len("M 22 Nov 2026 18:00:00.123 # ") || rest[1] != ' ' || bytes.IndexByte([]byte("MSCX"), rest[0]) < 0 {
		return b
	}
	rest = rest[2:]
	for range 4 { // day, month, year, clock
		_, rest = word(rest)
	}
	if len(rest) > 2 && rest[1] == ' ' && bytes.IndexByte([]byte("#*.-"), rest[0]) >= 0 {
		return rest[2:]
	}
	return b
}

// redisACL reads the parameters of such a record.
func redisACL(p *fields) fact {
	f := fact{kind: event.Context, account: p.account}
	f.source, _ = address(p.source)
	if f.source.IsValid() {
		f.port, _ = portNumber(p.port)
	}
	if string(p.reason) != "auth" {
		f.resource = p.object
		return f
	}
	n, ok := number(p.count[:min(len(p.count), 18)])
	if !ok || n < 1 {
		return f
	}
	f.kind, f.attempts = event.AuthFailed, min(n, maxRepeated)
	return f
}
