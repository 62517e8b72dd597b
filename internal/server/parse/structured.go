package parse

import "github.com/kokkuri/kokkuri/internal/native"

// fields are what the element of Kokkuri's own in RFC 5424's structured data states: the agent, or a template of ours for
// rsyslog, wrote it. A field that it doesn't state is nil.
type fields struct {
	exe, uid                                                       []byte // who wrote the message
	format, reason, source, port, account, database, object, count []byte // about a login
}

// set keeps a parameter where it is the first of its name; escaped says whether there are backslashes in its value.
func (f *fields) set(key, value []byte, escaped bool) {
	at := (*[]byte)(nil)
	switch string(key) {
	case native.ParamExe:
		at = &f.exe
	case native.ParamUID:
		at = &f.uid
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
	switch {
	case at == nil || *at != nil:
	case escaped:
		*at = unescapeParam(value)
	default:
		*at = value
	}
}

// structuredData reads "-" or elements [id name="value" …] with \", \\ and \] in values (RFC 5424, section 6.3) up to their end, and
// keeps what the last element of ours states; ours says whether there is one.
func structuredData(b []byte, into *fields) (rest []byte, ours, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		return b[1:], false, true
	}
	if len(b) == 0 || b[0] != '[' {
		return nil, false, false
	}
	for len(b) > 0 && b[0] == '[' {
		kept := (*fields)(nil)
		body, own := cut(b[1:], native.ElementID)
		if own && len(body) > 0 && (body[0] == ' ' || body[0] == ']') {
			*into, ours = fields{}, true
			kept = into
		}
		if b, ok = parameters(body, kept); !ok {
			return nil, false, false
		}
	}
	return b, ours, true
}

// parameters reads up to behind the ] that ends an element. What is no parameter, and what comes after it, is not kept.
func parameters(b []byte, into *fields) (rest []byte, ok bool) {
	for {
		// Names have neither quotes nor brackets in them, so one of the two is next.
		n, equals := 0, -1
		for ; n < len(b) && b[n] != '"' && b[n] != ']'; n++ {
			if b[n] == '=' && equals < 0 {
				equals = n
			}
		}
		if n == len(b) {
			return nil, false
		}
		if b[n] == ']' {
			return b[n+1:], true
		}
		before := b[:n]
		b = b[n+1:]
		end, escaped := endOfValue(b)
		if end < 0 {
			return nil, false
		}
		switch {
		case into == nil:
		case equals < 0 || equals != n-1:
			into = nil
		default:
			into.set(trimLeft(before[:equals]), b[:end], escaped)
		}
		b = b[end+1:]
	}
}

// endOfValue is where the quote stands that ends a value; a backslash takes the byte after it along. It is -1 where there
// is none.
func endOfValue(b []byte) (end int, escaped bool) {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i, escaped
		case '\\':
			escaped = true
			i++
		}
	}
	return -1, escaped
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
