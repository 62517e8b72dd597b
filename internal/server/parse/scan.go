package parse

import (
	"bytes"
	"net/netip"
)

// address reads an IP address that fills b. A name is none, whatever it resolves to: whoever owns an
// address chooses what its PTR record says. IPv4-mapped addresses are unmapped, zones dropped.
func address(b []byte) (netip.Addr, bool) {
	if a, ok := address4(b); ok {
		return a, true
	}
	if len(b) > 64 {
		return netip.Addr{}, false
	}
	return address6(b)
}

// address6 reads the text of an IPv6 address (RFC 4291, section 2.2), perhaps with a zone, as [netip.ParseAddr] does, which
// allocates.
func address6(b []byte) (netip.Addr, bool) {
	if i := bytes.IndexByte(b, '%'); i >= 0 {
		if i == len(b)-1 {
			return netip.Addr{}, false
		}
		b = b[:i]
	}
	var octets [16]byte
	n, gap := 0, -1 // octets that are set, and where :: stands among them
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		if n == len(octets) {
			return netip.Addr{}, false
		}
		value, digits := 0, 0
		for digits < len(b) && digits < 5 {
			v, ok := hexDigit(b[digits])
			if !ok {
				break
			}
			value = value<<4 | v
			digits++
		}
		switch {
		case digits == 0 || digits > 4:
			return netip.Addr{}, false
		case digits < len(b) && b[digits] == '.': // the last 32 bits as IPv4
			a, ok := address4(b)
			if !ok || n > 12 || gap < 0 && n != 12 {
				return netip.Addr{}, false
			}
			four := a.As4()
			n += copy(octets[n:], four[:])
			b = nil
			continue
		}
		octets[n], octets[n+1] = byte(value>>8), byte(value)
		n += 2
		if b = b[digits:]; len(b) == 0 {
			continue
		}
		switch {
		case b[0] != ':' || len(b) == 1:
			return netip.Addr{}, false
		case b[1] != ':':
			b = b[1:]
		case gap >= 0:
			return netip.Addr{}, false
		default:
			gap, b = n, b[2:]
		}
	}
	switch {
	case n == len(octets) && gap < 0:
	case n == len(octets) || gap < 0:
		return netip.Addr{}, false
	default:
		tail := n - gap
		copy(octets[len(octets)-tail:], octets[gap:n])
		clear(octets[gap : len(octets)-tail])
	}
	return netip.AddrFrom16(octets).Unmap(), true
}

func hexDigit(c byte) (int, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10, true
	}
	return 0, false
}

// address4 reads four decimal numbers without leading zeros.
func address4(b []byte) (netip.Addr, bool) {
	if len(b) < len("0.0.0.0") || len(b) > len("255.255.255.255") {
		return netip.Addr{}, false
	}
	var octets [4]byte
	n, value, digits := 0, 0, 0
	for i := 0; i <= len(b); i++ {
		if i == len(b) || b[i] == '.' {
			if digits == 0 || n == 4 {
				return netip.Addr{}, false
			}
			octets[n] = byte(value)
			n++
			value, digits = 0, 0
			continue
		}
		c := b[i]
		if c < '0' || c > '9' || digits > 0 && value == 0 {
			return netip.Addr{}, false
		}
		value = value*10 + int(c-'0')
		digits++
		if value > 255 {
			return netip.Addr{}, false
		}
	}
	if n != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4(octets), true
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
