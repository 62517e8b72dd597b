package native

import (
	"bytes"
	"net/netip"
)

// Address reads an IP address that fills b. A name is none, whatever it resolves to: whoever owns an
// address chooses what its PTR record says. IPv4-mapped addresses are unmapped, zones dropped.
func Address(b []byte) (netip.Addr, bool) {
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
		value, digits := hexGroup(b)
		switch {
		case n == len(octets) || digits == 0 || digits > 4:
			return netip.Addr{}, false
		case digits < len(b) && b[digits] == '.': // the last 32 bits as IPv4
			a, ok := address4(b)
			if !ok || n > 12 || gap < 0 && n != 12 {
				return netip.Addr{}, false
			}
			four := a.As4()
			n += copy(octets[n:], four[:])
			return filled(octets, n, gap)
		}
		octets[n], octets[n+1] = byte(value>>8), byte(value)
		n += 2
		var ok, double bool
		if b, double, ok = colons(b[digits:]); !ok || double && gap >= 0 {
			return netip.Addr{}, false
		}
		if double {
			gap = n
		}
	}
	return filled(octets, n, gap)
}

// colons takes what stands between two groups of digits off; ok is false where something else does, or one colon alone at the end.
func colons(b []byte) (rest []byte, double, ok bool) {
	switch {
	case len(b) == 0:
		return b, false, true
	case b[0] != ':' || len(b) == 1:
		return b, false, false
	case b[1] == ':':
		return b[2:], true, true
	}
	return b[1:], false, true
}

// hexGroup reads the hexadecimal digits at the beginning of b, of which there are too many from five on.
func hexGroup(b []byte) (value, digits int) {
	for digits < len(b) && digits < 5 {
		v, ok := hexDigit(b[digits])
		if !ok {
			break
		}
		value = value<<4 | v
		digits++
	}
	return value, digits
}

// filled is the address of n octets, of which those from gap on stand at the end.
func filled(octets [16]byte, n, gap int) (netip.Addr, bool) {
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
	for n := range octets {
		if n > 0 {
			if len(b) == 0 || b[0] != '.' {
				return netip.Addr{}, false
			}
			b = b[1:]
		}
		value, digits := 0, 0
		for digits < len(b) && digits < 3 && b[digits] >= '0' && b[digits] <= '9' {
			value = value*10 + int(b[digits]-'0')
			digits++
		}
		if digits == 0 || value > 255 || digits > 1 && b[0] == '0' {
			return netip.Addr{}, false
		}
		octets[n], b = byte(value), b[digits:]
	}
	if len(b) > 0 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4(octets), true
}
