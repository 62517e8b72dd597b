package native

import (
	"bytes"
	"time"
)

// Encode writes a record as a line of syslog (RFC 5424, section 6, without PRI), as Kokkuri's agents send them. A line
// feed within the text is written #012, as rsyslog does; what no name can hold in host, app and PID becomes _.
func Encode(r Record, host, app string) []byte {
	b := make([]byte, 0, 64+len(host)+len(app)+len(r.Text)+48*len(r.Params))
	b = append(b, "1 "...)
	if r.Time.IsZero() {
		b = append(b, '-')
	} else {
		b = r.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	}
	for _, field := range []string{host, app, r.PID, ""} {
		b = append(b, ' ')
		b = appendName(b, field)
	}
	b = append(b, ' ')
	b = appendParams(b, r.Params)
	if len(r.Text) > 0 {
		b = append(b, ' ')
		b = append(b, bytes.ReplaceAll(r.Text, []byte{'\n'}, []byte("#012"))...)
	}
	return b
}

// appendName writes a field of a header: printable ASCII without spaces, or -.
func appendName(b []byte, s string) []byte {
	const longest = 255
	if s == "" {
		return append(b, '-')
	}
	for i := range min(len(s), longest) {
		if c := s[i]; c > ' ' && c <= '~' {
			b = append(b, c)
		} else {
			b = append(b, '_')
		}
	}
	return b
}

// appendParams writes structured data; in values ", \ and ] are escaped, and line feeds written #012.
func appendParams(b []byte, params []Param) []byte {
	if len(params) == 0 {
		return append(b, '-')
	}
	b = append(b, '[')
	b = append(b, ElementID...)
	for _, p := range params {
		b = append(b, ' ')
		b = append(b, p.Name...)
		b = append(b, `="`...)
		for i := range len(p.Value) {
			switch c := p.Value[i]; c {
			case '"', '\\', ']':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, "#012"...)
			default:
				b = append(b, c)
			}
		}
		b = append(b, '"')
	}
	return append(b, ']')
}
