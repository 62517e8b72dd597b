package event

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// AppendJSON appends a piece of evidence in JSON. Requests, of which a client sends many thousands a second, are written without
// reflection, at a fifth of the cost.
func (e *Evidence) AppendJSON(b []byte) ([]byte, error) {
	if e.Kind == EvidenceAsked && e.Request != nil && e.Data == "" && e.Reason == "" {
		return e.appendAsked(b), nil
	}
	text, err := json.Marshal(e)
	if err != nil {
		return b, fmt.Errorf("encode evidence: %w", err)
	}
	return append(b, text...), nil
}

func (e *Evidence) appendAsked(b []byte) []byte {
	b = appendText(append(b, `{"session":`...), Bytes(e.Session))
	b = strconv.AppendInt(append(b, `,"number":`...), int64(e.Number), 10)
	b = append(e.At.AppendFormat(append(b, `,"at":"`...), time.RFC3339Nano), `","kind":"request"`...)
	if e.Channel != 0 {
		b = strconv.AppendUint(append(b, `,"channel":`...), uint64(e.Channel), 10)
	}
	return append(e.Request.appendJSON(append(b, `,"request":`...)), '}')
}

func (r *Request) appendJSON(b []byte) []byte {
	b = append(b, `{"args":`...)
	if r.Args == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i, arg := range r.Args {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, arg)
		}
		b = append(b, ']')
	}
	b = strconv.AppendInt(append(b, `,"size":`...), r.Size, 10)
	if r.Truncated {
		b = append(b, `,"truncated":true`...)
	}
	if r.Failed {
		b = append(b, `,"failed":true`...)
	}
	if r.Answer != "" {
		b = appendText(append(b, `,"answer":`...), r.Answer)
	}
	if r.Answered != 0 {
		b = strconv.AppendInt(append(b, `,"answered":`...), r.Answered, 10)
	}
	return append(b, '}')
}

// appendText appends the escaped text as a string of JSON.
func appendText(b []byte, s Bytes) []byte {
	b = append(b, '"')
	kept := 0 // s up to here is in b
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:]))
		if r != '"' && r != '\\' && unicode.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			i += n
			continue
		}
		b = append(b, s[kept:i]...)
		switch r {
		case '"':
			b = append(b, `\"`...)
		case '\\':
			b = append(b, `\\\\`...)
		default:
			const digits = "0123456789abcdef"
			for _, c := range []byte(s[i : i+n]) {
				b = append(b, '\\', '\\', 'x', digits[c>>4], digits[c&15])
			}
		}
		i += n
		kept = i
	}
	return append(append(b, s[kept:]...), '"')
}
