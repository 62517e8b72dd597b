// Package replay plays recordings in a terminal. What an attacker's session wrote was meant for the
// attacker's terminal; here it can draw, and nothing else.
package replay

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxSequence = 64   // bytes of a control sequence that is let through
	maxDigits   = 4    // of a number in it: no terminal is larger
	maxText     = 4096 // bytes of a string for the terminal; what goes on is no string, but hides what follows
	maxMarks    = 4    // that pile up on one character
	replacement = "\ufffd"
)

// Filter lets through text and the control sequences that draw (ECMA-48): colours, moving the cursor,
// erasing, scrolling, the alternate screen. Everything that asks the terminal, changes its title, its
// clipboard or its keys, or reorders text is left out. The zero value is ready; it keeps what it is in the middle of.
type Filter struct {
	// Plain leaves out all control sequences.
	Plain bool

	state state
	seq   []byte // of the sequence it is in
	rest  []byte // of a character
	marks int
	text  int // bytes of the string it is in
}

type state int

const (
	ground state = iota
	escape
	escapeMore // an escape with intermediate bytes
	csi
	text // a string for the terminal: OSC, DCS, APC, PM, SOS
	textEscape
)

// Write returns what is let through of p.
func (f *Filter) Write(p []byte) []byte {
	var out []byte
	p = append(f.rest, p...)
	f.rest = nil
	for len(p) > 0 {
		if f.state != ground || p[0] < utf8.RuneSelf {
			out = f.byte(out, p[0])
			p = p[1:]
			continue
		}
		if !utf8.FullRune(p) {
			f.rest = append([]byte(nil), p...)
			break
		}
		r, n := utf8.DecodeRune(p)
		out = f.rune(out, r, n)
		p = p[n:]
	}
	return out
}

// rune takes a character beyond ASCII.
func (f *Filter) rune(out []byte, r rune, n int) []byte {
	switch {
	case r == utf8.RuneError && n <= 1, !unicode.IsPrint(r):
		f.marks = 0
		return append(out, replacement...)
	case unicode.Is(unicode.M, r):
		if f.marks++; f.marks > maxMarks {
			return out
		}
	default:
		f.marks = 0
	}
	return utf8.AppendRune(out, r)
}

// byte takes an ASCII character, or any byte within a sequence.
func (f *Filter) byte(out []byte, b byte) []byte {
	switch f.state {
	case ground:
		return f.plain(out, b)
	case escape:
		return f.afterEscape(out, b)
	case escapeMore:
		if b < 0x20 || b > 0x2f {
			f.state = ground
		}
	case csi:
		return f.inCSI(out, b)
	case text, textEscape:
		f.inText(b)
	}
	return out
}

func (f *Filter) plain(out []byte, b byte) []byte {
	switch {
	case b == 0x1b:
		f.state, f.seq = escape, f.seq[:0]
	case b >= ' ' && b < 0x7f, b == '\n', b == '\r', b == '\t', b == '\b' && !f.Plain:
		f.marks = 0
		return append(out, b)
	}
	return out
}

func (f *Filter) afterEscape(out []byte, b byte) []byte {
	f.state = ground
	switch {
	case b == '[':
		f.state = csi
	case strings.IndexByte("]P_^X", b) >= 0:
		f.state, f.text = text, 0
	case b == 0x1b:
		f.state = escape
	case b >= 0x20 && b <= 0x2f:
		f.state = escapeMore
	case strings.IndexByte("78DEM", b) >= 0 && !f.Plain: // the cursor is kept, restored, moved by a line
		return append(out, 0x1b, b)
	}
	return out
}

func (f *Filter) inCSI(out []byte, b byte) []byte {
	switch {
	case b == 0x1b:
		f.state, f.seq = escape, f.seq[:0]
	case b < 0x20 || b > 0x7e: // not part of any sequence
		f.state = ground
	case b < 0x40:
		if len(f.seq) <= maxSequence {
			f.seq = append(f.seq, b)
		}
	default:
		f.state = ground
		if !f.Plain && draws(string(f.seq), b) {
			out = append(out, 0x1b, '[')
			out = append(out, f.seq...)
			return append(out, b)
		}
	}
	return out
}

// inText waits for the end of a string.
func (f *Filter) inText(b byte) {
	f.text++
	switch {
	case f.text > maxText, b == '\n', b == 0x07, b == 0x18, b == 0x1a, f.state == textEscape && b == '\\':
		f.state = ground
	case b == 0x1b:
		f.state = textEscape
	default:
		f.state = text
	}
}

// draws reports whether a control sequence does no more than draw.
func draws(parameters string, final byte) bool {
	if len(parameters) > maxSequence {
		return false
	}
	if rest, private := strings.CutPrefix(parameters, "?"); private {
		if final != 'h' && final != 'l' {
			return final == 'J' || final == 'K'
		}
		switch rest {
		case "7", "25", "47", "1047", "1048", "1049": // wrapping, the cursor, the alternate screen
			return true
		}
		return false
	}
	if strings.Trim(parameters, "0123456789;:") != "" {
		return false
	}
	for number := range strings.FieldsFuncSeq(parameters, func(r rune) bool { return r == ';' || r == ':' }) {
		if len(number) > maxDigits {
			return false
		}
	}
	return strings.IndexByte("@ABCDEFGHJKLMPSXZ`adefmr", final) >= 0
}

// Text returns what is text of p, without any control.
func Text(p []byte) string {
	f := Filter{Plain: true}
	out := f.Write(p)
	if len(f.rest) > 0 {
		out = append(out, replacement...)
	}
	return string(out)
}
