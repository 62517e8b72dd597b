package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Leaf is one value of a configuration struct.
type Leaf struct {
	Key   string // dotted path in the file: server.bus.listen
	Help  string
	Value reflect.Value // addressable field
	tag   reflect.StructTag
}

// Env is the name of the leaf's environment variable.
func (l Leaf) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(l.Key, ".", "_"))
}

// Scalar reports whether the leaf can be written as text, and so as a flag and in the environment.
func (l Leaf) Scalar() bool { return l.tag.Get("kong") != "-" }

// Text is the leaf's value as text, lists with commas.
func (l Leaf) Text() string { return strings.Join(texts(l.Value), ",") }

// Leaves lists all values of a configuration struct in the order of its fields. The pointer is to
// Server, Honeypot, Agent or Up.
func Leaves(config any) []Leaf {
	return appendLeaves(nil, reflect.ValueOf(config).Elem(), "")
}

func appendLeaves(out []Leaf, v reflect.Value, prefix string) []Leaf {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		name, inline := fieldName(field)
		key := name
		if inline {
			key = prefix
		} else if prefix != "" {
			key = prefix + "." + name
		}
		if isSection(field.Type) {
			out = appendLeaves(out, v.Field(i), key)
			continue
		}
		out = append(out, Leaf{Key: key, Help: field.Tag.Get("help"), Value: v.Field(i), tag: field.Tag})
	}
	return out
}

// fieldName is the field's key in the file; inline fields have none.
func fieldName(f reflect.StructField) (name string, inline bool) {
	name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name, option == "inline"
}

// isSection reports whether values of t are mappings with keys of their own, not leaves.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// noneWord stands for an empty list.
const noneWord = "none"

// ParseText sets a leaf from text; elements of lists are separated by commas, an empty text (or the
// word none) is an empty list. The error's text says what is allowed.
func ParseText(v reflect.Value, text string) error {
	if v.Kind() != reflect.Slice {
		return parseScalar(v, text)
	}
	list := reflect.MakeSlice(v.Type(), 0, 0)
	if trimmed := strings.TrimSpace(text); trimmed != "" && trimmed != noneWord {
		for part := range strings.SplitSeq(text, ",") {
			element := reflect.New(v.Type().Elem()).Elem()
			if err := parseScalar(element, strings.TrimSpace(part)); err != nil {
				return err
			}
			list = reflect.Append(list, element)
		}
	}
	v.Set(list)
	return nil
}

func parseScalar(v reflect.Value, text string) error {
	switch target := v.Addr().Interface().(type) {
	case *netip.AddrPort:
		return parseAddrPort(target, text)
	case *netip.Addr:
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return errNotAddr
		}
		*target = addr.Unmap()
		return nil
	case *netip.Prefix:
		return parsePrefix(target, text)
	case *time.Time:
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return errNotTime
		}
		*target = at.UTC()
		return nil
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text)) //nolint:wrapcheck // the type's own error says what is allowed
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return errNotBool
		}
		v.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errNotInt
		}
		v.SetInt(int64(n))
	case reflect.Uint16:
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errNotInt
		}
		v.SetUint(n)
	case reflect.Int64, reflect.Uint32:
		return parseNumber(v, text)
	default:
		return fmt.Errorf("no way to parse a %s", v.Type())
	}
	return nil
}

func parseAddrPort(target *netip.AddrPort, text string) error {
	if port, ok := strings.CutPrefix(text, ":"); ok {
		text = "[::]:" + port
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return errNotAddrPort
	}
	*target = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	return nil
}

func parsePrefix(target *netip.Prefix, text string) error {
	prefix, err := ParsePrefix(text)
	if err != nil {
		return err
	}
	*target = prefix
	return nil
}

// ParsePrefix parses a network in CIDR notation, or an address, which stands for itself alone. Host
// bits must be zero: 192.0.2.7/24 is refused, since either 192.0.2.7 or 192.0.2.0/24 was meant.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, errNotPrefix
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("%w, without host bits: %s or %s", errNotPrefix, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// texts is a value as text: one element for a scalar, one for each element of a list.
func texts(v reflect.Value) []string {
	if v.Kind() == reflect.Slice {
		out := make([]string, 0, v.Len())
		for i := range v.Len() {
			out = append(out, texts(v.Index(i))...)
		}
		return out
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		text, err := m.MarshalText()
		if err == nil {
			return []string{string(text)}
		}
	}
	return []string{fmt.Sprint(v.Interface())}
}

// SetDefaults sets every leaf that has a default to it.
func SetDefaults(config any) error {
	for _, leaf := range Leaves(config) {
		text, ok := leaf.tag.Lookup("default")
		if !ok {
			continue
		}
		if err := ParseText(leaf.Value, text); err != nil {
			return fmt.Errorf("default of %s: %q is not %w", leaf.Key, text, err)
		}
	}
	return nil
}
