package web

import (
	"bytes"
	"strconv"
	"strings"
)

const (
	maxHead = 32 << 10 // as much as nginx takes
	maxLine = 4 << 10  // of what frames a chunk
)

// head is what a message begins with.
type head struct {
	lines [][]byte // the first, and the fields, without their ends
	raw   []byte
}

// cutHead cuts a message's head off, as lenient about lines' ends as servers are; n is 0 where it has not come whole. A request that names
// no version has no more than its first line.
func cutHead(b []byte, request bool) (h head, n int) {
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return head{}, 0
		}
		line := bytes.TrimSuffix(b[n:n+i], []byte("\r"))
		n += i + 1
		switch {
		case len(line) > 0:
			h.lines = append(h.lines, line)
			if request && len(h.lines) == 1 && !bytes.Contains(line, []byte(" HTTP/")) {
				h.raw = b[:n]
				return h, n
			}
		case len(h.lines) > 0: // empty lines before a message are none of it
			h.raw = b[:n]
			return h, n
		}
	}
}

// mayBegin reports whether what has come may become a request: a server complains about everything else at once.
func mayBegin(b []byte) bool {
	b = bytes.TrimLeft(b, "\r\n")
	for i, c := range b {
		if c == ' ' && i > 0 {
			return true
		}
		if (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// field returns the value of the first field of a name, without space around it, and its line.
func (h head) field(name string) (value string, line int) {
	for i, l := range h.lines[1:] {
		if field, v, ok := bytes.Cut(l, []byte(":")); ok && strings.EqualFold(string(field), name) {
			return string(bytes.TrimSpace(v)), i + 1
		}
	}
	return "", 0
}

// count returns how many fields have a name.
func (h head) count(name string) (n int) {
	for _, l := range h.lines[1:] {
		if field, _, ok := bytes.Cut(l, []byte(":")); ok && strings.EqualFold(string(field), name) {
			n++
		}
	}
	return n
}

// with returns the head's bytes with other values of fields.
func (h head) with(values map[int]string) []byte {
	var out []byte
	for i, l := range h.lines {
		if value, ok := values[i]; ok {
			name, _, _ := bytes.Cut(l, []byte(":"))
			out = append(append(append(out, name...), ": "...), value...)
		} else {
			out = append(out, l...)
		}
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// body says where a message's body ends (RFC 9112, section 6).
type body struct {
	left    int64 // bytes that are to come
	chunked bool
	endless bool // up to the connection's end

	line    []byte // of chunks: what has come of one
	trailer bool   // the last one has come
	ending  bool   // a chunk's own end is to come
}

// bodyOf reads a head; ok is false where servers disagree about what it means.
func bodyOf(h head) (b body, ok bool) {
	length, _ := h.field("Content-Length")
	coding, _ := h.field("Transfer-Encoding")
	switch {
	case coding != "":
		b.chunked = strings.EqualFold(coding, "chunked")
		return b, b.chunked && length == "" && h.count("Transfer-Encoding") == 1
	case length != "":
		n, err := strconv.ParseUint(length, 10, 62)
		b.left = int64(n)
		return b, err == nil && h.count("Content-Length") == 1
	}
	return b, true
}

func (b *body) over() bool { return b.left == 0 && !b.chunked && !b.endless }

// take takes bytes of the body off p, and tells what they hold; ok is false where they are no body's.
func (b *body) take(p []byte, data func([]byte)) (n int, ok bool) {
	for n < len(p) && !b.over() {
		switch {
		case b.endless:
			data(p[n:])
			return len(p), true
		case b.left > 0:
			m := int(min(b.left, int64(len(p)-n)))
			data(p[n : n+m])
			b.left, n = b.left-int64(m), n+m
			if b.left == 0 && b.chunked {
				b.ending = true
			}
		default:
			m := bytes.IndexByte(p[n:], '\n') + 1
			if m == 0 {
				m = len(p) - n
			}
			b.line = append(b.line, p[n:n+m]...)
			n += m
			if len(b.line) > maxLine {
				return n, false
			}
			if b.line[len(b.line)-1] != '\n' {
				return n, true
			}
			if !b.frame(string(bytes.TrimRight(b.line, "\r\n"))) {
				return n, false
			}
			b.line = b.line[:0]
		}
	}
	return n, true
}

// frame takes a line that frames chunks.
func (b *body) frame(line string) bool {
	switch {
	case b.ending:
		b.ending = false
		return line == ""
	case b.trailer:
		b.chunked = line != ""
		return true
	}
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
	if err != nil {
		return false
	}
	b.left, b.trailer = int64(n), n == 0
	return true
}
