package parse

import (
	"bytes"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/native"
)

// address is [native.Address].
func address(b []byte) (netip.Addr, bool) { return native.Address(b) }

func hexDigit(c byte) (int, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10, true
	}
	return 0, false
}

// portNumber reads a port that fills b.
func portNumber(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 {
		return 0, false
	}
	n, ok := number(b)
	if !ok || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}

// cut removes a prefix.
func cut(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return b, false
	}
	return b[len(prefix):], true
}

// cutEnd removes a suffix.
func cutEnd(b []byte, suffix string) ([]byte, bool) {
	n := len(b) - len(suffix)
	if n < 0 || string(b[n:]) != suffix {
		return b, false
	}
	return b[:n], true
}

// lastWord cuts the last word off: what follows the last space.
func lastWord(b []byte) (rest, word []byte) {
	i := bytes.LastIndexByte(b, ' ')
	if i < 0 {
		return nil, b
	}
	return b[:i], b[i+1:]
}

// word cuts the first word off.
func word(b []byte) (w, rest []byte) {
	w, rest, _ = bytes.Cut(b, []byte(" "))
	return w, rest
}

// peer is an address with a port as a message states it; the address is invalid where a name (or
// UNKNOWN) stands in its place.
type peer struct {
	addr netip.Addr
	port uint16
}

// peerAtEnd reads "… A port P" that ends b and returns what stands before A and the space.
func peerAtEnd(b []byte) (before []byte, p peer, ok bool) {
	rest, digits := lastWord(b)
	port, ok := portNumber(digits)
	if !ok {
		return b, peer{}, false
	}
	rest, ok = cutEnd(rest, " port")
	if !ok {
		return b, peer{}, false
	}
	before, a := lastWord(rest)
	if len(a) == 0 {
		return b, peer{}, false
	}
	addr, _ := address(a)
	return before, peer{addr, port}, true
}

// peerAtStart reads "A port P" that begins b and returns what follows it.
func peerAtStart(b []byte) (p peer, rest []byte, ok bool) {
	a, rest := word(b)
	if len(a) == 0 {
		return peer{}, b, false
	}
	rest, ok = cut(rest, "port ")
	if !ok {
		return peer{}, b, false
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	port, ok := portNumber(rest[:n])
	if !ok {
		return peer{}, b, false
	}
	addr, _ := address(a)
	return peer{addr, port}, rest[n:], true
}

// indexFrom finds sep in b at or after i; -1 where it isn't.
func indexFrom(b []byte, sep string, i int) int {
	if i > len(b) {
		return -1
	}
	n := bytes.Index(b[i:], []byte(sep))
	if n < 0 {
		return -1
	}
	return n + i
}

// lastIndex finds the last sep in b; its first byte seldom stands elsewhere.
func lastIndex(b []byte, sep string) int {
	for end := len(b); ; {
		i := bytes.LastIndexByte(b[:end], sep[0])
		if i < 0 {
			return -1
		}
		if _, ok := cut(b[i:], sep); ok {
			return i
		}
		end = i
	}
}
