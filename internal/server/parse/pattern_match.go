package parse

import (
	"bytes"
	"unicode/utf8"
)

// step is an element of a pattern as matching takes it; those of an optional part follow its own.
type step struct {
	form    form
	text    []byte   // of a literal
	choices [][]byte // of a choice
	typ     string   // of a field
	bytes   *byteSet // of which a field's value is made; nil where typ needs more than that
	group   int      // of a field, from 1
	behind  int      // of an optional part: the step behind it
	// What may come after a field: a text, or one of some bytes; where both are nil, anything may.
	nextText  []byte
	nextBytes *byteSet
	mayEnd    bool // the message may end with the field
}

// byteSet is a set of bytes.
type byteSet [256]bool

func byteSetOf(member func(c byte) bool) *byteSet {
	var s byteSet
	for c := range s {
		s[c] = member(byte(c))
	}
	return &s
}

// fieldBytes are the bytes of which a type's values are made. A group of [expressionOfType] holds the same.
func fieldBytes(typ string) *byteSet {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	blank := func(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' && c != '\v' }
	switch typ {
	case "ip":
		return byteSetOf(func(c byte) bool { _, ok := hexDigit(c); return ok || c == ':' || c == '.' })
	case "host":
		return byteSetOf(func(c byte) bool { return !blank(c) && bytes.IndexByte([]byte(`[]()<>"',;`), c) < 0 })
	case "port", "int":
		return byteSetOf(digit)
	case "id":
		return byteSetOf(idByte)
	case "word":
		return byteSetOf(func(c byte) bool { return !blank(c) })
	}
	return nil
}

func idByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '_' || c == '-'
}

// stepsOf lays elements out.
func stepsOf(list []element) []step {
	var out []step
	group := 0
	var add func(list []element)
	add = func(list []element) {
		for _, e := range list {
			s := step{form: e.form, text: []byte(e.text), typ: e.typ}
			switch e.form {
			case choice:
				for _, c := range e.choices {
					s.choices = append(s.choices, []byte(c))
				}
			case placeholder:
				group++
				s.group, s.bytes = group, fieldBytes(e.typ)
			case literal, optional:
			}
			out = append(out, s)
			if e.form == optional {
				at := len(out) - 1
				add(e.inner)
				out[at].behind = len(out)
			}
		}
	}
	add(list)
	for i := range out {
		s := &out[i]
		if s.form != placeholder {
			continue
		}
		if i+1 < len(out) && out[i+1].form == literal {
			s.nextText = out[i+1].text
		}
		var next byteSet
		known, mayEnd := begins(out, i+1, &next)
		if s.mayEnd = mayEnd; known {
			s.nextBytes = &next
		}
	}
	return out
}

// begins adds the bytes with which what the steps from i on match may begin; known is false where any may.
func begins(steps []step, i int, into *byteSet) (known, mayEnd bool) {
	if i == len(steps) {
		return true, true
	}
	switch s := steps[i]; s.form {
	case literal:
		into[s.text[0]] = true
	case choice:
		for _, c := range s.choices {
			into[c[0]] = true
		}
	case optional:
		known, _ = begins(steps, i+1, into)
		behind, mayEnd := begins(steps, s.behind, into)
		return known && behind, mayEnd
	case placeholder:
		switch {
		case s.typ == "quoted":
			into['"'] = true
		case s.bytes == nil:
			return false, true
		default:
			for c, member := range s.bytes {
				into[c] = into[c] || member
			}
		}
	}
	return true, false
}

// attempt matches a message as its pattern's regular expression does, the first alternatives and the longest values first, for a
// tenth of the time and without allocating. That is by trying, which hostile messages can make long; so its effort is
// bounded, and what it gives up the expression decides.
type attempt struct {
	steps  []step
	m      []byte
	effort int
	// groups are where the fields' values begin and end, as [regexp.Regexp.FindSubmatchIndex] has them.
	groups [2 * (maxPatternElements + 1)]int32
}

// effortFor is what an attempt may spend, in bytes looked at and steps taken.
func effortFor(m []byte) int { return 256 + 4*len(m) }

// from matches m from pos on with the steps from i on.
func (a *attempt) from(i, pos int) bool {
	for ; i < len(a.steps); i++ {
		s := &a.steps[i]
		if a.effort--; a.effort < 0 {
			return false
		}
		switch s.form {
		case literal:
			if !bytes.HasPrefix(a.m[pos:], s.text) {
				return false
			}
			pos += len(s.text)
		case choice:
			for _, c := range s.choices {
				if bytes.HasPrefix(a.m[pos:], c) && a.from(i+1, pos+len(c)) {
					return true
				}
			}
			return false
		case optional:
			if a.from(i+1, pos) {
				return true
			}
			i = s.behind - 1
		case placeholder:
			return a.field(i, pos)
		}
	}
	return pos == len(a.m)
}

// field matches the field of step i, which begins at pos, and what comes after it.
func (a *attempt) field(i, pos int) bool {
	s := &a.steps[i]
	switch {
	case s.typ == "quoted":
		return a.quoted(i, pos)
	case s.bytes == nil: // text
		return a.longest(i, pos, pos, len(a.m))
	}
	end := pos
	for end < len(a.m) && s.bytes[a.m[end]] {
		end++
	}
	a.effort -= end - pos
	if s.typ == "ip" && end > pos && end < len(a.m) && a.m[end] == '%' {
		zone := end + 1
		for zone < len(a.m) && idByte(a.m[zone]) {
			zone++
		}
		if zone > end+1 && a.longest(i, pos, end+2, zone) {
			return true
		}
	}
	return a.longest(i, pos, pos+1, end)
}

// longest takes the longest value from least to most with which what comes after it matches.
func (a *attempt) longest(i, pos, least, most int) bool {
	s := &a.steps[i]
	for end := most; end >= least && a.effort >= 0; end-- {
		a.effort--
		switch {
		case end == len(a.m):
			if !s.mayEnd {
				continue
			}
		case s.nextText != nil:
			if a.m[end] != s.nextText[0] || !bytes.HasPrefix(a.m[end:], s.nextText) {
				continue
			}
		case s.nextBytes != nil && !s.nextBytes[a.m[end]]:
			continue
		case !utf8.RuneStart(a.m[end]): // within a character, maybe, where no value ends
			a.effort = -1
		}
		if a.from(i+1, end) {
			return a.set(i, pos, end)
		}
	}
	return false
}

// quoted takes the value between quotes, which has one end.
func (a *attempt) quoted(i, pos int) bool {
	if pos >= len(a.m) || a.m[pos] != '"' {
		return false
	}
	end, _ := endOfValue(a.m[pos+1:])
	if end < 0 {
		return false
	}
	a.effort -= end
	return a.from(i+1, pos+1+end+1) && a.set(i, pos+1, pos+1+end)
}

// set keeps where a field's value is. Only what matched to the end is kept.
func (a *attempt) set(i, begin, end int) bool {
	g := a.steps[i].group
	a.groups[2*g], a.groups[2*g+1] = int32(begin), int32(end)
	return true
}

// matches says whether the message has the pattern's form, and leaves in a where the values of its fields are: -1 for one that is
// missing.
func (p *pattern) matches(m []byte, a *attempt) bool {
	a.steps, a.m, a.effort = p.steps, m, effortFor(m)
	groups := a.groups[:2*len(p.fields)]
	for i := range groups {
		groups[i] = -1
	}
	if a.from(0, 0) {
		return true
	}
	if a.effort >= 0 {
		return false
	}
	found := p.re.FindSubmatchIndex(m)
	for i, at := range found {
		groups[i] = int32(at)
	}
	return found != nil
}
