package weblog

import "bytes"

// Server is who wrote a line of an error log.
type Server uint8

// Servers.
const (
	Nginx Server = iota + 1
	Apache
)

// Error is a line of an error log. Its slices share the line's memory.
type Error struct {
	Server Server
	Stamp  []byte // as the server writes it; empty where it left that to syslog; see NginxTime and ApacheTime
	Level  []byte // such as error; Apache's with the module, such as auth_basic:error
	PID    []byte
	Peer   []byte // the client's address, only where no text of a client can stand before it
	Port   []byte
	Text   []byte // what happened; begins with the server's own words
}

// ReadError reads a line of the forms
//
//	2026/11/22 18:00:00 [error] 12#12: *7 TEXT, client: ADDRESS, server: …                                 nginx
//	[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 2] [client ADDRESS:PORT] TEXT          Apache
//
// Apache's without the time where it writes to syslog. Nginx writes what clients send as it is, line feeds included, so
// that a line, or a part of one, may be wholly a client's: of its lines no peer is read.
func ReadError(b []byte) (e Error, ok bool) {
	if len(b) > 0 && b[0] == '[' {
		return apacheError(b)
	}
	return nginxError(b)
}

func nginxError(b []byte) (e Error, ok bool) {
	const stamp = len("2026/11/22 18:00:00")
	if len(b) < stamp+2 || b[4] != '/' || b[7] != '/' || b[10] != ' ' || b[stamp] != ' ' || b[stamp+1] != '[' {
		return e, false
	}
	level, rest, ok := bytes.Cut(b[stamp+2:], []byte("] "))
	if !ok || len(level) > 8 {
		return e, false
	}
	process, rest, ok := bytes.Cut(rest, []byte(": "))
	if !ok {
		return e, false
	}
	pid, _, ok := bytes.Cut(process, []byte{'#'})
	if !ok || len(process) > 24 {
		return e, false
	}
	if len(rest) > 0 && rest[0] == '*' { // the connection's number
		if _, text, ok := bytes.Cut(rest, []byte{' '}); ok {
			rest = text
		}
	}
	return Error{Server: Nginx, Stamp: b[:stamp], Level: level, PID: pid, Text: rest}, true
}

func apacheError(b []byte) (e Error, ok bool) {
	e.Server = Apache
	for n := 0; len(b) > 0 && b[0] == '['; n++ {
		group, rest, ok := closeGroup(b)
		if !ok {
			return e, false
		}
		b = rest
		switch {
		case bytes.HasPrefix(group, []byte("client ")):
			e.Peer = group[len("client "):]
			if bytes.IndexByte(e.Level, ':') >= 0 { // 2.4 and later
				e.Peer, e.Port = splitPort(e.Peer)
			}
			e.Text = b
			return e, len(e.Level) > 0 // only text follows
		case bytes.HasPrefix(group, []byte("pid ")):
			e.PID, _, _ = bytes.Cut(group[len("pid "):], []byte{':'})
		case n == 0 && len(group) > len("Sun Nov 22 18:00:00 2026")-1 && group[3] == ' ' && group[7] == ' ':
			e.Stamp = group
		case len(e.Level) == 0 && bytes.IndexByte(group, ' ') < 0:
			e.Level = group
		}
	}
	e.Text = b
	return e, len(e.Level) > 0
}

// closeGroup cuts "[GROUP] " off; a group holds what the server wrote, and an IPv6 address has no brackets there.
func closeGroup(b []byte) (group, rest []byte, ok bool) {
	end := bytes.IndexByte(b, ']')
	if end < 0 || end+1 < len(b) && b[end+1] != ' ' {
		return nil, nil, false
	}
	return b[1:end], b[min(end+2, len(b)):], true
}

// splitPort splits "203.0.113.66:4022" or "2001:db8::1:4022".
func splitPort(b []byte) (peer, port []byte) {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return b, nil
	}
	return b[:i], b[i+1:]
}

// Denial is what an error log says of credentials.
type Denial struct {
	User   []byte
	Target []byte // the path that was asked for
	Guess  bool   // the credentials were wrong; else they were right, but not enough
}

// Denial reads Apache's messages of credentials that were not taken, of mod_auth_basic, mod_auth_digest and
// mod_authz_core (a name of Basic has no colon, so the first that follows it is Apache's). It reads nothing of nginx's.
func (e *Error) Denial() (d Denial, ok bool) {
	if e.Server != Apache {
		return d, false
	}
	text := e.Text
	if len(text) > len("AH01617: ") && text[0] == 'A' && text[1] == 'H' && text[7] == ':' {
		text = text[len("AH01617: "):]
	}
	text, ok = bytes.CutPrefix(text, []byte("user "))
	if !ok {
		return d, false
	}
	d.Guess = true
	if user, rest, found := bytes.Cut(text, []byte(` not found: `)); found && bytes.IndexByte(user, ':') < 0 {
		d.User, d.Target = bytes.TrimPrefix(user, []byte("`")), rest
		if name, _, quoted := bytes.Cut(d.User, []byte("' in realm `")); quoted {
			d.User = name
		}
		return d, true
	}
	user, rest, found := bytes.Cut(text, []byte(": "))
	if !found {
		return d, false
	}
	d.User = user
	switch {
	case bytes.HasPrefix(rest, []byte(`authentication failure for "`)):
		d.Target, _, _ = bytes.Cut(rest[len(`authentication failure for "`):], []byte(`": `))
	case bytes.HasPrefix(rest, []byte(`authorization failure for "`)):
		d.Target, _, _ = bytes.Cut(rest[len(`authorization failure for "`):], []byte(`": `))
		d.Guess = false
	case bytes.HasPrefix(rest, []byte("password mismatch: ")):
		d.Target = rest[len("password mismatch: "):]
	default:
		return Denial{}, false
	}
	return d, true
}
