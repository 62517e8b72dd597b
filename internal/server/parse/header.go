package parse

import (
	"bytes"
	"time"
)

// Head is what stands before a line's message.
type Head struct {
	Host string    // as the line says; "" for RFC 5424's "-"
	Tag  string    // program; "" where the line has none
	PID  string    // as the line says; mostly a number
	Time time.Time // UTC; zero for RFC 5424's "-"
	Msg  []byte    // without leading spaces; shares line's memory
}

// Header splits a line as syslog daemons write it into its header and its message:
//
//	Nov 22 18:00:00 web sshd[1]: msg                 RFC 3164
//	2026-11-22T18:00:00.1+00:00 web sshd[1]: msg     the same with an ISO 8601 time (RFC 3339)
//	1 2026-11-22T18:00:00Z web sshd 1 - - msg        RFC 5424
//
// each with or without a priority <N> before it. RFC 3164's times have neither year nor zone: the
// zone is ref's, and the year is the one that puts the time at most two days after ref and
// otherwise as late as can be. ok is false where the line has none of these forms.
func Header(line []byte, ref time.Time) (h Head, ok bool) {
	p, ok := parseHeader(line, ref)
	if !ok {
		return Head{}, false
	}
	return Head{Host: string(p.host), Tag: string(p.tag), PID: string(p.pid), Time: p.time, Msg: p.msg}, true
}

// head is Head with its strings still in the line.
type head struct {
	host, tag, pid []byte
	time           time.Time
	msg            []byte
	sd             []byte // RFC 5424's structured data as it stands in the line; empty where there is none
	local          bool   // the time stood without year and zone
}

func (h head) message() message { return message{tag: h.tag, pid: h.pid, sd: h.sd, text: h.msg} }

func parseHeader(line []byte, ref time.Time) (head, bool) {
	b := skipPriority(line)
	if len(b) < 2 {
		return head{}, false
	}
	switch c := b[0]; {
	case c == '1' && b[1] == ' ':
		return header5424(b[2:])
	case c >= '0' && c <= '9':
		t, rest, ok := isoTime(b)
		if !ok {
			return head{}, false
		}
		return hostAndTag(rest, t)
	default:
		t, rest, ok := bsdTime(b, ref)
		if !ok {
			return head{}, false
		}
		h, ok := hostAndTag(rest, t)
		h.local = true
		return h, ok
	}
}

// skipPriority drops a leading <N>.
func skipPriority(b []byte) []byte {
	if len(b) == 0 || b[0] != '<' {
		return b
	}
	for i := 1; i < len(b) && i <= 4; i++ {
		switch c := b[i]; {
		case c == '>' && i > 1:
			return b[i+1:]
		case c < '0' || c > '9':
			return b
		}
	}
	return b
}

// hostAndTag reads " HOST TAG[PID]: MSG". Without a tag (no colon) all after HOST is the message.
func hostAndTag(b []byte, t time.Time) (head, bool) {
	if len(b) == 0 || b[0] != ' ' {
		return head{}, false
	}
	b = b[1:]
	i := bytes.IndexByte(b, ' ')
	if i <= 0 {
		return head{}, false
	}
	h := head{host: b[:i], time: t, msg: trimLeft(b[i+1:])}
	b = h.msg
	n := 0
	for n < len(b) && b[n] > ' ' && b[n] != ':' && b[n] != '[' {
		n++
	}
	if n == 0 || n == len(b) {
		return h, true
	}
	tag, rest := b[:n], b[n:]
	var pid []byte
	if rest[0] == '[' {
		end := bytes.IndexByte(rest, ']')
		if end < 0 || bytes.IndexByte(rest[:end], ' ') >= 0 {
			return h, true
		}
		pid, rest = rest[1:end], rest[end+1:]
	}
	if len(rest) == 0 || rest[0] != ':' || len(rest) > 1 && rest[1] != ' ' {
		return h, true
	}
	h.tag, h.pid, h.msg = tag, pid, trimLeft(rest[1:])
	return h, true
}

// header5424 reads "TIMESTAMP HOST APP PROCID MSGID SD [MSG]" (RFC 5424, section 6, after VERSION).
func header5424(b []byte) (head, bool) {
	var h head
	if stamp, rest, ok := field(b); ok && string(stamp) == "-" {
		b = rest
	} else {
		t, after, ok := isoTime(b)
		if !ok || len(after) == 0 || after[0] != ' ' {
			return head{}, false
		}
		h.time, b = t, after[1:]
	}
	var fields [4][]byte // host, app, procid, msgid
	for i := range fields {
		f, rest, ok := field(b)
		if !ok {
			return head{}, false
		}
		if string(f) != "-" {
			fields[i] = f
		}
		b = rest
	}
	h.host, h.tag, h.pid = fields[0], fields[1], fields[2]
	sd := b
	b, ok := skipStructuredData(b)
	h.sd = sd[:len(sd)-len(b)]
	if !ok || len(b) > 0 && b[0] != ' ' {
		return head{}, false
	}
	b = trimLeft(b)
	h.msg = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	return h, true
}

// field cuts a non-empty field off that ends with a space.
func field(b []byte) (f, rest []byte, ok bool) {
	i := bytes.IndexByte(b, ' ')
	if i <= 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// skipStructuredData skips "-" or elements [id name="value" …] with \", \\ and \] in values.
func skipStructuredData(b []byte) ([]byte, bool) {
	if len(b) > 0 && b[0] == '-' {
		return b[1:], true
	}
	if len(b) == 0 || b[0] != '[' {
		return nil, false
	}
	for len(b) > 0 && b[0] == '[' {
		quoted := false
		i := 1
	element:
		for ; i < len(b); i++ {
			switch c := b[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == ']' && !quoted:
				break element
			}
		}
		if i >= len(b) {
			return nil, false
		}
		b = b[i+1:]
	}
	return b, true
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return b
}
