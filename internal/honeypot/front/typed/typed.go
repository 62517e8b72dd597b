// Package typed makes lines of the keys that somebody presses at a terminal.
package typed

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
)

// MaxLine bounds a line in bytes; it is what a terminal of Linux takes.
const MaxLine = 4096

// Line is what was in the line when Enter was pressed. It may be empty.
type Line struct {
	Text      event.Bytes
	Truncated bool // it was longer
}

// Keys follows keys as a shell's line editor and the terminal itself treat them: it inserts, deletes and moves the
// cursor. What it can't know it leaves out: lines that are fetched from the history, and what Tab completes
// (the Tab stays in the line).
type Keys struct {
	line  line
	state func(*Keys, byte) []byte // of an escape sequence; nil outside
	seq   []byte                   // of it, at most maxSequence bytes
	cr    bool                     // the last byte was CR
	lines []Line
}

// maxSequence bounds the part of an escape sequence that is kept.
const maxSequence = 256

// New returns keys of lines of at most limit bytes; limits beyond MaxLine, and those that are not positive, mean MaxLine.
func New(limit int) *Keys {
	if limit <= 0 || limit > MaxLine {
		limit = MaxLine
	}
	return &Keys{line: line{limit: limit}}
}

// Input takes keys, in pieces of any length, and returns the lines that Enter ended.
func (k *Keys) Input(p []byte) []Line {
	k.lines = nil
	for _, b := range p {
		k.key(b)
	}
	return k.lines
}

// key takes a byte. What an escape sequence that turned out to be none had taken is text.
func (k *Keys) key(b byte) {
	if k.state == nil {
		k.plain(b)
		return
	}
	for _, b := range k.state(k, b) {
		k.plain(b)
	}
}

// Control characters.
const (
	home      = 'A' - '@'
	left      = 'B' - '@'
	interrupt = 'C' - '@'
	eof       = 'D' - '@'
	end       = 'E' - '@'
	right     = 'F' - '@'
	bell      = 'G' - '@'
	backspace = 'H' - '@'
	killRight = 'K' - '@'
	killLeft  = 'U' - '@'
	killWord  = 'W' - '@'
	escape    = '[' - '@'
	del       = 0x7f
)

// plain takes a byte outside of escape sequences.
func (k *Keys) plain(b byte) {
	cr := k.cr
	k.cr = b == '\r'
	switch b {
	case '\n':
		if !cr {
			k.enter()
		}
	case '\r':
		k.enter()
	case escape:
		k.state = (*Keys).escaped
	case interrupt:
		k.line.clear()
	default:
		k.edit(b)
	}
}

func (k *Keys) enter() {
	k.lines = append(k.lines, Line{Text: event.Bytes(k.line.text), Truncated: k.line.truncated})
	k.line.clear()
}

// edit takes a byte that changes the line or moves the cursor.
func (k *Keys) edit(b byte) {
	switch b {
	case home:
		k.line.at = 0
	case end:
		k.line.at = len(k.line.text)
	case left:
		k.line.left()
	case right:
		k.line.right()
	case backspace, del:
		k.line.deleteLeft()
	case eof:
		k.line.deleteRight()
	case killLeft:
		k.line.deleteTo(0)
	case killRight:
		k.line.deleteTo(len(k.line.text))
	case killWord:
		k.line.deleteTo(k.line.wordLeft())
	default:
		if b >= ' ' || b == '\t' {
			k.line.insert(b)
		}
	}
}

// escaped takes what follows ESC.
func (k *Keys) escaped(b byte) []byte {
	k.seq, k.state = k.seq[:0], nil
	switch b {
	case '[':
		k.state = (*Keys).control
	case 'O':
		k.state = (*Keys).function
	case ']', 'P', '_', '^', 'X':
		k.state = (*Keys).report
	case escape:
		k.state = (*Keys).escaped
	case 'b':
		k.line.at = k.line.wordLeft()
	case 'f':
		k.line.at = k.line.wordRight()
	case 'd':
		k.line.deleteTo(k.line.wordRight())
	case backspace, del:
		k.line.deleteTo(k.line.wordLeft())
	default:
		if b < ' ' {
			return []byte{b}
		}
	}
	return nil
}

// function takes what follows ESC O: a key of a terminal in application mode.
func (k *Keys) function(b byte) []byte {
	k.state = nil
	if b < ' ' {
		return []byte{b}
	}
	k.move(b, false)
	return nil
}

// control takes what follows ESC [ (ECMA-48, 5.4): parameters, then one byte that says what they are for.
func (k *Keys) control(b byte) []byte {
	switch {
	case b < ' ':
		k.state = nil
		return []byte{b}
	case b < '@':
		if len(k.seq) < maxSequence {
			k.seq = append(k.seq, b)
		}
		return nil
	}
	k.state = nil
	if b == '~' {
		k.keypad(string(k.seq))
		return nil
	}
	k.move(b, bytes.HasPrefix(k.seq, []byte("1;"))) // with Ctrl, Alt or Shift
	return nil
}

// move moves the cursor as a key with an arrow, Home or End does.
func (k *Keys) move(key byte, byWord bool) {
	switch {
	case key == 'C' && byWord:
		k.line.at = k.line.wordRight()
	case key == 'D' && byWord:
		k.line.at = k.line.wordLeft()
	case key == 'C':
		k.line.right()
	case key == 'D':
		k.line.left()
	case key == 'H':
		k.line.at = 0
	case key == 'F':
		k.line.at = len(k.line.text)
	}
}

// keypad handles keys with a number; the marks of bracketed paste (200, 201) are among those that do nothing.
func (k *Keys) keypad(number string) {
	switch number {
	case "1", "7":
		k.line.at = 0
	case "4", "8":
		k.line.at = len(k.line.text)
	case "3":
		k.line.deleteRight()
	}
}

// report takes what a terminal answers to a program's question: a string that ends with BEL or ESC \. If it has no such
// end in its line, somebody typed it, and it is text.
func (k *Keys) report(b byte) []byte {
	ended := b == bell || b == '\\' && len(k.seq) > 0 && k.seq[len(k.seq)-1] == escape
	if ended {
		k.state = nil
		return nil
	}
	broken := b == '\r' || b == '\n' || b == interrupt
	if !broken && len(k.seq) < maxSequence {
		k.seq = append(k.seq, b)
		return nil
	}
	k.state = nil
	return append(bytes.ReplaceAll(k.seq, []byte{escape}, nil), b)
}
