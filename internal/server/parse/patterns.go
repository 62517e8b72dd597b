package parse

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Definition is a parser that an operator wrote for software which has none here.
type Definition struct {
	Name     string
	Service  event.Service
	Programs []string // the tags under which it logs to syslog
	Exe      string   // its executable's name, where only that may write its lines; empty: any
	UID      string   // whom it runs as, likewise
	Patterns []PatternDefinition
}

// PatternDefinition is a form of message: see [NewPatterns].
type PatternDefinition struct {
	Text   string
	Kind   event.Kind
	Method string // where no field says it
}

// PatternError is one fault of definitions.
type PatternError struct {
	Definition int    // its index
	Pattern    int    // in the definition; -1: the fault is the definition's
	Key        string // of what is wrong, such as programs
	Found      string
	Allowed    string
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("parser %d, pattern %d, %s: found %s; allowed: %s", e.Definition, e.Pattern, e.Key, e.Found, e.Allowed)
}

// Bounds of definitions. Forgeries are tried against all patterns of a program before it is read by them, which
// takes time by the square of their number.
const (
	maxPatterns         = 64 // of all definitions
	maxProgramPatterns  = 16 // that read one program
	maxPatternText      = 1000
	maxPatternElements  = 32
	minPatternLiteral   = 4 // characters that a message must have
	maxDefinedMethod    = 64
	maxDefinedAttempts  = 1_000_000
	maxDefinitionsTags  = 32
	maxDefinedTagLength = 64
)

// Patterns read the messages of programs that operators defined. They are safe for concurrent use, and nil has none.
type Patterns struct {
	byTag     map[string]program
	byService map[event.Service][]pattern
	services  []event.Service
}

// pattern is a compiled form of message.
type pattern struct {
	kind           event.Kind
	method         string
	prefix, suffix []byte // what it begins and ends with, to refuse most messages at once
	inside         []byte // the longest of what must stand in between
	steps          []step
	re             *regexp.Regexp // decides what the steps give up
	fields         []string       // of the groups of both; the first is the whole
	elements       []element
}

// NewPatterns compiles definitions; it returns every fault of them. A pattern is the whole message, in which stand
//
//	<name:type>  a field; names: source, source_port, account, method, resource, attempts, or _ for what isn't kept
//	( … )?       what may be missing
//	(a|b|c)      one of these texts
//	\< \( \\      the characters themselves, and so \> \) \|
//
// and as types ip, host (an address, or a name that is none), port, int, id (letters, digits and . _ - that the software
// chose), word (no spaces), quoted (in ", with \ before a " within), text (anything).
//
// The pattern must decide where the source stands, whatever clients write into word, host and text: such fields may stand
// before the source or behind it, but not on both sides. Forgeries made of all patterns of a program are tried against each.
func NewPatterns(definitions []Definition) (*Patterns, []*PatternError) {
	c := &compiler{out: Patterns{byTag: map[string]program{}, byService: map[event.Service][]pattern{}}, byTag: map[string][]placed{}}
	total := 0
	for i, d := range definitions {
		total += len(d.Patterns)
		c.definition(i, d)
	}
	if total > maxPatterns {
		c.fail(len(definitions)-1, -1, "patterns", strconv.Itoa(total)+" in all parsers", fmt.Sprintf("at most %d", maxPatterns))
	}
	if len(c.faults) == 0 {
		c.forge()
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	return &c.out, nil
}

// Services are those that the definitions name.
func (p *Patterns) Services() []event.Service {
	if p == nil {
		return nil
	}
	return slices.Clone(p.services)
}

func (p *Patterns) programOf(tag []byte) program {
	if p == nil {
		return program{}
	}
	return p.byTag[string(tag)]
}

// message reads a message of a service without a header.
func (p *Patterns) message(s event.Service, m []byte) (fact, bool) {
	if p == nil {
		return fact{}, false
	}
	f := readBy(p.byService[s], m)
	return f, f.kind != ""
}

// readBy reads a message by the first pattern that fits. Where another fits too and finds another source, there is none.
func readBy(patterns []pattern, m []byte) fact {
	var found, f fact
	var a attempt
	for i := range patterns {
		if !patterns[i].mayBe(m) {
			continue
		}
		f = fact{}
		switch {
		case !patterns[i].read(m, &a, &f):
		case found.kind == "":
			found = f
		case f.source != found.source:
			found.source, found.port, found.account = netip.Addr{}, 0, nil
			return found
		}
	}
	return found
}

// mayBe refuses most messages that are none of the pattern's.
func (p *pattern) mayBe(m []byte) bool {
	return len(m) >= len(p.prefix)+len(p.suffix) && bytes.HasPrefix(m, p.prefix) && bytes.HasSuffix(m, p.suffix) &&
		(len(p.inside) == 0 || bytes.Contains(m, p.inside))
}

// read reads a message into f, which is empty.
func (p *pattern) read(m []byte, a *attempt, f *fact) bool {
	if !p.matches(m, a) {
		return false
	}
	f.kind, f.means = p.kind, p.method
	if f.kind == event.AuthFailed {
		f.attempts = 1
	}
	for i, name := range p.fields {
		if begin := a.groups[2*i]; name != "" && begin >= 0 && !f.set(name, m[begin:a.groups[2*i+1]]) {
			return false
		}
	}
	return true
}

// set takes a field's value; it is false where the value is none of the field's.
func (f *fact) set(name string, value []byte) (ok bool) {
	switch name {
	case "source":
		f.source, ok = address(value)
		return ok
	case "source_name": // a source of type host
		f.source, _ = address(value)
	case "source_port":
		f.port, ok = portNumber(value)
		return ok
	case "account":
		f.account = value
	case "method":
		f.method, f.means = value, ""
	case "resource":
		f.resource = value
	case "attempts":
		n, ok := number(value)
		if !ok || len(value) > 7 || n > maxDefinedAttempts || f.kind != event.AuthFailed {
			return false
		}
		if f.attempts = n; n == 0 {
			f.kind = event.Context
		}
	}
	return true
}

// compiler turns definitions into patterns.
type compiler struct {
	out    Patterns
	byTag  map[string][]placed
	faults []*PatternError
	tried  int // bytes of forgeries
}

// placed is a pattern with the place of its definition.
type placed struct {
	pattern

	definition, index int
}

func (c *compiler) fail(definition, index int, key, found, allowed string) {
	c.faults = append(c.faults, &PatternError{definition, index, key, found, allowed})
}

func (c *compiler) definition(i int, d Definition) {
	if !serviceName(string(d.Service)) {
		c.fail(i, -1, "service", strconv.Quote(string(d.Service)), "a name of a-z, 0-9 and -, beginning with a letter, at most 32 long")
	}
	if len(d.Programs) == 0 || len(d.Programs) > maxDefinitionsTags {
		c.fail(i, -1, "programs", strconv.Itoa(len(d.Programs))+" programs", fmt.Sprintf("1 to %d syslog tags", maxDefinitionsTags))
	}
	if len(d.Patterns) == 0 {
		c.fail(i, -1, "patterns", "none", "at least one")
	}
	var list []placed
	for j, pd := range d.Patterns {
		if p, ok := c.compile(i, j, pd); ok {
			list = append(list, placed{p, i, j})
		}
	}
	for _, tag := range d.Programs {
		if c.tag(i, tag) {
			c.byTag[tag] = list
			only := patternsOf(list)
			c.out.byTag[tag] = program{service: d.Service, exe: d.Exe, uid: d.UID, read: func(m *message) fact { return readBy(only, trimLeft(m.text)) }}
		}
	}
	if len(list) > maxProgramPatterns {
		c.fail(i, -1, "patterns", strconv.Itoa(len(list)), fmt.Sprintf("at most %d", maxProgramPatterns))
	}
	if !slices.Contains(c.out.services, d.Service) {
		c.out.services = append(c.out.services, d.Service)
	}
	c.out.byService[d.Service] = append(c.out.byService[d.Service], patternsOf(list)...)
}

func patternsOf(list []placed) []pattern {
	out := make([]pattern, len(list))
	for i, p := range list {
		out[i] = p.pattern
	}
	return out
}

// tag reports whether a definition may have a tag.
func (c *compiler) tag(i int, tag string) bool {
	ok := tag != "" && len(tag) <= maxDefinedTagLength
	for _, r := range []byte(tag) {
		ok = ok && r > ' ' && r <= '~' && r != ':' && r != '[' && r != ']'
	}
	_, taken := c.byTag[tag]
	switch {
	case !ok:
		c.fail(i, -1, "programs", strconv.Quote(tag), "a syslog tag: printable, without spaces, colons and brackets, at most 64 long")
	case programOf([]byte(tag)).read != nil:
		c.fail(i, -1, "programs", strconv.Quote(tag)+", which Kokkuri reads itself", "programs that it doesn't know")
	case taken:
		c.fail(i, -1, "programs", strconv.Quote(tag)+", which another parser has", "each program in one parser")
	default:
		return true
	}
	return false
}

func serviceName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i, r := range []byte(s) {
		if (r < 'a' || r > 'z') && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}
	return true
}

// compile makes a pattern of its text and what holds for it.
func (c *compiler) compile(i, j int, d PatternDefinition) (pattern, bool) {
	before := len(c.faults)
	if !slices.Contains([]event.Kind{event.AuthFailed, event.AuthOK, event.Probe, event.Context}, d.Kind) {
		c.fail(i, j, "kind", strconv.Quote(string(d.Kind)), "auth_failed, auth_ok, probe, context")
	}
	if len(d.Method) > maxDefinedMethod {
		c.fail(i, j, "method", strconv.Itoa(len(d.Method))+" characters", fmt.Sprintf("at most %d", maxDefinedMethod))
	}
	elements, err := parsePattern(d.Text)
	if err == nil {
		err = checkPattern(elements, d.Kind)
	}
	if err != nil {
		c.fail(i, j, "pattern", err.found, err.allowed)
	}
	if len(c.faults) > before {
		return pattern{}, false
	}
	p, compileErr := compiledPattern(elements)
	if compileErr != nil {
		c.fail(i, j, "pattern", strconv.Quote(d.Text), "a shorter pattern: "+compileErr.Error())
		return pattern{}, false
	}
	p.kind, p.method = d.Kind, d.Method
	return p, true
}

// compiledPattern is what of a pattern reads messages.
func compiledPattern(elements []element) (pattern, error) {
	expression, fields := expressionOf(elements)
	re, err := regexp.Compile(expression)
	if err != nil {
		return pattern{}, err //nolint:wrapcheck // says itself what is wrong with what
	}
	p := pattern{elements: elements, steps: stepsOf(elements), re: re, fields: fields}
	if first := elements[0]; first.is(literal) {
		p.prefix = []byte(first.text)
	}
	if last := elements[len(elements)-1]; last.is(literal) && len(elements) > 1 {
		p.suffix = []byte(last.text)
	}
	for _, e := range elements[1:max(1, len(elements)-1)] {
		if e.is(literal) && len(e.text) > len(p.inside) {
			p.inside = []byte(e.text)
		}
	}
	return p, nil
}
