package parse

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// httpRules are HTTPOptions, ready for use. The nil pointer is those of the zero options.
type httpRules struct {
	logins         []loginPath
	noShipped      bool
	proxies        []netip.Prefix
	forwardedField int
}

// usualForwardedField is where nginx's format main has X-Forwarded-For: after referer and user agent.
const usualForwardedField = 3

func newHTTPRules(o HTTPOptions) *httpRules {
	r := &httpRules{noShipped: o.NoShippedLogins, proxies: slices.Clone(o.Proxies), forwardedField: o.ForwardedField}
	if r.forwardedField <= 0 {
		r.forwardedField = usualForwardedField
	}
	for _, l := range o.Logins {
		r.logins = append(r.logins, newLoginPath(l))
	}
	return r
}

// loginPath is an HTTPLogin, ready for use.
type loginPath struct {
	path       string
	begin, end bool // the path is the beginning or the end of one
	methods    []string
	failed, ok []int
}

func newLoginPath(l HTTPLogin) loginPath {
	p := loginPath{path: l.Path, methods: slices.Clone(l.Methods), failed: slices.Clone(l.Failed), ok: slices.Clone(l.OK)}
	p.path, p.begin = strings.CutSuffix(p.path, "*")
	p.path, p.end = strings.CutPrefix(p.path, "*")
	if len(p.methods) == 0 {
		p.methods = []string{"POST"}
	}
	if len(p.failed) == 0 {
		p.failed = []int{401, 403}
	}
	return p
}

func (l *loginPath) matches(method, path []byte) bool {
	if !slices.Contains(l.methods, string(method)) {
		return false
	}
	switch {
	case l.begin && l.end:
		return bytes.Contains(path, []byte(l.path))
	case l.begin:
		return len(path) >= len(l.path) && string(path[:len(l.path)]) == l.path
	case l.end:
		n := len(path) - len(l.path)
		return n >= 0 && string(path[n:]) == l.path
	}
	return string(path) == l.path
}

// login says what a request at a login form was: a failed or a successful login, something else there (context), or
// no such request (empty).
func (r *httpRules) login(method, raw []byte, status int) event.Kind {
	if r == nil {
		return shippedLogin(method, raw, status)
	}
	if len(r.logins) > 0 {
		var buffer [maxLoginPath]byte
		path := normalPath(buffer[:0], raw)
		for i := range r.logins {
			l := &r.logins[i]
			switch {
			case !l.matches(method, path):
			case slices.Contains(l.failed, status):
				return event.AuthFailed
			case slices.Contains(l.ok, status):
				return event.AuthOK
			default:
				return event.Context
			}
		}
	}
	if r.noShipped {
		return ""
	}
	return shippedLogin(method, raw, status)
}

// proxy says whether an address is one of the configured proxies'.
func (r *httpRules) proxy(a netip.Addr) bool {
	if r == nil {
		return false
	}
	for _, p := range r.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// forwarded finds the client in X-Forwarded-For: each proxy appends the address of who asked it, so the last that is no
// proxy of ours is the client as our outermost proxy saw it. What stands before it came with the request, and anybody can
// write it. Where something other than an address stands there, nobody is known.
func (r *httpRules) forwarded(field []byte) netip.Addr {
	for len(field) > 0 {
		i := bytes.LastIndexByte(field, ',')
		hop := bytes.TrimSpace(field[i+1:])
		a, ok := hopAddress(hop)
		if !ok {
			return netip.Addr{}
		}
		if !r.proxy(a) {
			return a
		}
		field = field[:max(i, 0)]
	}
	return netip.Addr{}
}

// hopAddress reads an address as proxies write it: bare, in brackets, or with a port.
func hopAddress(b []byte) (netip.Addr, bool) {
	if len(b) > 0 && b[0] == '[' {
		inner, rest, ok := bytes.Cut(b[1:], []byte{']'})
		if !ok || len(rest) > 0 && rest[0] != ':' {
			return netip.Addr{}, false
		}
		return address(inner)
	}
	if a, ok := address(b); ok {
		return a, true
	}
	host, port, ok := bytes.Cut(b, []byte{':'})
	if _, isPort := portNumber(port); !ok || !isPort {
		return netip.Addr{}, false
	}
	return address(host)
}
