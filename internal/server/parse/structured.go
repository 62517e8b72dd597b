package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/native"
)

// params finds the parameters of an element of RFC 5424's structured data, section 6.3: those of the last one with
// the id. It is empty where there is none.
func params(sd []byte, id string) []byte {
	var found []byte
	for len(sd) > 0 && sd[0] == '[' {
		end := elementEnd(sd)
		if end < 0 {
			return nil
		}
		name, rest := word(sd[1:end])
		if string(name) == id {
			found = rest
		}
		sd = sd[end+1:]
	}
	return found
}

// elementEnd is where the ] stands that ends the element at the beginning of sd.
func elementEnd(sd []byte) int {
	for i := 1; i < len(sd); i++ {
		// Names have neither quotes nor brackets in them, so one of the two is next.
		n := bytes.IndexByte(sd[i:], '"')
		end := sd[i:]
		if n >= 0 {
			end = sd[i : i+n]
		}
		if e := bytes.IndexByte(end, ']'); e >= 0 {
			return i + e
		}
		if n < 0 {
			return -1
		}
		i += n + 1
		for { // to the quote that ends the value
			n := bytes.IndexByte(sd[i:], '"')
			if n < 0 {
				return -1
			}
			i += n
			if slashes := trailingBackslashes(sd[i-n : i]); slashes%2 == 0 {
				break
			}
			i++
		}
	}
	return -1
}

// endOfValue is where the quote stands that ends a value; a backslash takes the byte after it along. It is -1 where there
// is none.
func endOfValue(b []byte) int {
	i := bytes.IndexByte(b, '"')
	if i < 0 || bytes.IndexByte(b[:i], '\\') < 0 {
		return i
	}
	for i = 0; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	if i >= len(b) {
		return -1
	}
	return i
}

// trailingBackslashes counts the backslashes that end b.
func trailingBackslashes(b []byte) int {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n
}

// param is the value of a parameter that Kokkuri's agent, or a template of ours for rsyslog, wrote. It allocates only
// where the value has escapes.
func (m message) param(name string) ([]byte, bool) {
	return paramOf(params(m.sd, native.ElementID), name)
}

func paramOf(list []byte, name string) ([]byte, bool) {
	for len(list) > 0 {
		key, rest, ok := bytes.Cut(trimLeft(list), []byte(`="`))
		if !ok {
			return nil, false
		}
		end, escaped := 0, false
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				escaped = true
				end++
			}
			end++
		}
		if end >= len(rest) {
			return nil, false
		}
		if string(key) == name {
			value := rest[:end]
			if escaped {
				value = unescapeParam(value)
			}
			return value, true
		}
		list = rest[end+1:]
	}
	return nil, false
}

// unescapeParam undoes \", \\ and \].
func unescapeParam(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\' || b[i+1] == ']') {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// fields are the parameters of a record that are about a login, read in one go.
type fields struct {
	format, reason, source, port, account, database, object, count []byte
}

func fieldsOf(sd []byte) fields {
	var f fields
	for list := trimLeft(params(sd, native.ElementID)); len(list) > 0; list = trimLeft(list) {
		i := bytes.IndexByte(list, '=')
		if i < 0 || i+1 >= len(list) || list[i+1] != '"' {
			break
		}
		key, rest := list[:i], list[i+2:]
		end := endOfValue(rest)
		if end < 0 {
			break
		}
		value := rest[:end]
		if bytes.IndexByte(value, '\\') >= 0 {
			value = unescapeParam(value)
		}
		f.set(key, value)
		list = rest[end+1:]
	}
	return f
}

// set keeps a parameter where it is the first of its name.
func (f *fields) set(key, value []byte) {
	at := (*[]byte)(nil)
	switch string(key) {
	case native.ParamFormat:
		at = &f.format
	case native.ParamReason:
		at = &f.reason
	case native.ParamSource:
		at = &f.source
	case native.ParamSourcePort:
		at = &f.port
	case native.ParamAccount:
		at = &f.account
	case native.ParamDatabase:
		at = &f.database
	case native.ParamObject:
		at = &f.object
	case native.ParamCount:
		at = &f.count
	}
	if at != nil && *at == nil {
		*at = value
	}
}
