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

// decoder reads YAML nodes and gathers faults with their places.
type decoder struct {
	file     string
	services []event.Service
	include  bool // the rules as shipped are wanted too
	faults   []error
}

// document reads a file's one document.
func (d *decoder) document(data []byte) Rules {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		line, found := 1, "text that is no YAML: "+err.Error()
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			line, found = syntax.Token.Position.Line, "text that is no YAML: "+syntax.Message
		}
		d.failAt(line, "", found, "")
		return Rules{}
	}
	switch {
	case len(file.Docs) == 0 || len(file.Docs) == 1 && file.Docs[0].Body == nil:
		d.failAt(1, "", "an empty file", "one document with version and rules")
	case len(file.Docs) > 1:
		d.failAt(1, "", strconv.Itoa(len(file.Docs))+" documents", "one document with version and rules")
	default:
		return d.rules(file.Docs[0].Body)
	}
	return Rules{}
}

func (d *decoder) failAt(line int, key, found, allowed string) {
	d.faults = append(d.faults, &RuleError{File: d.file, Line: line, Key: key, Found: found, Allowed: allowed})
}

func (d *decoder) fail(n ast.Node, key, found, allowed string) {
	d.failAt(n.GetToken().Position.Line, key, found, allowed)
}

// field is a key of a mapping and how its value is read.
type field struct {
	key      string
	required bool
	read     func(n ast.Node, key string)
}

// mapping reads each key once, reports unknown and missing ones, and returns where each is.
func (d *decoder) mapping(n ast.Node, key string, fields []field) map[string]ast.Node {
	values, ok := d.values(n, key)
	if !ok {
		return nil
	}
	seen := map[string]ast.Node{}
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
		case seen[name] != nil:
			d.fail(v.Key, path, "the key a second time", "each key once")
		default:
			seen[name] = v.Key
			fields[i].read(v.Value, path)
		}
	}
	for _, f := range fields {
		if f.required && seen[f.key] == nil {
			d.fail(n, join(key, f.key), "nothing", "the key is required")
		}
	}
	return seen
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

func (d *decoder) texts(n ast.Node, key string) []string {
	var out []string
	for i, item := range d.sequence(n, key) {
		out = append(out, d.text(item, fmt.Sprintf("%s[%d]", key, i)))
	}
	return out
}

func (d *decoder) flag(n ast.Node, key string) bool {
	if b, ok := n.(*ast.BoolNode); ok {
		return b.Value
	}
	d.fail(n, key, describe(n), "true or false")
	return false
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
