package parse

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// form is what an element of a pattern is.
type form uint8

const (
	literal form = iota
	placeholder
	optional
	choice
)

// element is a part of a pattern.
type element struct {
	form    form
	text    string // of a literal
	name    string // of a field
	typ     string // of a field
	inner   []element
	choices []string
}

func (e element) is(f form) bool { return e.form == f }

// hostile says whether clients may write anything into the element, or into a part of it.
func (e element) hostile() bool {
	switch e.form {
	case placeholder:
		return e.name != "source" && (e.typ == "word" || e.typ == "text" || e.typ == "host")
	case optional:
		return slices.ContainsFunc(e.inner, element.hostile)
	case literal, choice:
	}
	return false
}

// patternFault says what is wrong with a pattern.
type patternFault struct{ found, allowed string }

// fieldTypes are the types that fields may have, by name.
func fieldTypes(name string) []string {
	switch name {
	case "source":
		return []string{"ip", "host"}
	case "source_port":
		return []string{"port"}
	case "account", "resource":
		return []string{"word", "quoted", "text", "id"}
	case "method":
		return []string{"id", "word", "quoted"}
	case "attempts":
		return []string{"int"}
	case "_":
		return []string{"ip", "host", "port", "int", "id", "word", "quoted", "text"}
	}
	return nil
}

// expressionOfType is what a field of a type may be, with its value in the one group.
func expressionOfType(typ string) string {
	switch typ {
	case "ip":
		return `([0-9A-Fa-f:.]+(?:%[0-9A-Za-z._-]+)?)`
	case "host":
		return `([^\s\[\]()<>"',;]+)`
	case "port", "int":
		return `([0-9]+)`
	case "id":
		return `([0-9A-Za-z._-]+)`
	case "word":
		return `(\S+)`
	case "quoted":
		return `"((?:[^"\\]|\\.)*)"`
	}
	return `(.*)`
}

// parsePattern reads a pattern's text.
func parsePattern(text string) ([]element, *patternFault) {
	if len(text) > maxPatternText {
		return nil, &patternFault{strconv.Itoa(len(text)) + " characters", fmt.Sprintf("at most %d", maxPatternText)}
	}
	p := patternParser{rest: text}
	list, fault := p.list(false)
	switch {
	case fault != nil:
		return nil, fault
	case p.count > maxPatternElements:
		return nil, &patternFault{strconv.Itoa(p.count) + " parts", fmt.Sprintf("at most %d", maxPatternElements)}
	case len(list) == 0:
		return nil, &patternFault{"nothing", "the form of a whole message"}
	}
	return list, nil
}

type patternParser struct {
	rest  string
	count int
}

// list reads elements up to the end, or, within an optional part, up to its bracket.
func (p *patternParser) list(within bool) ([]element, *patternFault) {
	var out []element
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			out = append(out, element{form: literal, text: lit.String()})
			p.count++
			lit.Reset()
		}
	}
	for p.rest != "" {
		switch c := p.rest[0]; {
		case c == '\\':
			if len(p.rest) < 2 || strings.IndexByte(`<>()|\`, p.rest[1]) < 0 {
				return nil, &patternFault{fmt.Sprintf("%.2q", p.rest), `\ before one of < > ( ) | \`}
			}
			lit.WriteByte(p.rest[1])
			p.rest = p.rest[2:]
		case c == ')' && within:
			flush()
			return out, nil
		case c == ')':
			return nil, &patternFault{"a ) without its (", `\) for the character itself`}
		case c == '<' || c == '(':
			flush()
			read := p.field
			if c == '(' {
				read = p.bracket
				if within {
					return nil, &patternFault{"brackets within brackets", `one level; \( for the character itself`}
				}
			}
			e, fault := read()
			if fault != nil {
				return nil, fault
			}
			out = append(out, e)
			p.count++
		default:
			lit.WriteByte(c)
			p.rest = p.rest[1:]
		}
	}
	if within {
		return nil, &patternFault{"a ( without its )", `\( for the character itself`}
	}
	flush()
	return out, nil
}

// field reads <name:type>.
func (p *patternParser) field() (element, *patternFault) {
	inside, rest, ok := strings.Cut(p.rest[1:], ">")
	name, typ, typed := strings.Cut(inside, ":")
	if !ok || !typed {
		return element{}, &patternFault{fmt.Sprintf("%.40q", p.rest), `<name:type>; \< for the character itself`}
	}
	types := fieldTypes(name)
	if types == nil {
		return element{}, &patternFault{"the field " + strconv.Quote(name), "source, source_port, account, method, resource, attempts, _"}
	}
	if !slices.Contains(types, typ) {
		return element{}, &patternFault{"the type " + strconv.Quote(typ) + " for " + name, strings.Join(types, ", ")}
	}
	p.rest = rest
	return element{form: placeholder, name: name, typ: typ}, nil
}

// bracket reads ( … )? and (a|b).
func (p *patternParser) bracket() (element, *patternFault) {
	if end := closing(p.rest); end > 0 && !strings.HasPrefix(p.rest[end+1:], "?") {
		inside := p.rest[1:end]
		choices := strings.Split(inside, "|")
		if len(choices) < 2 || strings.ContainsAny(inside, `<(\`) || slices.Contains(choices, "") {
			return element{}, &patternFault{fmt.Sprintf("%.40q", p.rest[:end+1]), "( … )? for what may be missing, (a|b) for one of some texts"}
		}
		p.rest = p.rest[end+1:]
		return element{form: choice, choices: choices}, nil
	}
	p.rest = p.rest[1:]
	inner, fault := p.list(true)
	if fault != nil {
		return element{}, fault
	}
	rest, ok := strings.CutPrefix(p.rest, ")?")
	if !ok || len(inner) == 0 {
		return element{}, &patternFault{"a part in brackets that holds nothing or has no ? behind it", "( … )? for what may be missing, (a|b) for one of some texts"}
	}
	p.rest = rest
	return element{form: optional, inner: inner}, nil
}

// closing is where the first ) stands that is not for itself; -1 where none does.
func closing(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ')':
			return i
		}
	}
	return -1
}

// checkPattern holds what makes a pattern decide who did it.
func checkPattern(list []element, kind event.Kind) *patternFault {
	source := slices.IndexFunc(list, func(e element) bool { return e.is(placeholder) && e.name == "source" })
	if fault := checkFields(list); fault != nil {
		return fault
	}
	switch {
	case source < 0 && kind != event.Context:
		return &patternFault{"no source outside of optional parts", "<source:ip> or <source:host>, always there, for what is more than context"}
	case source >= 0 && slices.ContainsFunc(list[:source], element.hostile) && slices.ContainsFunc(list[source+1:], element.hostile):
		return &patternFault{
			"word, host or text on both sides of the source: who chooses them could move it",
			"such fields on one side of it; on the other ip, port, int, id, quoted, or (a|b)",
		}
	}
	fixed := 0
	for _, e := range list {
		fixed += len(e.text)
	}
	if fixed < minPatternLiteral {
		return &patternFault{strconv.Itoa(fixed) + " characters that must be there", fmt.Sprintf("at least %d", minPatternLiteral)}
	}
	return nil
}

// checkFields holds that each field is there once and ends somewhere.
func checkFields(list []element) *patternFault {
	seen := map[string]bool{}
	var walk func(list []element) *patternFault
	walk = func(list []element) *patternFault {
		for i, e := range list {
			if e.is(optional) {
				if fault := walk(e.inner); fault != nil {
					return fault
				}
				continue
			}
			if !e.is(placeholder) {
				continue
			}
			if seen[e.name] && e.name != "_" {
				return &patternFault{"the field " + e.name + " a second time", "each once"}
			}
			seen[e.name] = true
			if i+1 < len(list) && list[i+1].is(placeholder) {
				return &patternFault{"the fields " + e.name + " and " + list[i+1].name + " with nothing between them", "some text between two fields"}
			}
		}
		return nil
	}
	return walk(list)
}

// expressionOf is the pattern as a regular expression, with the fields of its groups. Of several places
// that could be the source's the last one is taken where clients write before it: what the software wrote comes last.
func expressionOf(list []element) (expression string, fields []string) {
	var b strings.Builder
	fields = []string{""}
	var write func(list []element)
	write = func(list []element) {
		for _, e := range list {
			switch e.form {
			case literal:
				b.WriteString(regexp.QuoteMeta(e.text))
			case choice:
				b.WriteString("(?:")
				for i, c := range e.choices {
					if i > 0 {
						b.WriteByte('|')
					}
					b.WriteString(regexp.QuoteMeta(c))
				}
				b.WriteByte(')')
			case optional:
				b.WriteString("(?:")
				write(e.inner)
				b.WriteString(")?")
			case placeholder:
				b.WriteString(expressionOfType(e.typ))
				fields = append(fields, e.keptAs())
			}
		}
	}
	b.WriteString(`\A(?s:`)
	write(list)
	b.WriteString(`)\z`)
	return b.String(), fields
}

// keptAs names where a field's value goes; empty: nowhere.
func (e element) keptAs() string {
	switch {
	case e.name == "_":
		return ""
	case e.name == "source" && e.typ == "host":
		return "source_name"
	}
	return e.name
}
