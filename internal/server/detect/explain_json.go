package detect

import (
	"bufio"
	"fmt"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/event"
)

// jsonLines writes one JSON object a line. All keys of an object are always there, in this order; what a
// line lacks is "" or 0, and a time that is unknown null.
type jsonLines struct {
	w     *bufio.Writer
	quiet bool
	buf   []byte
}

func (j *jsonLines) line(n int, e event.Event) error {
	if j.quiet {
		return nil
	}
	b := append(j.buf[:0], `{"line":`...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = appendText(append(b, `,"service":`...), string(e.Service))
	b = appendText(append(b, `,"kind":`...), string(e.Kind))
	b = append(b, `,"source":"`...)
	if e.Source.IsValid() {
		b = e.Source.AppendTo(b)
	}
	b = strconv.AppendInt(append(b, `","source_port":`...), int64(e.SourcePort), 10)
	b = appendText(append(b, `,"account":`...), e.Account)
	b = appendText(append(b, `,"method":`...), e.Method)
	b = strconv.AppendInt(append(b, `,"attempts":`...), int64(e.Attempts), 10)
	b = appendText(append(b, `,"host":`...), e.Host)
	b = appendTime(append(b, `,"time":`...), e.Time)
	return j.write(append(b, "}\n"...))
}

func (j *jsonLines) offence(o event.Offence) error {
	if j.quiet {
		return nil
	}
	b := append(j.buf[:0], `{"offence":{"rule":`...)
	b = appendText(b, o.Rule)
	b = appendText(append(b, `,"source":`...), sourceText(o.Source))
	b = appendText(append(b, `,"host":`...), o.Host)
	b = appendText(append(b, `,"service":`...), string(o.Service))
	b = appendText(append(b, `,"account":`...), o.Account)
	b = strconv.AppendInt(append(b, `,"count":`...), int64(o.Count), 10)
	b = appendTime(append(b, `,"first":`...), o.First)
	b = appendTime(append(b, `,"last":`...), o.Last)
	b = strconv.AppendUint(append(b, `,"line":`...), o.Line.Sequence, 10)
	return j.write(append(b, "}}\n"...))
}

func (j *jsonLines) summary(s ExplainSummary) error {
	b := fmt.Appendf(j.buf[:0], `{"summary":{"lines":%d,"events":%d,"guesses":%d,"offences":%d,"seconds":%.6f}}`,
		s.Lines, s.Events, s.Guesses, s.Offences, s.Seconds)
	return j.write(append(b, '\n'))
}

func (j *jsonLines) write(b []byte) error {
	j.buf = b
	if _, err := j.w.Write(b); err != nil {
		return fmt.Errorf("write explanation: %w", err)
	}
	return nil
}

// sourceText is an offence's source: an address where it is one, else the prefix.
func sourceText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendText writes a JSON string (RFC 8259) that is safe to show: what doesn't print is escaped, and bytes that are
// no UTF-8 become U+FFFD.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError:
			b = append(b, `\ufffd`...)
		case unicode.IsPrint(r):
			b = append(b, s[i:i+n]...)
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		i += n
	}
	return append(b, '"')
}
