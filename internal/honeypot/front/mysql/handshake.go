package mysql

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the protocol's own
	"encoding/binary"
)

// Capabilities of a client and a server (MySQL's protocol documentation, "Capabilities Flags").
const (
	capWithDatabase   = 1 << 3
	capCompress       = 1 << 5
	capProtocol41     = 1 << 9
	capSSL            = 1 << 11
	capSecure         = 1 << 15
	capPlugin         = 1 << 19
	capAttributes     = 1 << 20
	capLongResponse   = 1 << 21
	responseFixedPart = 32 // capabilities, longest packet, character set, and what is reserved
)

const (
	nativePassword = "mysql_native_password" //nolint:gosec // a method's name
	challengeSize  = 20
	headerSize     = 4
	maxHandshake   = 64 << 10
)

// First bytes of what a server answers.
const (
	isOK     = 0x00
	isSwitch = 0xfe // to another method, while a client logs in
	isError  = 0xff
)

// packet is one of the protocol's, whole.
type packet struct {
	seq  byte
	body []byte
}

// cutPacket cuts the first packet off; ok is false where it has not come whole.
func cutPacket(b []byte) (p packet, rest []byte, ok bool) {
	if len(b) < headerSize {
		return packet{}, b, false
	}
	n := bodySize(b)
	if len(b) < headerSize+n {
		return packet{}, b, false
	}
	return packet{seq: b[3], body: b[headerSize : headerSize+n]}, b[headerSize+n:], true
}

func bodySize(header []byte) int {
	return int(header[0]) | int(header[1])<<8 | int(header[2])<<16
}

func appendPacket(b []byte, seq byte, body []byte) []byte {
	n := len(body)
	return append(append(b, byte(n), byte(n>>8), byte(n>>16), seq), body...)
}

// greeting is where things stand in the packet with which a server begins.
type greeting struct {
	challenge []byte
	parts     [2][]byte // of the packet, in which it stands
	plugin    string
}

// readGreeting reads protocol 10 with a challenge of twenty bytes, as servers since MySQL 4.1 begin.
func readGreeting(body []byte) (g greeting, ok bool) {
	if len(body) == 0 || body[0] != 10 {
		return g, false
	}
	_, rest, ok := bytes.Cut(body, []byte{0}) // behind the version
	if !ok {
		return g, false
	}
	const (
		first  = 4                                      // after the thread's number
		second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10 // after filler, capabilities, character set, status, length and what is reserved
	)
	if len(rest) < second+challengeSize-8+1 {
		return g, false
	}
	g.parts = [2][]byte{rest[first : first+8], rest[second : second+challengeSize-8]}
	g.challenge = append(append(g.challenge, g.parts[0]...), g.parts[1]...)
	plugin, _, _ := bytes.Cut(rest[second+challengeSize-8+1:], []byte{0})
	g.plugin = string(plugin)
	return g, true
}

// login is with what a client answers.
type login struct {
	caps       uint32
	fixed      []byte // the packet's first part
	account    []byte
	response   []byte
	database   []byte
	plugin     string
	attributes []byte // and what follows them, as it came
}

// readLogin reads a client's answer where it is of protocol 4.1 with a response to the challenge; all others are for the server alone.
func readLogin(body []byte) (l login, ok bool) {
	if len(body) < responseFixedPart {
		return l, false
	}
	l.caps, l.fixed = binary.LittleEndian.Uint32(body), body[:responseFixedPart]
	if l.caps&capProtocol41 == 0 || l.caps&capSecure == 0 {
		return l, false
	}
	rest := body[responseFixedPart:]
	if l.account, rest, ok = bytes.Cut(rest, []byte{0}); !ok {
		return l, false
	}
	var n int
	if l.caps&capLongResponse != 0 {
		n, rest, ok = lengthOf(rest)
	} else if len(rest) > 0 {
		n, rest = int(rest[0]), rest[1:]
	} else {
		ok = false
	}
	if !ok || n > len(rest) {
		return l, false
	}
	l.response, rest = rest[:n], rest[n:]
	if l.caps&capWithDatabase != 0 {
		l.database, rest, _ = bytes.Cut(rest, []byte{0})
	}
	if l.caps&capPlugin != 0 {
		var plugin []byte
		plugin, rest, _ = bytes.Cut(rest, []byte{0})
		l.plugin = string(plugin)
	}
	l.attributes = rest
	return l, true
}

// lengthOf reads a length as the protocol encodes it, of up to 16 MiB.
func lengthOf(b []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(b) > 0 && b[0] <= 0xfa:
		return int(b[0]), b[1:], true
	case len(b) > 2 && b[0] == 0xfc:
		return int(b[1]) | int(b[2])<<8, b[3:], true
	case len(b) > 3 && b[0] == 0xfd:
		return bodySize(b[1:]), b[4:], true
	}
	return 0, nil, false
}

// with is the login with another response, and the plugin that it is of.
func (l login) with(response []byte, plugin string) []byte {
	b := append(append([]byte(nil), l.fixed...), l.account...)
	b = append(append(b, 0, byte(len(response))), response...)
	if l.caps&capWithDatabase != 0 {
		b = append(append(b, l.database...), 0)
	}
	if l.caps&capPlugin != 0 {
		b = append(append(b, plugin...), 0)
	}
	return append(b, l.attributes...)
}

// readChange reads what COM_CHANGE_USER says behind the command: a login without its first part.
func readChange(body []byte) (l login, ok bool) {
	if l.account, body, ok = bytes.Cut(body, []byte{0}); !ok || len(body) == 0 || len(body) <= int(body[0]) {
		return l, false
	}
	n := 1 + int(body[0])
	l.response, body = body[1:n], body[n:]
	if l.database, body, ok = bytes.Cut(body, []byte{0}); !ok {
		return l, false
	}
	const charset = 2
	if len(body) > charset {
		l.caps = capPlugin
		plugin, rest, _ := bytes.Cut(body[charset:], []byte{0})
		l.plugin, l.fixed, l.attributes = string(plugin), body[:charset], rest
		return l, true
	}
	l.fixed = body
	return l, true
}

// changed is such a change with another response, and the plugin that it is of.
func (l login) changed(response []byte, plugin string) []byte {
	b := append(append([]byte{changeUser}, l.account...), 0, byte(len(response)))
	b = append(append(append(b, response...), l.database...), 0)
	b = append(b, l.fixed...)
	if l.caps&capPlugin != 0 {
		b = append(append(append(b, plugin...), 0), l.attributes...)
	}
	return b
}

// switchTo asks a client to answer a challenge by another method.
func switchTo(plugin string, challenge []byte) []byte {
	b := append(append([]byte{isSwitch}, plugin...), 0)
	return append(append(b, challenge...), 0)
}

// readSwitch reads that of a server.
func readSwitch(body []byte) (plugin string, challenge []byte) {
	name, rest, _ := bytes.Cut(body[1:], []byte{0})
	return string(name), bytes.TrimSuffix(rest, []byte{0})
}

// native answers a challenge as mysql_native_password does: SHA1(password) XOR SHA1(challenge + SHA1(SHA1(password))).
func native(password string, challenge []byte) []byte {
	once := sha1.Sum([]byte(password))                                       //nolint:gosec // the protocol's own
	twice := sha1.Sum(once[:])                                               //nolint:gosec // the protocol's own
	mask := sha1.Sum(append(append([]byte(nil), challenge...), twice[:]...)) //nolint:gosec // the protocol's own
	out := make([]byte, len(once))
	for i := range out {
		out[i] = once[i] ^ mask[i]
	}
	return out
}
