package parse

import (
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Options are what logs don't say of themselves. The zero value is for a host without a reverse proxy.
type Options struct {
	HTTP HTTPOptions
	// Patterns read the messages of programs that have no reader of their own; nil: there are none.
	Patterns *Patterns
}

// HTTPOptions say how a web server's log is to be read.
type HTTPOptions struct {
	Logins          []HTTPLogin // login forms, looked at before those that come with Kokkuri
	NoShippedLogins bool        // leave out those that come with Kokkuri
	// Proxies are the networks of the reverse proxies in front of the server. Who they name as their client is the
	// source of their requests, and they themselves are no source.
	Proxies []netip.Prefix
	// ForwardedField says which quoted field after the request holds the header X-Forwarded-For of requests that came
	// through a proxy, counted from 1; 0: the third, as in nginx's format main.
	ForwardedField int
}

// HTTPLogin is a login form, or another place where a web application takes credentials.
type HTTPLogin struct {
	Path    string   // of the URL; with * at its beginning or end it may be the end or the beginning of one
	Methods []string // empty: POST
	Failed  []int    // statuses of a failed login; empty: 401 and 403
	OK      []int    // statuses of a successful one; empty: none tells
}

// New returns a Parser with options.
func New(o Options) *Parser { return &Parser{reader: *NewReader(o)} }

// NewReader returns a Reader with options.
func NewReader(o Options) *Reader {
	return &Reader{options: lineOptions{http: newHTTPRules(o.HTTP), patterns: o.Patterns}}
}

// ProvesLogin says whether a successful login shows that its source knows a secret, so that it may speak for the source.
// Anonymous ones don't; nor does an answer of a web server, which anybody may get by asking for a page that needs no
// login with a header that looks like one, or a form for something else.
func ProvesLogin(e event.Event) bool {
	return e.Kind == event.AuthOK && e.Service != event.HTTP && e.Method != anonymousMethod
}
