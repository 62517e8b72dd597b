package intake

import (
	"bytes"
	"net/netip"
)

const maxHostname = 255 // RFC 5424, section 6

// hostname returns what stands in the HOSTNAME field of a line without PRI: RFC 5424 ("1 2026-11-22T18:00:00Z web …"), RFC 3164
// ("Nov 22 18:00:00 web …") or that with an ISO 8601 time, as rsyslog forwards it ("2026-11-22T18:00:00.1+00:00 web …").
// It is nil where there is none.
func hostname(line []byte) []byte {
	rest, ok := bytes.CutPrefix(line, []byte("1 "))
	switch {
	case ok:
		stamp, after, found := bytes.Cut(rest, []byte{' '})
		if !found || string(stamp) != "-" && isoTime(stamp) != len(stamp) {
			return nil
		}
		rest = after
	default:
		n := bsdTime(line)
		if n == 0 {
			n = isoTime(line)
		}
		if n == 0 || n >= len(line) || line[n] != ' ' {
			return nil
		}
		rest = line[n+1:]
	}
	name, _, found := bytes.Cut(rest, []byte{' '})
	if !found || len(name) > maxHostname || !hostLike(name) {
		return nil
	}
	return name
}

// hostLike reports whether name can be a host's name or address; a tag ("sshd[1]:") cannot.
func hostLike(name []byte) bool {
	if len(name) == 0 || string(name) == "-" {
		return false
	}
	colon := false
	for _, c := range name {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		case c == ':':
			colon = true
		default:
			return false
		}
	}
	if colon {
		_, err := netip.ParseAddr(string(name))
		return err == nil
	}
	return true
}

// bsdTime returns the length of a time like "Nov  2 18:00:00" at the beginning of b; 0 where there is none.
func bsdTime(b []byte) int {
	const months, length = "JanFebMarAprMayJunJulAugSepOctNovDec", 15
	if len(b) < length || b[3] != ' ' || b[6] != ' ' || b[9] != ':' || b[12] != ':' {
		return 0
	}
	if i := bytes.Index([]byte(months), b[:3]); i < 0 || i%3 != 0 {
		return 0
	}
	day := [2]byte{b[4], b[5]}
	if day[0] == ' ' {
		day[0] = '0'
	}
	if !digits(day[:]) || !digits(b[7:9]) || !digits(b[10:12]) || !digits(b[13:15]) {
		return 0
	}
	return length
}

// isoTime returns the length of a time like "2026-11-22T18:00:00.123456+01:00" at the beginning of b; 0 where there is none.
func isoTime(b []byte) int {
	const seconds = len("2026-11-22T18:00:00")
	if len(b) <= seconds || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0
	}
	for _, part := range [][]byte{b[0:4], b[5:7], b[8:10], b[11:13], b[14:16], b[17:19]} {
		if !digits(part) {
			return 0
		}
	}
	n := seconds
	if b[n] == '.' {
		n++
		for n < len(b) && n < seconds+10 && '0' <= b[n] && b[n] <= '9' {
			n++
		}
	}
	if z := zone(b[n:]); z > 0 {
		return n + z
	}
	return 0
}

// zone returns the length of "Z" or "+01:00" at the beginning of b; 0 where there is none.
func zone(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == 'Z':
		return 1
	case len(b) >= 6 && (b[0] == '+' || b[0] == '-') && digits(b[1:3]) && b[3] == ':' && digits(b[4:6]):
		return 6
	}
	return 0
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
