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
	Time time.Time // UTC; zero where the line has none, as RFC 5424's "-"
	Msg  []byte    // without leading spaces; shares line's memory
}

// Header splits a line as syslog daemons and journalctl write it into its header and its message:
//
//	Nov 22 18:00:00 web sshd[1]: msg                 RFC 3164
//	2026-11-22T18:00:00.1+00:00 web sshd[1]: msg     the same with an ISO 8601 time (RFC 3339)
//	1 2026-11-22T18:00:00Z web sshd 1 - - msg        RFC 5424
//	Sun 2026-11-22 18:00:00 CET web sshd[1]: msg     journalctl -o short-full
//	1763834400.123456 web sshd[1]: msg               journalctl -o short-unix
//	[  12.345678] web sshd[1]: msg                   journalctl -o short-monotonic, whose times say nothing of the date
//
// each with or without a priority <N> before it (journalctl's other short forms are among the first two). RFC 3164's
// times have neither year nor zone: the zone is ref's, as it is where short-full names one other than UTC, and the year is the one that puts the time at most two days after ref and
// otherwise as late as can be. ok is false where the line has none of these forms.
func Header(line []byte, ref time.Time) (h Head, ok bool) {
	var p head
	var c clock
	if !c.header(line, ref, &p) {
		return Head{}, false
	}
	return Head{Host: string(p.host), Tag: string(p.tag), PID: string(p.pid), Time: p.time, Msg: p.text}, true
}

// head is Head with its strings still in the line.
type head struct {
	message

	host  []byte
	time  time.Time
	local bool // the time stands without year and zone
}

// header reads a line's header into h.
func (c *clock) header(line []byte, ref time.Time, h *head) bool {
	b := skipPriority(line)
	if len(b) < 2 {
		return false
	}
	var ok bool
	switch first := b[0]; {
	case first == '1' && b[1] == ' ':
		return c.header5424(b[2:], h)
	case first >= '0' && first <= '9' && len(b) > 4 && b[4] == '-':
		h.time, b, ok = c.iso(b)
	case first >= '0' && first <= '9':
		h.time, b, ok = unixTime(b)
	case first == '[':
		b, ok = monotonicTime(b)
	case len(b) > 8 && b[3] == ' ' && b[8] == '-':
		h.time, b, ok = fullTime(b, ref)
	default:
		h.local = true
		h.time, b, ok = c.bsd(b, ref)
	}
	return ok && hostAndTag(b, h)
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
func hostAndTag(b []byte, h *head) bool {
	if len(b) == 0 || b[0] != ' ' {
		return false
	}
	b = b[1:]
	i := bytes.IndexByte(b, ' ')
	if i <= 0 {
		return false
	}
	h.host, h.text = b[:i], trimLeft(b[i+1:])
	b = h.text
	n := 0
	for n < len(b) && b[n] > ' ' && b[n] != ':' && b[n] != '[' {
		n++
	}
	if n == 0 || n == len(b) {
		return true
	}
	tag, rest := b[:n], b[n:]
	var pid []byte
	if rest[0] == '[' {
		end := bytes.IndexByte(rest, ']')
		if end < 0 || bytes.IndexByte(rest[:end], ' ') >= 0 {
			return true
		}
		pid, rest = rest[1:end], rest[end+1:]
	}
	if len(rest) == 0 || rest[0] != ':' || len(rest) > 1 && rest[1] != ' ' {
		return true
	}
	h.tag, h.pid, h.text = tag, pid, trimLeft(rest[1:])
	return true
}

// header5424 reads "TIMESTAMP HOST APP PROCID MSGID SD [MSG]" (RFC 5424, section 6, after VERSION).
func (c *clock) header5424(b []byte, h *head) bool {
	if len(b) > 1 && b[0] == '-' && b[1] == ' ' {
		b = b[2:]
	} else {
		t, after, ok := c.iso(b)
		if !ok || len(after) == 0 || after[0] != ' ' {
			return false
		}
		h.time, b = t, after[1:]
	}
	for i := range 4 { // host, app, procid, msgid
		f, rest, ok := field(b)
		if !ok {
			return false
		}
		b = rest
		if len(f) == 1 && f[0] == '-' {
			continue
		}
		switch i {
		case 0:
			h.host = f
		case 1:
			h.tag = f
		case 2:
			h.pid = f
		}
	}
	b, ours, ok := structuredData(b, &c.said)
	if !ok || len(b) > 0 && b[0] != ' ' {
		return false
	}
	if ours {
		h.said = &c.said
	}
	b = trimLeft(b)
	h.text = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	return true
}

// field cuts a non-empty field off that ends with a space.
func field(b []byte) (f, rest []byte, ok bool) {
	i := bytes.IndexByte(b, ' ')
	if i <= 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return b
}
