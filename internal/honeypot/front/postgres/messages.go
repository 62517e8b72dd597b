package postgres

import (
	"bytes"
	"encoding/binary"
)

// Messages of the protocol (PostgreSQL's documentation, "Message Formats"): a type and a length that counts itself, but for those with
// which a connection begins, which have no type.

const (
	lengthSize = 4
	headSize   = 1 + lengthSize

	// What a client may begin with, in place of the protocol's version.
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
	version3      = 3

	maxStartup = 10_000   // MAX_STARTUP_PACKET_LENGTH of the server
	maxLogin   = 64 << 10 // of a message while a client logs in
)

// What a server asks for while a client logs in.
const (
	authOK        = 0
	authClear     = 3
	authMD5       = 5
	authSASL      = 10
	authSASLGoes  = 11
	authSASLFinal = 12
)

// beginning is the message with which a client begins.
type beginning struct {
	code       uint32
	parameters [][2]string // what it says of itself: names and values
	user       string
}

// readBeginning reads it without its length.
func readBeginning(body []byte) (b beginning, ok bool) {
	if len(body) < 4 {
		return b, false
	}
	b.code = binary.BigEndian.Uint32(body)
	if b.code>>16 != version3 {
		return b, false
	}
	rest := body[4:]
	for len(rest) > 0 && rest[0] != 0 {
		name, after, ok1 := bytes.Cut(rest, []byte{0})
		value, after, ok2 := bytes.Cut(after, []byte{0})
		if !ok1 || !ok2 {
			return b, false
		}
		b.parameters = append(b.parameters, [2]string{string(name), string(value)})
		if string(name) == "user" {
			b.user = string(value)
		}
		rest = after
	}
	return b, len(rest) == 1
}

// cutMessage cuts the first message off; ok is false where it has not come whole.
func cutMessage(b []byte) (kind byte, body, whole, rest []byte, ok bool) {
	if len(b) < headSize {
		return 0, nil, nil, b, false
	}
	n := int(binary.BigEndian.Uint32(b[1:]))
	if n < lengthSize || len(b) < 1+n {
		return b[0], nil, nil, b, false
	}
	return b[0], b[headSize : 1+n], b[:1+n], b[1+n:], true
}

// broken reports whether what has come of a message can't become one of a login.
func broken(b []byte) bool {
	if len(b) < headSize {
		return false
	}
	n := binary.BigEndian.Uint32(b[1:])
	return n < lengthSize || n > maxLogin
}

func appendMessage(b []byte, kind byte, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, kind), uint32(lengthSize+len(body)))
	return append(b, body...)
}

// asks is a message of the server that asks for something.
func asks(code uint32, more []byte) []byte {
	return appendMessage(nil, 'R', append(binary.BigEndian.AppendUint32(nil, code), more...))
}

// answers is a message of a client that answers.
func answers(body []byte) []byte { return appendMessage(nil, 'p', body) }

// begins is a client's first answer by a method of SASL.
func begins(method string, first []byte) []byte {
	body := binary.BigEndian.AppendUint32(append([]byte(method), 0), uint32(len(first)))
	return answers(append(body, first...))
}

// readBegins reads one.
func readBegins(body []byte) (method string, first []byte, ok bool) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) != uint64(len(rest)-4) {
		return "", nil, false
	}
	return string(name), rest[4:], true
}

// failure is what an error of the server says, in one line.
func failure(body []byte) string {
	var severity, code, text string
	for len(body) > 1 {
		field, rest, _ := bytes.Cut(body[1:], []byte{0})
		switch body[0] {
		case 'S':
			severity = string(field)
		case 'C':
			code = string(field)
		case 'M':
			text = string(field)
		}
		body = rest
	}
	return severity + " " + code + ": " + text
}
