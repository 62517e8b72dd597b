package sink

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxWords     = 16 // of a request to a master
	ownPingEvery = 10 // acknowledgements, of which a replica sends one a second
)

// redis is the master that a pot's server was told to follow: it has nothing, and sends that, so that the link is up and what the
// attacker asks for next is said.
func (c *call) redis() {
	said := append([]byte{}, c.buf...)
	defer func() {
		c.tell(event.Egress{What: "connect", Protocol: "redis", Data: event.Bytes(said[:min(len(said), keptData)]), Bytes: c.in})
	}()
	acknowledged := 0
	for {
		words, n, ok := redisRequest(c.buf)
		if !ok {
			return
		}
		if n == 0 {
			before := len(c.buf)
			if c.more(silence) != nil {
				return
			}
			if room := keptData - len(said); room > 0 {
				fresh := c.buf[before:]
				said = append(said, fresh[:min(len(fresh), room)]...)
			}
			continue
		}
		c.buf = c.buf[n:]
		if len(words) == 0 {
			continue
		}
		say := c.master(words)
		if say == "" {
			if acknowledged++; acknowledged%ownPingEvery == 0 {
				say = "*1\r\n$4\r\nPING\r\n"
			}
		}
		if c.write([]byte(say)) != nil {
			return
		}
	}
}

// master answers a request as a master does; an acknowledgement has no answer.
func (c *call) master(words []string) string {
	switch name := strings.ToUpper(words[0]); {
	case name == "PING":
		return "+PONG\r\n"
	case name == "REPLCONF" && len(words) > 1 && strings.EqualFold(words[1], "ack"):
		return ""
	case name == "PSYNC" || name == "SYNC":
		const nothing = "REDIS0009\xff\x00\x00\x00\x00\x00\x00\x00\x00" // without a checksum
		id := c.s.secret("redis", c.to.Addr().String())
		snapshot := fmt.Sprintf("$%d\r\n%s", len(nothing), nothing)
		if name == "SYNC" {
			return snapshot
		}
		return "+FULLRESYNC " + hex.EncodeToString(id[:20]) + " 0\r\n" + snapshot
	}
	return "+OK\r\n"
}

// redisRequest reads a request, an array of strings or a line, and returns how many bytes it takes; 0 where it is not whole.
func redisRequest(b []byte) (words []string, n int, ok bool) {
	line, rest, whole := bytes.Cut(b, []byte("\r\n"))
	switch {
	case !whole:
		return nil, 0, len(b) < keptData
	case len(line) == 0 || line[0] != '*':
		return strings.Fields(string(line)), len(line) + 2, len(line) < keptData
	}
	count, err := strconv.Atoi(string(line[1:]))
	if err != nil || count < 1 || count > maxWords {
		return nil, 0, false
	}
	for range count {
		if line, rest, whole = bytes.Cut(rest, []byte("\r\n")); !whole {
			return nil, 0, len(line) < keptData
		}
		if len(line) < 2 || line[0] != '$' {
			return nil, 0, false
		}
		size, err := strconv.Atoi(string(line[1:]))
		if err != nil || size < 0 || size > keptData {
			return nil, 0, false
		}
		if len(rest) < size+2 {
			return nil, 0, true
		}
		words, rest = append(words, string(rest[:size])), rest[size+2:]
	}
	return words, len(b) - len(rest), true
}
