package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// api asks the lab's server over its socket.
type api struct {
	http *http.Client
}

func newAPI(socket string) *api {
	var d net.Dialer
	return &api{http: &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, "unix", socket)
			},
		},
	}}
}

func (a *api) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://kokkuri"+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	response, err := a.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(data))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// HostView is a host as the server shows it.
type HostView struct {
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
}

// Offence is an offence as the server shows it, with the times of its legs.
type Offence struct {
	event.Offence

	EventAt time.Time `json:"event_at"` // the firing line was parsed
	LeaseAt time.Time `json:"lease_at"` // a node granted the lease
}

// Redirects lists all redirects that the server knows.
func (l *Lab) Redirects(ctx context.Context) (list []event.Redirect, err error) {
	return list, l.api.call(ctx, http.MethodGet, "/v1/redirects", nil, &list)
}

// Offences lists all offences, without their proof.
func (l *Lab) Offences(ctx context.Context) (list []Offence, err error) {
	return list, l.api.call(ctx, http.MethodGet, "/v1/offences", nil, &list)
}

// Sessions lists all sessions.
func (l *Lab) Sessions(ctx context.Context) (list []event.Session, err error) {
	return list, l.api.call(ctx, http.MethodGet, "/v1/sessions", nil, &list)
}

// Pots lists all pots.
func (l *Lab) Pots(ctx context.Context) (list []event.Pot, err error) {
	return list, l.api.call(ctx, http.MethodGet, "/v1/pots", nil, &list)
}

// Hosts lists the enrolled hosts.
func (l *Lab) Hosts(ctx context.Context) (list []HostView, err error) {
	return list, l.api.call(ctx, http.MethodGet, "/v1/hosts", nil, &list)
}

// Nodes lists the enrolled nodes.
func (l *Lab) Nodes(ctx context.Context) (list []HostView, err error) {
	return list, l.api.call(ctx, http.MethodGet, "/v1/nodes", nil, &list)
}

// token gets a one-time enrolment token for a host or node.
func (l *Lab) token(ctx context.Context, role, name string) (string, error) {
	var out struct {
		Token string `json:"token"`
	}
	in := map[string]any{"role": role, "name": name}
	return out.Token, l.api.call(ctx, http.MethodPost, "/v1/enroll", in, &out)
}

// Release ends the live redirects of a source.
func (l *Lab) Release(ctx context.Context, source netip.Addr) error {
	return l.api.call(ctx, http.MethodDelete, "/v1/redirects/"+url.PathEscape(Prefix(source).String()), nil, nil)
}

// Prefix is what the server knows an attacker at a by: its address, or its /64.
func Prefix(a netip.Addr) netip.Prefix { return event.SourcePrefix(a, 64) }

// ErrNoRedirect says that a source is not redirected.
var ErrNoRedirect = errors.New("no redirect")

// RedirectOf finds the newest redirect of a source on web in any state.
func (l *Lab) RedirectOf(ctx context.Context, source netip.Addr) (event.Redirect, error) {
	list, err := l.Redirects(ctx)
	if err != nil {
		return event.Redirect{}, err
	}
	var newest event.Redirect
	for _, r := range list {
		if r.Host == HostName && r.Source == Prefix(source) && r.CreatedAt.After(newest.CreatedAt) {
			newest = r
		}
	}
	if newest.ID == "" {
		return newest, fmt.Errorf("%w of %s", ErrNoRedirect, source)
	}
	return newest, nil
}

// WaitRedirect waits until the newest redirect of a source is in one of the states.
func (l *Lab) WaitRedirect(ctx context.Context, source netip.Addr, within time.Duration, states ...event.State) (r event.Redirect, err error) {
	waitErr := wait(ctx, within, func() (bool, error) {
		r, err = l.RedirectOf(ctx, source)
		if err != nil && !errors.Is(err, ErrNoRedirect) {
			return false, err
		}
		for _, s := range states {
			if err == nil && r.State == s {
				return true, nil
			}
		}
		return false, nil
	})
	if errors.Is(waitErr, errDeadline) {
		return r, fmt.Errorf("redirect of %s is not %v after %s but %q (%s)", source, states, within, r.State, r.Reason)
	}
	return r, waitErr
}

// SessionsOf lists the sessions of an attacker.
func (l *Lab) SessionsOf(ctx context.Context, source netip.Addr) ([]event.Session, error) {
	all, err := l.Sessions(ctx)
	var own []event.Session
	for _, s := range all {
		if s.Attacker == Prefix(source) {
			own = append(own, s)
		}
	}
	return own, err
}

// OffencesOf lists the offences of a source on web.
func (l *Lab) OffencesOf(ctx context.Context, source netip.Addr) ([]Offence, error) {
	all, err := l.Offences(ctx)
	var own []Offence
	for _, o := range all {
		if o.Source == Prefix(source) && o.Host == HostName {
			own = append(own, o)
		}
	}
	return own, err
}
