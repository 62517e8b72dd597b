package explain

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	maxShape  = 160  // bytes of a line that its shape is made of
	maxShapes = 2000 // shapes that are counted apart
	topShapes = 20   // shapes that are told
)

// Shape is what lines look like that were not understood: numbers are #, addresses and hexadecimal numbers @, quoted text "…".
type Shape struct {
	Count   int           `json:"count"`
	Line    int           `json:"line"`    // the first of them
	Service event.Service `json:"service"` // empty where it is not known
	Text    string        `json:"shape"`   // bytes of the log: escape before showing
}

// shape counts lines of one shape in a block.
type shape struct {
	text    string
	service event.Service
	count   int
	line    int
}

// masker makes the shapes of lines.
type masker struct{ buf []byte }

// add counts a line among a block's shapes. Lines like the one before are the most frequent.
func (m *masker) add(to []shape, line []byte, service event.Service, header bool, number int, ref time.Time) []shape {
	if header {
		if h, ok := parse.Header(line, ref); ok {
			// The program tells more than its number or the host does.
			m.buf = append(append(append(m.buf[:0], h.Tag...), ": "...), h.Msg[:min(len(h.Msg), maxShape)]...)
			line = m.buf
		}
	} else if len(strings.TrimSpace(string(line[:min(len(line), maxShape)]))) == 0 || strings.HasPrefix(string(line[:min(len(line), 3)]), "-- ") {
		return to // empty, or the journal's own ("-- Boot … --")
	}
	text := mask(line)
	for i := len(to) - 1; i >= max(0, len(to)-64); i-- {
		if to[i].text == text && to[i].service == service {
			to[i].count++
			return to
		}
	}
	return append(to, shape{text: text, service: service, count: 1, line: number})
}

// mask replaces what differs among lines of one shape.
func mask(line []byte) string {
	cut := len(line) > maxShape
	line = line[:min(len(line), maxShape)]
	var b strings.Builder
	for i := 0; i < len(line); {
		switch c := line[i]; {
		case c == '"' || c == '\'' && (i == 0 || line[i-1] == ' ' || line[i-1] == '=' || line[i-1] == '('):
			if n := slices.Index(line[i+1:], c); n >= 0 {
				b.WriteByte(c)
				b.WriteString("…")
				b.WriteByte(c)
				i += n + 2
				continue
			}
			b.WriteByte(c)
			i++
		case wordly(c):
			n := i
			for n < len(line) && wordly(line[n]) {
				n++
			}
			maskWord(&b, line[i:n])
			i = n
		default:
			b.WriteByte(c)
			i++
		}
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}

// wordly says what holds together: addresses and numbers have punctuation within.
func wordly(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 || c == '.' || c == ':' || c == '_' || c == '-' || c == '+'
}

// maskWord replaces a word that is an address or a long hexadecimal number by @, and the digits of others by #.
func maskWord(b *strings.Builder, w []byte) {
	end := len(w)
	for end > 0 && (w[end-1] == ':' || w[end-1] == '.') {
		end--
	}
	core, rest := w[:end], w[end:]
	digits, hex, dots, colons := 0, 0, 0, 0
	for _, c := range core {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			hex++
		case c == '.':
			dots++
		case c == ':':
			colons++
		}
	}
	all := digits + hex + dots + colons
	switch {
	case digits == 0 && colons == 0:
		b.Write(core)
	case all == len(core) && (dots == 3 && hex == 0 && colons <= 1 || colons >= 2 && hex > 0 || digits+hex == len(core) && digits > 0 && hex > 0 && len(core) >= 8):
		b.WriteByte('@')
	default:
		number := false
		for _, c := range core {
			isDigit := c >= '0' && c <= '9'
			if isDigit && !number {
				b.WriteByte('#')
			}
			if number = isDigit; !isDigit {
				b.WriteByte(c)
			}
		}
	}
	b.Write(rest)
}

// shapes counts shapes in bounded memory: where there are too many, the rarest go, and are only counted as lines.
type shapes struct {
	by    map[shapeKey]*Shape
	lines int // of all shapes
	rare  int // lines of a shape that make it stay when there are too many
}

type shapeKey struct {
	text    string
	service event.Service
}

func (s *shapes) merge(list []shape) {
	for _, one := range list {
		s.lines += one.count
		k := shapeKey{one.text, one.service}
		if known := s.by[k]; known != nil {
			known.Count += one.count
			continue
		}
		if len(s.by) >= maxShapes {
			s.sweep()
		}
		if s.by == nil {
			s.by = map[shapeKey]*Shape{}
		}
		s.by[k] = &Shape{Count: one.count, Line: one.line, Service: one.service, Text: one.text}
	}
}

// sweep gives up shapes, the rarest, until there is room for half as many again.
func (s *shapes) sweep() {
	for s.rare = 1; len(s.by) > maxShapes/2; s.rare *= 2 {
		for k, shape := range s.by {
			if shape.Count <= s.rare {
				delete(s.by, k)
			}
		}
	}
}

// top are the most frequent shapes; of as frequent ones those that came first.
func (s *shapes) top() []Shape {
	list := make([]Shape, 0, len(s.by))
	for _, shape := range s.by {
		list = append(list, *shape)
	}
	slices.SortFunc(list, func(a, b Shape) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return list[:min(len(list), topShapes)]
}
