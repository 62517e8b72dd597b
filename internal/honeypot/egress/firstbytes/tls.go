package firstbytes

import (
	"crypto/md5" //nolint:gosec // JA3 is MD5 by its definition
	"encoding/hex"
	"strconv"
	"strings"
)

const (
	// MaxHello bounds a client's hello.
	MaxHello = 16 << 10

	recordHandshake  = 22
	clientHello      = 1
	recordHead       = 5
	extServerName    = 0
	extGroups        = 10
	extPointFormats  = 11
	extALPN          = 16
	serverNameIsHost = 0
	maxProtocols     = 16
)

// Hello is what a client of TLS says first (RFC 8446, 4.1.2). All texts are a stranger's bytes.
type Hello struct {
	ServerName string
	Protocols  []string // ALPN
	JA3        string   // fingerprint of the client (github.com/salesforce/ja3)
}

// MayBeTLS reports whether bytes may be the beginning of a hello.
func MayBeTLS(b []byte) bool {
	return len(b) > 0 && b[0] == recordHandshake && (len(b) < 2 || b[1] == 3)
}

// ParseHello reads a hello. done is false where more bytes are needed; ok is false where it never becomes one.
func ParseHello(b []byte) (h Hello, done, ok bool) {
	if !MayBeTLS(b) {
		return h, true, false
	}
	body, done, ok := handshake(b)
	if !done || !ok {
		return h, done, ok
	}
	r := reader{b: body}
	version := r.uint(2)
	r.skip(32) // random
	r.take(r.uint(1))
	ciphers := r.take(r.uint(2))
	r.take(r.uint(1)) // compression
	if r.bad {
		return h, true, false
	}
	var kinds, groups, points []string
	ext := reader{b: r.take(r.uint(2))}
	for !ext.empty() {
		kind := ext.uint(2)
		data := reader{b: ext.take(ext.uint(2))}
		if ext.bad {
			break
		}
		if !grease(kind) {
			kinds = append(kinds, strconv.Itoa(kind))
		}
		switch kind {
		case extServerName:
			h.ServerName = serverName(&data)
		case extALPN:
			h.Protocols = protocols(&data)
		case extGroups:
			groups = numbers(data.take(data.uint(2)), 2)
		case extPointFormats:
			points = numbers(data.take(data.uint(1)), 1)
		}
	}
	text := strings.Join([]string{
		strconv.Itoa(version), strings.Join(numbers(ciphers, 2), "-"), strings.Join(kinds, "-"),
		strings.Join(groups, "-"), strings.Join(points, "-"),
	}, ",")
	sum := md5.Sum([]byte(text)) //nolint:gosec // as above
	h.JA3 = hex.EncodeToString(sum[:])
	return h, true, true
}

// handshake joins the records that a hello comes in, and returns its body.
func handshake(b []byte) (body []byte, done, ok bool) {
	var joined []byte
	for rest := b; ; {
		if len(rest) < recordHead {
			return nil, false, len(b) < MaxHello
		}
		if !MayBeTLS(rest) {
			return nil, true, false
		}
		n := int(rest[3])<<8 | int(rest[4])
		if n == 0 || n > MaxHello {
			return nil, true, false
		}
		if len(rest) < recordHead+n {
			return nil, false, len(b) < MaxHello
		}
		joined = append(joined, rest[recordHead:recordHead+n]...)
		rest = rest[recordHead+n:]
		if joined[0] != clientHello {
			return nil, true, false
		}
		if len(joined) < 4 {
			continue
		}
		need := int(joined[1])<<16 | int(joined[2])<<8 | int(joined[3])
		if need > MaxHello {
			return nil, true, false
		}
		if len(joined) >= 4+need {
			return joined[4 : 4+need], true, true
		}
	}
}

func serverName(r *reader) string {
	list := reader{b: r.take(r.uint(2))}
	for !list.empty() {
		kind := list.uint(1)
		name := list.take(list.uint(2))
		if kind == serverNameIsHost {
			return string(name)
		}
	}
	return ""
}

func protocols(r *reader) []string {
	var out []string
	for list := (reader{b: r.take(r.uint(2))}); !list.empty() && len(out) < maxProtocols; {
		if p := list.take(list.uint(1)); len(p) > 0 {
			out = append(out, string(p))
		}
	}
	return out
}

// numbers reads numbers of size bytes, without those that clients send to be ignored.
func numbers(b []byte, size int) []string {
	var out []string
	for r := (reader{b: b}); !r.empty(); {
		n := r.uint(size)
		if !r.bad && (size == 1 || !grease(n)) {
			out = append(out, strconv.Itoa(n))
		}
	}
	return out
}

// grease reports values of RFC 8701.
func grease(n int) bool { return n&0x0f0f == 0x0a0a && n>>8 == n&0xff }

// reader reads fields until there are no more; then it is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) empty() bool { return r.bad || len(r.b) == 0 }

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) skip(n int) { r.take(n) }

func (r *reader) uint(size int) int {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return n
}
