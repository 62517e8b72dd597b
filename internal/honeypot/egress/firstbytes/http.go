// Package firstbytes reads how a conversation begins: the head of a request of HTTP, or the hello of a client
// of TLS. It reads what strangers send, takes what it can of it, and never needs more than it is given.
package firstbytes

import (
	"bytes"
	"strconv"
	"strings"
)

const (
	// MaxHead bounds the head of a request.
	MaxHead    = 32 << 10
	maxHeaders = 64
	maxMethod  = 24
)

// Header is a field of a request's head.
type Header struct{ Name, Value string }

// Request is the head of a request of HTTP/0.9 to 1.1 (RFC 9112). All texts are a stranger's bytes.
type Request struct {
	Method  string
	Target  string // as it was sent: a path with its query, or a whole URL
	Version string // as HTTP/1.1; empty for HTTP/0.9
	Headers []Header
	Length  int64 // of the body; -1 where it is chunked, 0 where there is none
}

// Get returns the first value of a header.
func (r Request) Get(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// KeepAlive reports whether the client may send another request.
func (r Request) KeepAlive() bool {
	c := strings.ToLower(r.Get("Connection"))
	return r.Version == "HTTP/1.1" && !strings.Contains(c, "close") || strings.Contains(c, "keep-alive")
}

// MayBeHTTP reports whether bytes may be the beginning of a request: a method in upper case, and a blank.
func MayBeHTTP(b []byte) bool {
	for i, c := range b {
		if c == ' ' {
			return i >= 3
		}
		if c < 'A' || c > 'Z' || i >= maxMethod {
			return false
		}
	}
	return len(b) > 0
}

// ParseHTTP reads a request's head. n is how many bytes it takes, 0 where more are needed; ok is false where it
// never becomes one.
func ParseHTTP(b []byte) (r Request, n int, ok bool) {
	if !MayBeHTTP(b) {
		return r, 0, false
	}
	line, rest, whole := cutLine(b)
	if !whole {
		return r, 0, len(b) < MaxHead
	}
	method, target, ok := strings.Cut(string(line), " ")
	if !ok {
		return r, 0, false
	}
	r.Method, r.Target = method, strings.TrimSpace(target)
	if i := strings.LastIndexByte(r.Target, ' '); i >= 0 && strings.HasPrefix(r.Target[i+1:], "HTTP/") {
		r.Target, r.Version = strings.TrimSpace(r.Target[:i]), r.Target[i+1:]
	}
	if r.Version == "" { // HTTP/0.9 has GET alone; other protocols begin with words in upper case too
		return r, len(b) - len(rest), r.Method == "GET"
	}
	for {
		line, rest, whole = cutLine(rest)
		if !whole {
			return r, 0, len(b) < MaxHead
		}
		if len(line) == 0 {
			r.Length = r.bodyLength()
			return r, len(b) - len(rest), true
		}
		if len(r.Headers) < maxHeaders {
			name, value, _ := strings.Cut(string(line), ":")
			r.Headers = append(r.Headers, Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
		}
	}
}

func (r Request) bodyLength() int64 {
	if strings.Contains(strings.ToLower(r.Get("Transfer-Encoding")), "chunked") {
		return -1
	}
	n, err := strconv.ParseInt(r.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// cutLine cuts off a line; whole is false where its end is missing.
func cutLine(b []byte) (line, rest []byte, whole bool) {
	line, rest, whole = bytes.Cut(b, []byte("\n"))
	if !whole {
		return nil, b, false
	}
	return bytes.TrimSuffix(line, []byte("\r")), rest, true
}
