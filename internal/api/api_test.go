package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a server in memory.
type backend struct {
	personas  []api.Persona
	rules     []api.Rule
	preview   api.RulePreview
	reload    error
	redirects []event.Redirect
	allowed   []api.AllowEntry
	asked     any // what the last call was given
	paused    bool
	events    chan api.Watched
	err       error
}

func (b *backend) Hosts(context.Context) ([]api.Host, error) {
	return []api.Host{{Name: "web", Connected: true}}, b.err
}
func (b *backend) Nodes(context.Context) ([]api.Node, error) { return []api.Node{}, b.err }

func (b *backend) Enroll(_ context.Context, role, name string, ttl time.Duration) (api.Enrolment, error) {
	return api.Enrolment{Role: role, Name: name, Token: "kk1_" + ttl.String()}, b.err
}

func (b *backend) IssueSyslog(_ context.Context, name, csr string) (api.SyslogCertificate, error) {
	b.asked = name + " " + csr
	return api.SyslogCertificate{Certificate: "of " + name}, b.err
}

func (b *backend) RemoveHost(_ context.Context, name string) error {
	if name != "web" {
		return fs.ErrNotExist
	}
	return nil
}
func (b *backend) RemoveNode(context.Context, string) error { return fs.ErrNotExist }

func (b *backend) Redirects(_ context.Context, f api.Filter) ([]event.Redirect, error) {
	b.asked = f
	return b.redirects, b.err
}

func (b *backend) Redirect(_ context.Context, id string) (event.Redirect, error) {
	for _, r := range b.redirects {
		if r.ID == id {
			return r, nil
		}
	}
	return event.Redirect{}, fs.ErrNotExist
}

func (b *backend) Offences(context.Context, api.Filter) ([]event.Offence, error) {
	return []event.Offence{{ID: "o1", Proof: []event.Proof{{Line: "x"}}}}, b.err
}

func (b *backend) Offence(context.Context, string) (event.Offence, error) {
	return event.Offence{ID: "o1", Proof: []event.Proof{{Line: "x", Event: event.Event{Time: time.Date(2026, 11, 22, 18, 0, 0, 0, time.FixedZone("", 3600))}}}}, b.err
}

func (b *backend) Sessions(context.Context, api.Filter) ([]event.Session, error) { return nil, b.err }

func (b *backend) Session(context.Context, string) (event.Session, error) {
	return event.Session{}, fs.ErrNotExist
}

func (b *backend) Attackers(_ context.Context, f api.Filter) ([]api.Attacker, error) {
	b.asked = f
	return []api.Attacker{{Source: netip.MustParsePrefix("2001:db8:1:66::/64"), Live: 1}}, b.err
}

func (b *backend) Pots(context.Context, api.Filter) ([]event.Pot, error) {
	return []event.Pot{{ID: "0123456789abcdef", Name: "pot1"}}, b.err
}

func (b *backend) Status(context.Context) (api.Status, error) {
	return api.Status{Version: "v1", Paused: b.paused}, b.err
}

func (b *backend) Evidence(_ context.Context, id string) ([]event.Evidence, error) {
	if id == "nothing" {
		return nil, fs.ErrNotExist
	}
	return []event.Evidence{{Session: id, Number: 1, Kind: event.EvidenceInput, Input: "\x1b", At: time.Unix(1, 0)}}, b.err
}

func (b *backend) Content(_ context.Context, _, sum string, w io.Writer) error {
	if sum == "missing" {
		return fs.ErrNotExist
	}
	_, err := io.WriteString(w, "content of "+sum)
	if sum == "cut" {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (b *backend) Tail() (<-chan api.Watched, func()) { return b.events, func() {} }

func (b *backend) AddRedirects(_ context.Context, a api.AddRedirect) ([]event.Redirect, error) {
	b.asked = a
	if a.Host == "unknown" {
		return nil, api.NotFound("there is no host \"unknown\"", "kokkuri hosts ls lists them")
	}
	return []event.Redirect{{ID: "m1", Source: a.Source}}, b.err
}

func (b *backend) Release(_ context.Context, s api.Selector) ([]event.Redirect, error) {
	b.asked = s
	return b.redirects, b.err
}

func (b *backend) Pause(context.Context) ([]event.Redirect, error) {
	b.paused = true
	return nil, b.err
}

func (b *backend) Resume(context.Context) error {
	b.paused = false
	return b.err
}

func (b *backend) AllowList(context.Context) ([]api.AllowEntry, error) { return b.allowed, b.err }

func (b *backend) AllowAdd(_ context.Context, a api.Allowed) ([]event.Redirect, error) {
	b.allowed = append(b.allowed, api.AllowEntry{Allowed: a})
	return nil, b.err
}

func (b *backend) AllowRemove(_ context.Context, p netip.Prefix) error {
	b.asked = p
	return fs.ErrNotExist
}

func start(t *testing.T, b *backend) *api.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "server.sock")
	s, err := api.Listen(t.Context(), socket, b, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return api.NewClient(socket)
}

func TestClientAndServer(t *testing.T) {
	t.Parallel()
	b := &backend{redirects: []event.Redirect{{ID: "r1", State: event.Active}}}
	c, ctx := start(t, b), t.Context()

	hosts, err := api.List[api.Host](ctx, c, api.PathHosts, api.Filter{})
	require.NoError(t, err)
	require.Equal(t, "web", hosts[0].Name)
	host, err := api.Show[api.Host](ctx, c, api.PathHosts, "web")
	require.NoError(t, err)
	require.True(t, host.Connected)

	filter := api.Filter{Limit: 3, Host: "web", Node: "node1", Source: netip.MustParsePrefix("203.0.113.0/24"), Live: true}
	redirects, err := api.List[event.Redirect](ctx, c, api.PathRedirects, filter)
	require.NoError(t, err)
	require.Len(t, redirects, 1)
	require.Equal(t, filter, b.asked)
	redirect, err := api.Show[event.Redirect](ctx, c, api.PathRedirects, "r1")
	require.NoError(t, err)
	require.Equal(t, event.Active, redirect.State)

	added, err := c.AddRedirects(ctx, api.AddRedirect{Source: netip.MustParsePrefix("2001:db8::/64"), Service: event.SSH, Host: "web", TTL: time.Hour, Egress: event.EgressRecord})
	require.NoError(t, err)
	require.Equal(t, "m1", added[0].ID)
	require.Equal(t, api.AddRedirect{Source: netip.MustParsePrefix("2001:db8::/64"), Service: event.SSH, Host: "web", TTL: time.Hour, Egress: event.EgressRecord}, b.asked)

	_, err = c.Release(ctx, "2001:db8:1:66::/64")
	require.NoError(t, err)
	require.Equal(t, api.Selector{Source: netip.MustParsePrefix("2001:db8:1:66::/64")}, b.asked)
	_, err = c.Release(ctx, "r1")
	require.NoError(t, err)
	require.Equal(t, api.Selector{ID: "r1"}, b.asked)

	_, err = c.Pause(ctx)
	require.NoError(t, err)
	status, err := c.Status(ctx)
	require.NoError(t, err)
	require.True(t, status.Paused)
	require.NoError(t, c.Resume(ctx))
	require.False(t, b.paused)

	_, err = c.AllowAdd(ctx, netip.MustParsePrefix("192.0.2.0/24"), "office")
	require.NoError(t, err)
	allowed, err := api.List[api.AllowEntry](ctx, c, api.PathAllow, api.Filter{})
	require.NoError(t, err)
	require.Equal(t, "office", allowed[0].Note)
	err = c.AllowRemove(ctx, netip.MustParsePrefix("198.51.100.0/24"))
	require.EqualError(t, err, "198.51.100.0/24 is not on the allow-list\nkokkuri allow ls lists it")

	token, err := c.Enroll(ctx, api.RoleNode, "node1", 0)
	require.NoError(t, err)
	require.Equal(t, api.Enrolment{Role: "node", Name: "node1", Token: "kk1_1h0m0s"}, token)
	require.NoError(t, c.Remove(ctx, api.PathHosts, "web"))
	err = c.Remove(ctx, api.PathNodes, "node9")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "there is no node \"node9\"\nkokkuri nodes ls lists them")
}

func TestNamesOfOneRecord(t *testing.T) {
	t.Parallel()
	c, ctx := start(t, &backend{}), t.Context()
	for _, id := range []string{"pot1", "0123456789ab", "0123456789abcdef"} {
		pot, err := api.Show[event.Pot](ctx, c, api.PathPots, id)
		require.NoError(t, err, id)
		require.Equal(t, "pot1", pot.Name)
	}
	for _, id := range []string{"2001:db8:1:66::66", "2001:db8:1:66::/64"} {
		a, err := api.Show[api.Attacker](ctx, c, api.PathAttackers, id)
		require.NoError(t, err, id)
		require.Equal(t, 1, a.Live)
	}
	_, err := api.Show[event.Session](ctx, c, api.PathSessions, "x/../y")
	require.EqualError(t, err, "there is no session \"x/../y\"\nkokkuri sessions ls lists them")
}

func TestEmptyListsAreArraysAndTimesAreUTC(t *testing.T) {
	t.Parallel()
	h := api.NewHandler(&backend{}, slog.New(slog.DiscardHandler))
	for path, want := range map[string]string{
		"/v1/redirects": "[]\n", "/v1/sessions": "[]\n", "/v1/allow": "[]\n", "/v1/nodes": "[]\n",
	} {
		require.Equal(t, want, get(t, h, path), path)
	}
	require.Contains(t, get(t, h, "/v1/offences/o1"), `"time":"2026-11-22T17:00:00Z"`)
	require.NotContains(t, get(t, h, "/v1/offences"), "proof")
}

func get(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	require.Equal(t, http.StatusOK, w.Code, path)
	return w.Body.String()
}

func TestWhatIsAskedIsChecked(t *testing.T) {
	t.Parallel()
	h := api.NewHandler(&backend{}, slog.New(slog.DiscardHandler))
	for _, test := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"GET", "/v1/redirects?limit=x", "", 400, `limit: found "x"`},
		{"GET", "/v1/redirects?limit=-1", "", 400, `limit: found "-1"`},
		{"GET", "/v1/redirects?source=web", "", 400, `source: found "web"`},
		{"GET", "/v1/redirects?live=perhaps", "", 400, `live: found "perhaps"`},
		{"GET", "/v1/redirects?hots=web", "", 400, `unknown parameter "hots"`},
		{"GET", "/v2/redirects", "", 404, "no such thing as GET /v2/redirects"},
		{"PUT", "/v1/redirects", "", 404, "no such thing as PUT /v1/redirects"},
		{"POST", "/v1/redirects", "{", 400, "the request is no JSON that is understood: unexpected EOF"},
		{"POST", "/v1/redirects", `{"sourse":"x"}`, 400, `the request is no JSON that is understood: json: unknown field "sourse"`},
		{"POST", "/v1/redirects", `{"source":"203.0.113.0/24","service":"ssh","host":"web"}`, 400, `source: found "203.0.113.0/24"`},
		{"POST", "/v1/redirects", `{"source":"2001:db8::/48","service":"ssh","host":"web"}`, 400, `source: found "2001:db8::/48"`},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"","host":"web"}`, 400, `service: found ""`},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"ssh"}`, 400, "which host?"},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"ssh","host":"web","all_hosts":true}`, 400, "which host?"},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"ssh","host":"web","ttl":"1"}`, 400, `ttl: found "1"`},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"ssh","host":"web","ttl":"9999d"}`, 400, `ttl: found "9999d"`},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"ssh","host":"web","egress":"all"}`, 400, `egress: found "all"`},
		{"POST", "/v1/redirects", `{"source":"203.0.113.66","service":"ssh","host":"unknown"}`, 404, `there is no host "unknown"`},
		{"DELETE", "/v1/redirects/r1", "", 404, `nothing to release: there is no live redirect "r1"`},
		{"POST", "/v1/enroll", `{"name":"Web"}`, 400, `name: found "Web"`},
		{"POST", "/v1/enroll", `{"name":"web","role":"king"}`, 400, `role: found "king"`},
		{"POST", "/v1/enroll", `{"name":"web","ttl":"30d"}`, 400, `ttl: found "30d"`},
		{"POST", "/v1/allow", `{"prefix":"192.0.2.1/24"}`, 400, `prefix: found "192.0.2.1/24"`},
		{"POST", "/v1/allow", `{"prefix":"192.0.2.1","note":"` + strings.Repeat("x", 201) + `"}`, 400, "note: it is too long"},
		{"POST", "/v1/allow", `{"note":"` + strings.Repeat("x", 100_000) + `"}`, 400, "the request is no JSON that is understood: http: request body too large"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), test.method, test.path, strings.NewReader(test.body)))
		var told api.Error
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &told), "%s %s: %s", test.method, test.path, w.Body)
		require.Equal(t, test.status, w.Code, "%s %s %s: %s", test.method, test.path, test.body, told.Message)
		require.Equal(t, test.message, told.Message)
	}
}

func TestAFailingBackendIsToldAndLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := api.NewHandler(&backend{err: errors.New("the disk is full")}, slog.New(slog.NewTextHandler(&log, nil)))
	for _, path := range []string{"/v1/hosts", "/v1/hosts/web", "/v1/redirects", "/v1/offences", "/v1/status", "/v1/attackers/203.0.113.66", "/v1/allow"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		require.Equal(t, http.StatusInternalServerError, w.Code, path)
		require.JSONEq(t, `{"error":"the disk is full","hint":"see the server's log"}`, w.Body.String())
	}
	require.Contains(t, log.String(), "the disk is full")
}

func TestTailEndsWithTheServer(t *testing.T) {
	t.Parallel()
	b := &backend{events: make(chan api.Watched)}
	socket := filepath.Join(t.TempDir(), "server.sock")
	s, err := api.Listen(t.Context(), socket, b, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()

	var got []api.Watched
	tailed := make(chan error, 1)
	seen := make(chan struct{}, 8)
	go func() {
		tailed <- api.NewClient(socket).Tail(t.Context(), func(e api.Watched) error {
			got = append(got, e)
			seen <- struct{}{}
			return nil
		})
	}()
	for _, account := range []string{"root", "admin\x1b"} {
		b.events <- api.Watched{Event: &event.Event{Account: account}}
		<-seen
	}
	stop()
	require.NoError(t, <-ran)
	require.NoError(t, <-tailed)
	require.Equal(t, "admin\x1b", got[1].Event.Account)
}

func TestTailEndsWhenTheReaderFails(t *testing.T) {
	t.Parallel()
	b := &backend{events: make(chan api.Watched, 1)}
	c := start(t, b)
	b.events <- api.Watched{}
	require.ErrorIs(t, c.Tail(t.Context(), func(api.Watched) error { return io.ErrClosedPipe }), io.ErrClosedPipe)
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "server.sock")
	_, err := api.NewClient(socket).Status(t.Context())
	require.EqualError(t, err, "the server is not running here (no "+socket+")\n"+
		"start it with `kokkuri server` or `kokkuri up`, or say with --socket where it answers")

	b := &backend{}
	s, err := api.Listen(t.Context(), socket, b, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, err = api.Listen(t.Context(), socket, b, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "a server answers on "+socket+" already")

	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, s.Run(ctx))
}

func TestASocketThatWasLeftIsReplaced(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "server.sock")
	leave(t, socket)
	_, err := api.NewClient(socket).Status(t.Context())
	require.ErrorContains(t, err, "the server is not running any more")
	s, err := api.Listen(t.Context(), socket, &backend{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, s.Run(ctx))
}

func (b *backend) Rules(context.Context) ([]api.Rule, error) { return b.rules, b.err }

func (b *backend) SetRule(_ context.Context, name string, s api.SetRule) (api.RuleSet, error) {
	for i := range b.rules {
		if r := &b.rules[i]; r.Name == name {
			if r.Disabled, r.Action = s.Disabled, r.FileAction; s.Redirect {
				r.Action = event.ActionRedirect
			}
			return api.RuleSet{Rule: *r, Released: []event.Redirect{}}, nil
		}
	}
	return api.RuleSet{}, fs.ErrNotExist
}

func (b *backend) PreviewRule(_ context.Context, name string) (api.RulePreview, error) {
	if b.preview.Rule != name {
		return api.RulePreview{}, fs.ErrNotExist
	}
	return b.preview, nil
}

func (b *backend) ReloadRules(context.Context) (api.Reloaded, error) {
	return api.Reloaded{Rules: len(b.rules)}, b.reload
}

func (b *backend) Personas(context.Context) ([]api.Persona, error) { return b.personas, nil }

func (b *backend) Persona(_ context.Context, name string, learnt bool) (api.Persona, error) {
	for _, p := range b.personas {
		if p.Name == name && learnt == (p.Origin == event.PersonaLearnt) {
			return p, nil
		}
	}
	return api.Persona{}, fs.ErrNotExist
}

func (b *backend) AssignPersona(_ context.Context, host, persona string) (api.Persona, error) {
	return api.Persona{Name: persona, Hosts: []string{host}, PersonaOf: event.PersonaOf{Origin: event.PersonaWritten, File: "/p/" + persona + ".yaml"}}, nil
}
