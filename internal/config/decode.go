package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// decoder walks a YAML document and a struct side by side; it notes where each key stands.
type decoder struct {
	file string
	at   map[string]Origin
	errs Errors
}

// decode fills target from the YAML in data. Keys that target does not have, keys that stand twice,
// and values of the wrong type are errors; all of them are reported.
func (d *decoder) decode(data []byte, target any) {
	if len(data) > maxFile {
		d.fail(nil, "", fmt.Sprintf("is %d bytes long", len(data)), fmt.Sprintf("at most %d bytes", maxFile), "")
		return
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		d.syntax(err)
		return
	}
	seen := false
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if seen {
			d.fail(doc.Body, "", "a second YAML document", "one document", "")
			return
		}
		seen = true
		d.section(doc.Body, "", reflect.ValueOf(target).Elem())
	}
}

// syntax reports what the YAML parser could not read.
func (d *decoder) syntax(err error) {
	e := &Error{Origin: Origin{File: d.file}, Problem: "not valid YAML"}
	if yamlErr, ok := errors.AsType[yaml.Error](err); ok {
		if token := yamlErr.GetToken(); token != nil && token.Position != nil {
			e.Origin.Line = token.Position.Line
		}
		e.Problem = "not valid YAML: " + strings.TrimSpace(yamlErr.GetMessage())
	}
	d.errs = append(d.errs, e)
}

func (d *decoder) origin(n ast.Node) Origin {
	o := Origin{File: d.file}
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		o.Line = n.GetToken().Position.Line
	}
	return o
}

func (d *decoder) fail(n ast.Node, key, problem, allowed, hint string) {
	d.errs = append(d.errs, &Error{Origin: d.origin(n), Key: key, Problem: problem, Allowed: allowed, Hint: hint})
}

// section decodes a mapping into a struct.
func (d *decoder) section(n ast.Node, path string, v reflect.Value) {
	pairs, ok := d.mapping(n, path)
	if !ok {
		return
	}
	fields := fieldsOf(v)
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
	}
	seen := map[string]bool{}
	for _, pair := range pairs {
		name := scalarText(pair.Key)
		key := join(path, name)
		i := slices.Index(names, name)
		switch {
		case i < 0:
			d.fail(pair.Key, key, "unknown key", strings.Join(names, ", "), d.hint(name, names, v))
		case seen[name]:
			d.fail(pair.Key, key, "stands twice", "each key once", "")
		default:
			seen[name] = true
			d.at[key] = d.origin(pair.Key)
			d.value(pair.Value, key, fields[i].value, fields[i].tag)
		}
	}
	for _, f := range fields {
		if _, required := f.tag.Lookup("required"); required && !seen[f.name] {
			d.fail(n, join(path, f.name), "is missing", f.tag.Get("help"), "")
		}
	}
}

// hint guesses what an unknown key was meant to be.
func (d *decoder) hint(name string, names []string, v reflect.Value) string {
	if near := closest(name, names); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	if v.Type() != reflect.TypeFor[Up]() {
		return ""
	}
	for _, leaf := range Leaves(&Up{}) {
		if _, rest, ok := strings.Cut(leaf.Key, "."); ok && (rest == name || strings.HasPrefix(rest, name+".")) {
			return fmt.Sprintf("did you mean %s?", strings.TrimSuffix(leaf.Key, strings.TrimPrefix(rest, name)))
		}
	}
	return ""
}

// value decodes one value: a section, a list or a scalar.
func (d *decoder) value(n ast.Node, key string, v reflect.Value, tag reflect.StructTag) {
	if !d.plain(n, key) {
		return
	}
	switch {
	case isSection(v.Type()):
		d.section(n, key, v)
	case v.Kind() == reflect.Slice:
		d.list(n, key, v, tag)
	case v.Kind() == reflect.Map:
		d.stringMap(n, key, v)
	case v.Kind() == reflect.Struct && isMapping(n) && v.Type().NumField() > 0 && v.Type().Field(0).Tag.Get("yaml") != "":
		d.section(n, key, v)
		if s, ok := reflect.TypeAssert[*ServicePort](v.Addr()); ok && ValidName(string(s.Service)) {
			if err := s.complete(); err != nil {
				d.fail(n, key+".port", "is missing", "a port, since this service has no usual one", "")
			}
		}
	default:
		d.scalar(n, key, v)
	}
}

func (d *decoder) list(n ast.Node, key string, v reflect.Value, tag reflect.StructTag) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		if isMapping(n) || n.Type() == ast.NullType {
			d.fail(n, key, "found "+describe(n), "a list", "")
			return
		}
		if scalarText(n) == noneWord {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			return
		}
		// One value stands for a list of one.
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.value(n, key, v.Index(0), tag)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, element := range seq.Values {
		at := fmt.Sprintf("%s[%d]", key, i)
		d.at[at] = d.origin(element)
		d.value(element, at, list.Index(i), tag)
	}
	v.Set(list)
}

func (d *decoder) scalar(n ast.Node, key string, v reflect.Value) {
	if _, ok := n.(ast.ScalarNode); !ok || n.Type() == ast.NullType {
		d.fail(n, key, "found "+describe(n), allowedOf(v), "")
		return
	}
	text := scalarText(n)
	if v.Kind() == reflect.Bool && n.Type() != ast.BoolType {
		d.fail(n, key, "found "+describe(n), errNotBool.Error(), "")
		return
	}
	if v.Kind() == reflect.Bool {
		text = strings.ToLower(text)
	}
	if err := parseScalar(v, text); err != nil {
		d.fail(n, key, "found "+describe(n), err.Error(), "")
	}
}

// mapping returns the pairs of a mapping; nothing at all is an empty one.
func (d *decoder) mapping(n ast.Node, key string) ([]*ast.MappingValueNode, bool) {
	if !d.plain(n, key) {
		return nil, false
	}
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	case *ast.NullNode, *ast.CommentGroupNode:
		return nil, true
	}
	d.fail(n, key, "found "+describe(n), "a section with keys", "")
	return nil, false
}

// plain refuses the parts of YAML that a configuration has no use for.
func (d *decoder) plain(n ast.Node, key string) bool {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		d.fail(n, key, "found a YAML "+strings.ToLower(n.Type().String()), "plain values: no anchors, aliases or tags", "")
		return false
	}
	return true
}

type namedField struct {
	name  string
	value reflect.Value
	tag   reflect.StructTag
}

// fieldsOf lists the keys of a struct; those of inlined structs are its own.
func fieldsOf(v reflect.Value) []namedField {
	var out []namedField
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, inline := fieldName(f)
		if inline {
			out = append(out, fieldsOf(v.Field(i))...)
			continue
		}
		out = append(out, namedField{name: name, value: v.Field(i), tag: f.Tag})
	}
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func isMapping(n ast.Node) bool {
	return n.Type() == ast.MappingType || n.Type() == ast.MappingValueType
}

func scalarText(n ast.Node) string {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value
	case *ast.LiteralNode:
		return s.Value.Value
	case *ast.MappingKeyNode:
		return scalarText(s.Value)
	}
	if n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// describe says what stands at a node, for "found …".
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	}
	text := scalarText(n)
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return fmt.Sprintf("%q", text)
}

// allowedOf says what a leaf's type takes.
func allowedOf(v reflect.Value) string {
	probe := reflect.New(v.Type()).Elem()
	if err := parseScalar(probe, "\x00"); err != nil {
		return err.Error()
	}
	return "a text"
}
