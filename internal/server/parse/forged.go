package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/native"
)

// Forged says whether a line calls itself one of a service's but was written by somebody whom that service does not run
// as, as the host's journal or rsyslog saw it. Such a line is no event (see originFits).
func Forged(line []byte) bool {
	app, sd, ok := structured(line)
	if !ok {
		return false
	}
	p := programOf(app)
	return p.read != nil && !originFits(sd, p)
}

// HasWriter says whether a line states who wrote it, as the host's journal or rsyslog saw it.
func HasWriter(line []byte) bool {
	_, sd, ok := structured(line)
	if !ok {
		return false
	}
	_, ok = paramOf(params(sd, native.ElementID), native.ParamUID)
	return ok
}

// structured finds APP-NAME and the structured data of a line of RFC 5424; false where it has no element of ours. Most
// lines have none, and cost little.
func structured(line []byte) (app, sd []byte, ok bool) {
	line = skipPriority(line)
	if !bytes.HasPrefix(line, []byte("1 ")) || !bytes.Contains(line, []byte("["+native.ElementID)) {
		return nil, nil, false
	}
	rest := line[2:]
	var fields [5][]byte // time, host, app, procid, msgid
	for i := range fields {
		if fields[i], rest, ok = field(rest); !ok {
			return nil, nil, false
		}
	}
	after, ok := skipStructuredData(rest)
	return fields[2], rest[:len(rest)-len(after)], ok
}
