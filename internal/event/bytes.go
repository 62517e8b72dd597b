package event

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bytes are bytes that an attacker chose: they may hold anything. As text and in JSON what is not
// printable becomes \xNN, byte by byte, and a backslash is doubled, as Cowrie does it; nothing is lost.
type Bytes string

// Escaped returns the bytes as printable text in one line.
func (b Bytes) Escaped() string {
	if !b.needsEscape() {
		return string(b)
	}
	const digits = "0123456789abcdef"
	var out strings.Builder
	out.Grow(len(b) + len(b)/4)
	for rest := string(b); rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		switch {
		case r == '\\':
			out.WriteString(`\\`)
		case r == utf8.RuneError && n <= 1, !unicode.IsPrint(r):
			for _, c := range []byte(rest[:n]) {
				out.WriteString(`\x`)
				out.WriteByte(digits[c>>4])
				out.WriteByte(digits[c&15])
			}
		default:
			out.WriteString(rest[:n])
		}
		rest = rest[n:]
	}
	return out.String()
}

func (b Bytes) needsEscape() bool {
	for i, r := range string(b) {
		if r == '\\' || !unicode.IsPrint(r) {
			return true
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(string(b[i:])); n <= 1 {
				return true
			}
		}
	}
	return false
}

// String returns the escaped text.
func (b Bytes) String() string { return b.Escaped() }

// MarshalText returns the escaped text.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.Escaped()), nil }

// UnmarshalText reads escaped text.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := string(text)
	if !strings.Contains(s, `\`) {
		*b = Bytes(s)
		return nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			out = append(out, s[i])
		case strings.HasPrefix(s[i:], `\\`):
			out = append(out, '\\')
			i++
		case strings.HasPrefix(s[i:], `\x`) && len(s) >= i+4:
			c, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
			if err != nil {
				return fmt.Errorf("escaped bytes: %q is no byte: %w", s[i:i+4], err)
			}
			out = append(out, byte(c))
			i += 3
		default:
			return fmt.Errorf(`escaped bytes: at %d stands a backslash that is neither \\ nor \xNN`, i)
		}
	}
	*b = Bytes(out)
	return nil
}
