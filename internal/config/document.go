package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Document is a YAML file of its own, beside the configuration.
type Document struct{ origins map[string]Origin }

// Decode reads a YAML document into a struct with yaml tags, as strictly as a configuration. The errors are
// all that is wrong; target holds what could be read.
func Decode(file string, data []byte, target any) (*Document, Errors) {
	d := &decoder{file: file, at: map[string]Origin{}}
	d.decode(data, target)
	return &Document{origins: d.at}, d.errs
}

// Origin says where a key stands, or, where it doesn't, the section that it would stand in.
func (d *Document) Origin(file, key string) Origin {
	for key != "" {
		if o, ok := d.origins[key]; ok {
			return o
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			break
		}
		key = key[:i]
	}
	return Origin{File: file, Line: 1}
}

// Encode writes a struct with yaml tags as a YAML document, without the keys that are not set.
func Encode(v any) []byte {
	var out strings.Builder
	encodeSection(&out, reflect.ValueOf(v), "")
	return []byte(out.String())
}

func encodeSection(out *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		name, _ := fieldName(v.Type().Field(i))
		if f := v.Field(i); !f.IsZero() && (f.Kind() != reflect.Slice && f.Kind() != reflect.Map || f.Len() > 0) {
			encodeValue(out, name, f, indent)
		}
	}
}

func encodeValue(out *strings.Builder, name string, v reflect.Value, indent string) {
	switch {
	case isSection(v.Type()) && !isText(v.Type()):
		fmt.Fprintf(out, "%s%s:\n", indent, name)
		encodeSection(out, v, indent+"  ")
	case v.Kind() == reflect.Map:
		fmt.Fprintf(out, "%s%s:\n", indent, name)
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			fmt.Fprintf(out, "%s  %s: %s\n", indent, quote(k.String()), flow(v.MapIndex(k)))
		}
	case v.Kind() == reflect.Slice && isSection(v.Type().Elem()) && !isText(v.Type().Elem()):
		fmt.Fprintf(out, "%s%s:\n", indent, name)
		for i := range v.Len() {
			fmt.Fprintf(out, "%s  - %s\n", indent, flowSection(v.Index(i)))
		}
	default:
		fmt.Fprintf(out, "%s%s: %s\n", indent, name, flowDocument(v))
	}
}

// flowSection writes a struct in flow style, without what is not set, but for its first key.
func flowSection(v reflect.Value) string {
	var parts []string
	for i := range v.NumField() {
		name, _ := fieldName(v.Type().Field(i))
		if f := v.Field(i); i == 0 || !f.IsZero() {
			parts = append(parts, name+": "+flowDocument(f))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func flowDocument(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = flowDocument(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case v.Kind() == reflect.Int64:
		return Size(v.Int()).String()
	case v.CanInt(), v.CanUint():
		return strings.Join(texts(v), "")
	case v.Kind() == reflect.String:
		return quote(v.String())
	}
	return flow(v)
}

// isText reports whether values of t are written as one text.
func isText(t reflect.Type) bool { return t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) }

// stringMap decodes a mapping of texts.
func (d *decoder) stringMap(n ast.Node, key string, v reflect.Value) {
	pairs, ok := d.mapping(n, key)
	if !ok {
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, pair := range pairs {
		name := scalarText(pair.Key)
		at := join(key, name)
		if out.MapIndex(reflect.ValueOf(name)).IsValid() {
			d.fail(pair.Key, at, "stands twice", "each key once", "")
			continue
		}
		d.at[at] = d.origin(pair.Key)
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(pair.Value, at, element, "")
		out.SetMapIndex(reflect.ValueOf(name), element)
	}
	v.Set(out)
}

// parseNumber sets numbers of other sizes than a configuration has; those of 64 bits are bytes.
func parseNumber(v reflect.Value, text string) error {
	if v.Kind() == reflect.Int64 {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil {
			return err
		}
		v.SetInt(int64(s))
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return errNotInt
	}
	v.SetUint(n)
	return nil
}
