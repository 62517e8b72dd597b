package explain

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
// line lacks is "" or 0, and a time that is unknown null. Of several inputs "file" comes after "line".
type jsonLines struct {
	w     *bufio.Writer
	quiet bool
	files *numbering
	buf   []byte
}

// line writes what a line means that stands at a number of the run in a block.
func (j *jsonLines) line(b *block, n int, e *event.Event) error {
	return j.write(j.appendLine(j.buf[:0], b, n, e))
}

// appendLine is for several goroutines at once.
func (j *jsonLines) appendLine(b []byte, in *block, n int, e *event.Event) []byte {
	b = append(b, `{"line":`...)
	b = strconv.AppendInt(b, int64(n-in.base+1), 10)
	if j.files.several() {
		b = appendText(append(b, `,"file":`...), j.files.inputs[in.file].Name)
	}
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
	return append(b, "}\n"...)
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
	file, n := j.files.place(int(o.Line.Sequence))
	b = strconv.AppendInt(append(b, `,"line":`...), int64(n), 10)
	if j.files.several() {
		b = appendText(append(b, `,"file":`...), file)
	}
	return j.write(append(b, "}}\n"...))
}

func (j *jsonLines) summary(s Summary) error {
	b := fmt.Appendf(j.buf[:0], `{"summary":{"lines":%d,"events":%d,"guesses":%d,"offences":%d,"seconds":%.6f`,
		s.Lines, s.Events, s.Guesses, s.Offences, s.Seconds)
	if s.Timeless > 0 {
		b = strconv.AppendInt(append(b, `,"events_without_time":`...), int64(s.Timeless), 10)
	}
	if s.Evicted > 0 {
		b = strconv.AppendUint(append(b, `,"groups_evicted":`...), s.Evicted, 10)
	}
	if s.Unknown > 0 {
		b = strconv.AppendInt(append(b, `,"lines_not_understood":`...), int64(s.Unknown), 10)
		b = append(b, `,"not_understood":[`...)
		for i, shape := range s.Shapes {
			if i > 0 {
				b = append(b, ',')
			}
			file, n := j.files.place(shape.Line)
			b = strconv.AppendInt(append(b, `{"count":`...), int64(shape.Count), 10)
			b = strconv.AppendInt(append(b, `,"line":`...), int64(n), 10)
			if j.files.several() {
				b = appendText(append(b, `,"file":`...), file)
			}
			b = appendText(append(b, `,"service":`...), string(shape.Service))
			b = append(appendText(append(b, `,"shape":`...), shape.Text), '}')
		}
		b = append(b, ']')
	}
	return j.write(append(b, "}}\n"...))
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
	t = t.UTC()
	year, month, day := t.Date()
	if year < 1 || year > 9999 {
		return append(t.AppendFormat(b, time.RFC3339Nano), '"')
	}
	hour, minute, second := t.Clock()
	b = append(b, byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10))
	b = append(two(append(b, '-'), int(month)), '-')
	b = append(two(b, day), 'T')
	b = append(two(b, hour), ':')
	b = append(two(b, minute), ':')
	b = two(b, second)
	if n := t.Nanosecond(); n > 0 {
		b = append(b, '.')
		for scale := 100_000_000; n > 0; scale /= 10 {
			b = append(b, byte('0'+n/scale))
			n %= scale
		}
	}
	return append(b, 'Z', '"')
}

func two(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// appendText writes a JSON string (RFC 8259) that is safe to show: what doesn't print is escaped, and bytes that are
// no UTF-8 become U+FFFD.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	if plain(s) {
		return append(append(b, s...), '"')
	}
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

// plain reports whether a text stands for itself in JSON.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
