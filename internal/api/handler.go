package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// Bounds of what is asked.
const (
	maxBody      = 64 << 10
	maxLimit     = 100_000
	maxTTL       = 366 * 24 * time.Hour
	defaultTTL   = 24 * time.Hour
	maxNote      = 200
	maxTokenTTL  = 7 * 24 * time.Hour
	tokenTTL     = time.Hour
	tailInterval = 20 * time.Second // how often a quiet stream shows that it lives
)

// NewHandler serves the API. What a backend returns as *Error is told as it is; other errors are
// told by their text, logged, and answered with status 500.
func NewHandler(b Backend, log *slog.Logger) http.Handler { return newHandler(b, log) }

func newHandler(b Backend, log *slog.Logger) *handler {
	h := &handler{b: b, log: log, mux: http.NewServeMux(), closing: make(chan struct{})}
	get := func(path string, fn func(*http.Request) (any, error)) { h.handle("GET "+path, fn) }

	get(PathStatus, func(r *http.Request) (any, error) { return b.Status(r.Context()) })
	h.machines()
	h.records()
	h.evidence()
	h.operator()
	h.allow()
	h.rules()
	h.personas()
	h.mux.HandleFunc("GET "+PathEvents, h.tail)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, &Error{Status: http.StatusNotFound, Message: "no such thing as " + r.Method + " " + r.URL.Path})
	})
	return h
}

type handler struct {
	b       Backend
	log     *slog.Logger
	mux     *http.ServeMux
	closing chan struct{} // closed when streams have to end
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.mux.ServeHTTP(w, r)
}

// handle answers a pattern with what fn returns, as JSON.
func (h *handler) handle(pattern string, fn func(*http.Request) (any, error)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := fn(r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(inUTC(v)) // an error means that who asked is gone
	})
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	told, ok := errors.AsType[*Error](err)
	switch {
	case ok:
	case errors.Is(err, fs.ErrNotExist):
		told = &Error{Status: http.StatusNotFound, Message: err.Error()}
	default:
		told = &Error{Status: http.StatusInternalServerError, Message: err.Error(), Hint: "see the server's log"}
		if r.Context().Err() == nil {
			h.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(told.Status)
	_ = json.NewEncoder(w).Encode(told) // an error means that who asked is gone
}

// one picks the record of a list that has a name.
func one[T any](what string, list []T, err error, is func(T) bool, name string) (any, error) {
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if is(e) {
			return e, nil
		}
	}
	return nil, NotFound("there is no "+what+" "+strconv.Quote(name), "kokkuri "+what+"s ls lists them")
}

func (h *handler) machines() {
	h.handle("GET "+PathHosts, func(r *http.Request) (any, error) { return h.b.Hosts(r.Context()) })
	h.handle("GET "+PathHosts+"/{id}", func(r *http.Request) (any, error) {
		list, err := h.b.Hosts(r.Context())
		id := r.PathValue("id")
		return one("host", list, err, func(x Host) bool { return x.Name == id }, id)
	})
	h.handle("DELETE "+PathHosts+"/{id}", func(r *http.Request) (any, error) {
		return done(r, "host", h.b.RemoveHost)
	})
	h.handle("GET "+PathNodes, func(r *http.Request) (any, error) { return h.b.Nodes(r.Context()) })
	h.handle("GET "+PathNodes+"/{id}", func(r *http.Request) (any, error) {
		list, err := h.b.Nodes(r.Context())
		id := r.PathValue("id")
		return one("node", list, err, func(x Node) bool { return x.Name == id }, id)
	})
	h.handle("DELETE "+PathNodes+"/{id}", func(r *http.Request) (any, error) {
		return done(r, "node", h.b.RemoveNode)
	})
	h.handle("POST "+PathEnroll, h.enroll)
	h.handle("POST "+PathSyslog, h.issueSyslog)
}

// done does something to a machine that has a name.
func done(r *http.Request, what string, fn func(context.Context, string) error) (any, error) {
	id := r.PathValue("id")
	err := fn(r.Context(), id)
	if told, ok := errors.AsType[*Error](err); !ok && told == nil && errors.Is(err, fs.ErrNotExist) {
		return nil, NotFound("there is no "+what+" "+strconv.Quote(id), "kokkuri "+what+"s ls lists them")
	}
	return struct{}{}, err
}

func (h *handler) enroll(r *http.Request) (any, error) {
	in := struct {
		Role string `json:"role"`
		Name string `json:"name"`
		TTL  string `json:"ttl"`
	}{Role: RoleHost}
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if in.Role != RoleHost && in.Role != RoleNode {
		return nil, badRequest("role: found "+strconv.Quote(in.Role), "allowed: host, node")
	}
	if !config.ValidName(in.Name) {
		return nil, badRequest("name: found "+strconv.Quote(in.Name), "allowed: a lower-case name of letters, digits and hyphens, at most 63 long")
	}
	ttl, err := duration("ttl", in.TTL, tokenTTL, maxTokenTTL)
	if err != nil {
		return nil, err
	}
	return h.b.Enroll(r.Context(), in.Role, in.Name, ttl)
}

func (h *handler) issueSyslog(r *http.Request) (any, error) {
	var in struct {
		Name string `json:"name"`
		CSR  string `json:"csr"`
	}
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if !config.ValidName(in.Name) {
		return nil, badRequest("name: found "+strconv.Quote(in.Name), "allowed: a lower-case name of letters, digits and hyphens, at most 63 long")
	}
	return h.b.IssueSyslog(r.Context(), in.Name, in.CSR)
}

func (h *handler) records() {
	list(h, PathPots, h.b.Pots)
	h.handle("GET "+PathPots+"/{id}", func(r *http.Request) (any, error) {
		pots, err := h.b.Pots(r.Context(), Filter{})
		id := r.PathValue("id")
		return one("pot", pots, err, func(p event.Pot) bool {
			return p.Name == id || p.ID == id || len(id) >= 12 && strings.HasPrefix(p.ID, id)
		}, id)
	})
	list(h, PathAttackers, h.b.Attackers)
	h.handle("GET "+PathAttackers+"/{id}", func(r *http.Request) (any, error) {
		source, err := Source(r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		found, err := h.b.Attackers(r.Context(), Filter{Source: source})
		return one("attacker", found, err, func(a Attacker) bool { return a.Source == source }, source.String())
	})
	list(h, PathRedirects, h.b.Redirects)
	show(h, PathRedirects, "redirect", h.b.Redirect)
	list(h, PathSessions, h.b.Sessions)
	show(h, PathSessions, "session", h.b.Session)
	list(h, PathOffences, func(ctx context.Context, f Filter) ([]event.Offence, error) {
		found, err := h.b.Offences(ctx, f)
		offences := slices.Clone(found) // the backend's stay whole
		for i := range offences {
			offences[i].Proof = nil // long, and shown with the one offence
		}
		return offences, err
	})
	show(h, PathOffences, "offence", h.b.Offence)
}

// list answers a path with the records that the query wants.
func list[T any](h *handler, path string, fn func(context.Context, Filter) ([]T, error)) {
	h.handle("GET "+path, func(r *http.Request) (any, error) {
		f, err := filter(r)
		if err != nil {
			return nil, err
		}
		out, err := fn(r.Context(), f)
		if out == nil {
			out = []T{} // [] in JSON
		}
		return out, err
	})
}

// show answers a path with the one record that has the id.
func show[T any](h *handler, path, what string, fn func(context.Context, string) (T, error)) {
	h.handle("GET "+path+"/{id}", func(r *http.Request) (any, error) {
		id := r.PathValue("id")
		v, err := fn(r.Context(), id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, NotFound("there is no "+what+" "+strconv.Quote(id), "kokkuri "+what+"s ls lists them")
		}
		return v, err
	})
}

func filter(r *http.Request) (Filter, error) {
	var f Filter
	for key, values := range r.URL.Query() {
		value := values[0]
		var err error
		switch key {
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 0 || f.Limit > maxLimit {
				return f, badRequest("limit: found "+strconv.Quote(value), "allowed: 0 (all) to "+strconv.Itoa(maxLimit))
			}
		case "host":
			f.Host = value
		case "node":
			f.Node = value
		case "live":
			if f.Live, err = strconv.ParseBool(value); err != nil {
				return f, badRequest("live: found "+strconv.Quote(value), "allowed: true, false")
			}
		case "source":
			if f.Source, err = config.ParsePrefix(value); err != nil {
				return f, badRequest("source: found "+strconv.Quote(value), "allowed: "+err.Error())
			}
		default:
			return f, badRequest("unknown parameter "+strconv.Quote(key), "allowed: limit, host, node, source, live")
		}
	}
	return f, nil
}

// body reads a request's JSON strictly; none is an empty object.
func body(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return badRequest("the request is no JSON that is understood: "+err.Error(), "")
	}
	return nil
}

func duration(key, text string, usual, most time.Duration) (time.Duration, error) {
	if text == "" {
		return usual, nil
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return 0, badRequest(key+": found "+strconv.Quote(text), "allowed: "+err.Error())
	}
	if d.Std() < time.Second || d.Std() > most {
		return 0, badRequest(key+": found "+strconv.Quote(text), "allowed: 1s to "+config.Duration(most).String())
	}
	return d.Std(), nil
}

// Source parses what names one attacker: an IPv4 address, an IPv6 address (which stands for its
// /64), or a prefix of 32, 64 or 128 bits.
func Source(text string) (netip.Prefix, error) {
	const hint = "allowed: an address, such as 203.0.113.66 or 2001:db8::1 (its /64), or a prefix of 32 bits (IPv4), 64 or 128 bits (IPv6)"
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return event.SourcePrefix(addr, 64), nil
	}
	p, err := config.ParsePrefix(text)
	if err != nil || !p.IsSingleIP() && (p.Addr().Is4() || p.Bits() != 64) {
		return netip.Prefix{}, badRequest("source: found "+strconv.Quote(text), hint)
	}
	return p, nil
}
