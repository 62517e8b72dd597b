package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native/weblog"
)

// Methods of HTTP's events.
const (
	basicMethod    = "basic"    // credentials in the header Authorization
	formMethod     = "form"     // a login form, or another path that takes credentials
	exploitMethod  = "exploit"  // a request that only an attack makes
	protocolMethod = "protocol" // no request of HTTP
)

// httpMessage reads a line of an access or error log of nginx and Apache, as they write it to a file or to syslog.
//
// What counts: a request with credentials that was answered 401 is a guess, as is one at a login form that was answered
// as failed logins are. One without credentials is none: every browser begins so. The error logs restate: Apache's lines
// count where the access log's are missing (see webTwins); nginx's never do, since it writes there what clients
// send as it is, line feeds included, so that a client can write whole lines (seen with 1.18, 1.22 and 1.26).
//
// The source is the TCP peer, never a header, unless the peer is one of the proxies that the configuration names.
func httpMessage(m *message) fact {
	text, form := trimLeft(m.text), m.logForm()
	if inner, n, ok := repeated(text); ok {
		f := httpLine(m.http, inner, form)
		f.attempts *= n
		f.repeated = n
		return f
	}
	return httpLine(m.http, text, form)
}

// logForm is what a line is known to come from. What stands in nginx's error log is read as nothing else: it may be a
// client's text.
type logForm uint8

const (
	anyLog logForm = iota
	accessLog
	nginxErrors
	apacheErrors
	noLog
)

func errorsOf(s weblog.Server) logForm {
	if s == weblog.Apache {
		return apacheErrors
	}
	return nginxErrors
}

func (m *message) logForm() logForm {
	format := m.tag // rsyslog's imfile, for instance, can be told a log's
	ok := m.said != nil && m.said.format != nil
	if ok {
		format = m.said.format
	}
	switch string(format) {
	case "nginx-access", "apache-access":
		return accessLog
	case "nginx-error":
		return nginxErrors
	case "apache-error":
		return apacheErrors
	}
	if ok {
		return noLog
	}
	return anyLog
}

func httpLine(rules *httpRules, b []byte, form logForm) fact {
	if len(b) == 0 {
		return fact{}
	}
	if b[0] == '[' || len(b) > 4 && b[4] == '/' {
		e, ok := weblog.ReadError(b)
		if !ok || form != anyLog && (form != errorsOf(e.Server) || len(e.Stamp) == 0) { // without a time it is what some program wrote there
			return fact{}
		}
		return httpError(rules, &e)
	}
	if form != anyLog && form != accessLog {
		return fact{}
	}
	a, ok := weblog.ReadAccess(b)
	if !ok {
		return fact{}
	}
	f := httpAccess(rules, &a)
	switch {
	case f.kind == event.None:
		if c := a.Peer[len(a.Peer)-1]; c > '9' || c == '.' { // hardly an address
			_, ok := address(a.Peer)
			f.peer = formOf(a.Peer, ok)
		}
	case a.Unsure: // a client may have written it to hide a peer, or to name another
		f.kind, f.attempts, f.web = event.Context, 0, notWeb
	default:
		httpSource(rules, &a, &f)
	}
	return f
}

// httpAccess says what a request was.
func httpAccess(rules *httpRules, a *weblog.Access) fact {
	method, target, ok := a.RequestLine()
	if !ok {
		if a.Status == 400 && len(a.Request) > 1 { // "-" and nothing are connections that were closed
			return fact{kind: event.Probe, means: protocolMethod}
		}
		return fact{kind: event.None}
	}
	path := weblog.Path(target)
	if a.Status == 401 && len(a.User) > 0 {
		return fact{kind: event.AuthFailed, account: a.User, means: basicMethod, resource: path, attempts: 1, web: webAccess}
	}
	if kind := rules.login(method, path, a.Status); kind != "" {
		f := fact{kind: kind, means: formMethod, resource: path}
		if kind == event.AuthFailed {
			f.attempts = 1
		}
		return f
	}
	switch {
	case exploit(target, a.Status) || exploitHeader(a.Tail()):
		return fact{kind: event.Probe, means: exploitMethod, resource: path}
	case len(a.User) > 0 && a.Status >= 200 && a.Status < 400:
		return fact{kind: event.AuthOK, account: a.User, means: basicMethod, resource: path}
	case len(a.User) > 0 || a.Status == 401:
		return fact{kind: event.Context, account: a.User, means: basicMethod, resource: path}
	}
	return fact{kind: event.None}
}

// httpError reads a line of an error log.
func httpError(rules *httpRules, e *weblog.Error) fact {
	if e.Server == weblog.Nginx {
		kind := event.None
		if bytes.HasPrefix(e.Text, []byte(`user "`)) || bytes.HasPrefix(e.Text, []byte("no user/password was provided")) {
			kind = event.Context
		}
		return fact{kind: kind}
	}
	f := fact{kind: event.None}
	d, ok := e.Denial()
	if !ok {
		return f
	}
	f.kind, f.account, f.means, f.resource = event.Context, d.User, basicMethod, weblog.Path(d.Target)
	source, ok := address(e.Peer)
	if !ok || rules.proxy(source) || len(d.User) == 0 {
		return f
	}
	f.source = source
	f.port, _ = portNumber(e.Port)
	f.web = webErrorOnly
	if d.Guess {
		f.kind, f.attempts, f.web = event.AuthFailed, 1, webError
	}
	return f
}

// httpSource states who made a request: the peer, or who a proxy says it was.
func httpSource(rules *httpRules, a *weblog.Access, f *fact) {
	peer, ok := address(a.Peer)
	if f.peer = formOf(a.Peer, ok); !ok {
		return
	}
	if !rules.proxy(peer) {
		f.source = peer
		return
	}
	if field, ok := a.Field(rules.forwardedField); ok {
		f.source = rules.forwarded(field)
	}
}
