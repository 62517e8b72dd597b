package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Show writes the configuration in force as a configuration file, with the origin of every value
// that is not a default as a comment. Secrets are hidden.
func (l *Loaded) Show(w io.Writer) error {
	var out strings.Builder
	l.showSection(&out, reflect.ValueOf(&l.Up).Elem(), "", "")
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("show the configuration: %w", err)
	}
	return nil
}

func (l *Loaded) showSection(out *strings.Builder, v reflect.Value, path, indent string) {
	for _, f := range fieldsOf(v) {
		key := join(path, f.name)
		if isSection(f.value.Type()) {
			fmt.Fprintf(out, "%s%s:\n", indent, f.name)
			l.showSection(out, f.value, key, indent+"  ")
			continue
		}
		comment := ""
		if origin := l.Origin(key); !origin.IsDefault() {
			comment = "  # " + origin.String()
		}
		fmt.Fprintf(out, "%s%s: %s%s\n", indent, f.name, flow(f.value), comment)
	}
}

// flow writes a value in YAML's flow style.
func flow(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = flow(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case v.Kind() == reflect.Struct && isSection(v.Type()):
		var parts []string
		for _, f := range fieldsOf(v) {
			parts = append(parts, f.name+": "+flow(f.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case v.Kind() == reflect.Bool, v.CanInt() && v.Kind() == reflect.Int, v.CanUint():
		return strings.Join(texts(v), "")
	}
	return quote(strings.Join(texts(v), ""))
}

// quote leaves plain what YAML reads as the same text.
func quote(s string) string {
	plain := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-", r)
	}) < 0
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		plain = false
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "~", "yes", "no", "on", "off":
		plain = false
	}
	if plain && s[0] != '-' && s[0] != '.' {
		return s
	}
	return strconv.Quote(s)
}

// Values is the configuration in force as nested maps, for JSON. Secrets are hidden.
func (l *Loaded) Values() map[string]any {
	return values(reflect.ValueOf(&l.Up).Elem())
}

func values(v reflect.Value) map[string]any {
	out := map[string]any{}
	for _, f := range fieldsOf(v) {
		out[f.name] = jsonValue(f.value)
	}
	return out
}

func jsonValue(v reflect.Value) any {
	switch {
	case isSection(v.Type()):
		return values(v)
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = jsonValue(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Bool, v.Kind() == reflect.Int, v.CanUint():
		return v.Interface()
	}
	return strings.Join(texts(v), "")
}
