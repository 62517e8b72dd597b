package detect

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/kokkuri/kokkuri/internal/event"
)

// RuleError is one fault of a rules file.
type RuleError struct {
	File    string
	Line    int
	Key     string // such as rules[0].action; empty where the YAML itself is broken
	Found   string
	Allowed string
}

func (e *RuleError) Error() string {
	s := fmt.Sprintf("%s:%d: ", e.File, e.Line)
	if e.Key != "" {
		s += e.Key + ": "
	}
	s += "found " + e.Found
	if e.Allowed != "" {
		s += "; allowed: " + e.Allowed
	}
	return s
}

// ParseRules reads a rule set from YAML; name stands for the file in errors. All faults are reported,
// joined, each a [RuleError].
func ParseRules(name string, data []byte) (Rules, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		e := &RuleError{File: name, Line: 1, Found: "text that is no YAML: " + err.Error()}
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			e.Line, e.Found = syntax.Token.Position.Line, "text that is no YAML: "+syntax.Message
		}
		return Rules{}, e
	}
	d := &decoder{file: name}
	var rules Rules
	switch {
	case len(file.Docs) == 0 || len(file.Docs) == 1 && file.Docs[0].Body == nil:
		d.failAt(1, "", "an empty file", "one document with version and rules")
	case len(file.Docs) > 1:
		d.failAt(1, "", strconv.Itoa(len(file.Docs))+" documents", "one document with version and rules")
	default:
		rules = d.rules(file.Docs[0].Body)
	}
	if len(d.faults) > 0 {
		return Rules{}, errors.Join(d.faults...)
	}
	return rules, nil
}

// decoder reads YAML nodes and gathers faults with their places.
type decoder struct {
	file   string
	faults []error
}

func (d *decoder) failAt(line int, key, found, allowed string) {
	d.faults = append(d.faults, &RuleError{File: d.file, Line: line, Key: key, Found: found, Allowed: allowed})
}

func (d *decoder) fail(n ast.Node, key, found, allowed string) {
	d.failAt(n.GetToken().Position.Line, key, found, allowed)
}

func (d *decoder) rules(n ast.Node) Rules {
	var out Rules
	known := map[string]bool{}
	d.mapping(n, "", []field{
		{"version", true, func(n ast.Node, key string) {
			d.number(n, key, 1, 1)
		}},
		{"rules", true, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				r := d.rule(item, fmt.Sprintf("%s[%d]", key, i))
				if known[r.Name] && r.Name != "" {
					d.fail(item, fmt.Sprintf("%s[%d].name", key, i), strconv.Quote(r.Name)+" a second time", "each name once")
				}
				known[r.Name] = true
				out.Rules = append(out.Rules, r)
			}
		}},
		{"examples", false, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				out.Examples = append(out.Examples, d.example(item, fmt.Sprintf("%s[%d]", key, i)))
			}
		}},
	})
	d.checkExamples(out, known)
	return out
}

func (d *decoder) checkExamples(r Rules, known map[string]bool) {
	for i, e := range r.Examples {
		for rule := range e.Offences {
			if !known[rule] {
				d.failAt(e.Line, fmt.Sprintf("examples[%d].offences", i), strconv.Quote(rule), "names of rules in this file")
			}
		}
	}
}

func (d *decoder) rule(n ast.Node, key string) Rule {
	r := Rule{IPv6Prefix: 64}
	d.mapping(n, key, []field{
		{"name", true, func(n ast.Node, key string) { r.Name = d.name(n, key) }},
		{"service", true, func(n ast.Node, key string) { r.Service = oneOf(d, n, key, event.SSH) }},
		{"kinds", false, func(n ast.Node, key string) {
			r.Kinds = listOf(d, n, key, event.AuthFailed, event.AuthOK, event.Probe)
		}},
		{"group_by", true, func(n ast.Node, key string) { r.GroupBy = listOf(d, n, key, BySource, ByHost, ByAccount) }},
		{"ipv6_prefix", false, func(n ast.Node, key string) {
			if r.IPv6Prefix = d.number(n, key, 64, 128); r.IPv6Prefix > 64 && r.IPv6Prefix < 128 {
				d.fail(n, key, strconv.Itoa(r.IPv6Prefix), "64 or 128")
			}
		}},
		{"count", true, func(n ast.Node, key string) { r.Count = d.number(n, key, 1, maxCount) }},
		{"within", true, func(n ast.Node, key string) { r.Within = d.duration(n, key) }},
		{"action", true, func(n ast.Node, key string) {
			r.Action = oneOf(d, n, key, event.ActionRedirect, event.ActionAlert)
		}},
		{"for", true, func(n ast.Node, key string) { r.For = d.duration(n, key) }},
	})
	if r.Kinds == nil {
		r.Kinds = []event.Kind{event.AuthFailed}
	}
	if r.Action == event.ActionRedirect && len(r.GroupBy) > 0 && (!r.Groups(BySource) || !r.Groups(ByHost)) {
		d.fail(n, key+".action", "redirect without source and host in group_by", "alert, or group_by with source and host")
	}
	return r
}

func (d *decoder) example(n ast.Node, key string) Example {
	e := Example{Line: n.GetToken().Position.Line}
	d.mapping(n, key, []field{
		{"name", true, func(n ast.Node, key string) { e.Name = d.text(n, key) }},
		{"lines", true, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				e.Lines = append(e.Lines, d.text(item, fmt.Sprintf("%s[%d]", key, i)))
			}
		}},
		{"offences", true, func(n ast.Node, key string) {
			e.Offences = map[string]int{}
			values, _ := d.values(n, key)
			for _, v := range values {
				rule := v.Key.GetToken().Value
				e.Offences[rule] = d.number(v.Value, key+"."+rule, 0, 1_000_000)
			}
		}},
	})
	return e
}

// field is a key of a mapping and how its value is read.
type field struct {
	key      string
	required bool
	read     func(n ast.Node, key string)
}

// mapping reads each key once and reports unknown and missing ones.
func (d *decoder) mapping(n ast.Node, key string, fields []field) {
	values, ok := d.values(n, key)
	if !ok {
		return
	}
	seen := map[string]bool{}
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	for _, v := range values {
		name := v.Key.GetToken().Value
		path := join(key, name)
		i := slices.Index(keys, name)
		switch {
		case i < 0:
			d.fail(v.Key, path, "an unknown key", strings.Join(keys, ", "))
		case seen[name]:
			d.fail(v.Key, path, "the key a second time", "each key once")
		default:
			seen[name] = true
			fields[i].read(v.Value, path)
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.key] {
			d.fail(n, join(key, f.key), "nothing", "the key is required")
		}
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func (d *decoder) values(n ast.Node, key string) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	d.fail(n, key, describe(n), "a mapping (key: value)")
	return nil, false
}

func (d *decoder) sequence(n ast.Node, key string) []ast.Node {
	if s, ok := n.(*ast.SequenceNode); ok {
		return s.Values
	}
	d.fail(n, key, describe(n), "a list")
	return nil
}

func (d *decoder) text(n ast.Node, key string) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	d.fail(n, key, describe(n), "text")
	return ""
}

func (d *decoder) name(n ast.Node, key string) string {
	s := d.text(n, key)
	ok := len(s) <= 64
	for i, c := range s {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' && i > 0 || c == '-' && i > 0)
	}
	if !ok || s == "" {
		d.fail(n, key, strconv.Quote(s), "a name of a-z, 0-9 and -, beginning with a letter, at most 64 long")
	}
	return s
}

func (d *decoder) number(n ast.Node, key string, low, high int) int {
	allowed := fmt.Sprintf("a whole number from %d to %d", low, high)
	if low == high {
		allowed = strconv.Itoa(low)
	}
	if i, ok := n.(*ast.IntegerNode); ok {
		value, err := strconv.Atoi(i.Token.Value)
		if err == nil && value >= low && value <= high {
			return value
		}
	}
	d.fail(n, key, describe(n), allowed)
	return low
}

// duration reads 90s, 2m, 24h, or days as 7d.
func (d *decoder) duration(n ast.Node, key string) time.Duration {
	const allowed = "a time such as 90s, 2m, 24h or 7d, at most 366d"
	s, ok := n.(*ast.StringNode)
	if !ok {
		d.fail(n, key, describe(n), allowed)
		return time.Second
	}
	value, err := time.ParseDuration(s.Value)
	if days, isDays := strings.CutSuffix(s.Value, "d"); isDays {
		var count int
		count, err = strconv.Atoi(days)
		if err == nil && count <= 366 {
			value = time.Duration(count) * 24 * time.Hour
		}
	}
	if err != nil || value < time.Second || value > maxTime {
		d.fail(n, key, describe(n), allowed)
		return time.Second
	}
	return value
}

func oneOf[T ~string](d *decoder, n ast.Node, key string, allowed ...T) T {
	s, ok := n.(*ast.StringNode)
	if ok && slices.Contains(allowed, T(s.Value)) {
		return T(s.Value)
	}
	d.fail(n, key, describe(n), names(allowed))
	return ""
}

func listOf[T ~string](d *decoder, n ast.Node, key string, allowed ...T) []T {
	var out []T
	for i, item := range d.sequence(n, key) {
		v := oneOf(d, item, fmt.Sprintf("%s[%d]", key, i), allowed...)
		if v != "" && slices.Contains(out, v) {
			d.fail(item, fmt.Sprintf("%s[%d]", key, i), strconv.Quote(string(v))+" a second time", "each once")
		}
		out = append(out, v)
	}
	if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) == 0 {
		d.fail(n, key, "nothing", "at least one of "+names(allowed))
	}
	return out
}

func names[T ~string](allowed []T) string {
	out := make([]string, len(allowed))
	for i, a := range allowed {
		out[i] = string(a)
	}
	return strings.Join(out, ", ")
}

// describe says what a node is, in words of an error.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return strconv.Quote(n.Value)
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		return "an anchor, alias or tag"
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value
	default:
		return n.Type().String()
	}
}
