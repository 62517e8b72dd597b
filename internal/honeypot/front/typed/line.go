package typed

import (
	"slices"
	"unicode/utf8"
)

// line is a line that is being edited.
type line struct {
	text      []byte
	at        int // the cursor: a position in text
	limit     int
	truncated bool
}

func (l *line) clear() {
	l.text, l.at, l.truncated = l.text[:0], 0, false
}

func (l *line) insert(b byte) {
	if len(l.text) >= l.limit {
		l.truncated = true
		return
	}
	l.text = slices.Insert(l.text, l.at, b)
	l.at++
}

func (l *line) left() {
	_, n := utf8.DecodeLastRune(l.text[:l.at])
	l.at -= n
}

func (l *line) right() {
	_, n := utf8.DecodeRune(l.text[l.at:])
	l.at += n
}

func (l *line) deleteLeft() {
	_, n := utf8.DecodeLastRune(l.text[:l.at])
	l.deleteTo(l.at - n)
}

func (l *line) deleteRight() {
	_, n := utf8.DecodeRune(l.text[l.at:])
	l.deleteTo(l.at + n)
}

// deleteTo deletes what is between the cursor and a position.
func (l *line) deleteTo(position int) {
	from, to := min(l.at, position), max(l.at, position)
	l.text = slices.Delete(l.text, from, to)
	l.at = from
	if len(l.text) == 0 {
		l.truncated = false
	}
}

// wordLeft returns where the word before the cursor begins.
func (l *line) wordLeft() int {
	i := l.at
	for i > 0 && blank(l.text[i-1]) {
		i--
	}
	for i > 0 && !blank(l.text[i-1]) {
		i--
	}
	return i
}

// wordRight returns where the word after the cursor ends.
func (l *line) wordRight() int {
	i := l.at
	for i < len(l.text) && blank(l.text[i]) {
		i++
	}
	for i < len(l.text) && !blank(l.text[i]) {
		i++
	}
	return i
}

func blank(b byte) bool { return b == ' ' || b == '\t' }
