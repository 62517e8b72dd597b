// Package safe makes text that an attacker chose harmless to look at.
package safe

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text escapes all that could move a terminal's cursor, change its state, reorder or hide what stands
// around it: control and format characters (bidirectional ones among them), marks that pile up on
// others, every space but the plain one, and bytes that are no UTF-8. The escapes are Go's (\x1b,
// \u202e); a backslash is doubled, so that nothing can pretend to be an escape.
func Text(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + hex2(s[i]))
		case r == '\\':
			b.WriteString(`\\`)
		case harmless(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// Cut is Text cut to at most n characters, with … where something is missing. It doesn't cut through
// an escape.
func Cut(s string, n int) string {
	var b strings.Builder
	left := n
	for i := 0; i < len(s); {
		_, size := utf8.DecodeRuneInString(s[i:])
		piece := Text(s[i : i+size])
		width := utf8.RuneCountInString(piece)
		rest := 0
		if i+size < len(s) {
			rest = 1 // room for the ellipsis
		}
		if width+rest > left {
			return b.String() + "…"
		}
		b.WriteString(piece)
		left -= width
		i += size
	}
	return b.String()
}

// plain reports whether s needs no escape, which is the usual case.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

func harmless(r rune) bool {
	return unicode.IsPrint(r) && !unicode.Is(unicode.M, r) && r != utf8.RuneError
}

func hex2(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}
