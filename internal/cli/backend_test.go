package cli_test

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a server in memory.
type backend struct {
	personas  []api.Persona
	rules     []api.Rule
	preview   api.RulePreview
	reload    error
	hosts     []api.Host
	nodes     []api.Node
	redirects []event.Redirect
	offences  []event.Offence
	sessions  []event.Session
	attackers []api.Attacker
	pots      []event.Pot
	allowed   []api.AllowEntry
	events    chan api.Watched
	status    api.Status
	left      []event.Evidence
	content   map[string][]byte
	filter    api.Filter
	added     api.AddRedirect
	selected  api.Selector
	enrolled  string
}

func (b *backend) Hosts(context.Context) ([]api.Host, error) { return b.hosts, nil }
func (b *backend) Nodes(context.Context) ([]api.Node, error) { return b.nodes, nil }

func (b *backend) Enroll(_ context.Context, role, name string, ttl time.Duration) (api.Enrolment, error) {
	b.enrolled = role + " " + name + " " + ttl.String()
	return api.Enrolment{Role: role, Name: name, Token: "kk1_token", ExpiresAt: time.Now().Add(ttl)}, nil
}

func (b *backend) IssueSyslog(_ context.Context, name, csr string) (api.SyslogCertificate, error) {
	b.enrolled = "syslog " + name
	return api.SyslogCertificate{Certificate: csr, Authority: "the authority", ExpiresAt: time.Date(2027, 11, 25, 0, 0, 0, 0, time.UTC)}, nil
}

func (b *backend) RemoveHost(context.Context, string) error { return nil }
func (b *backend) RemoveNode(context.Context, string) error { return fs.ErrNotExist }

func (b *backend) Redirects(_ context.Context, f api.Filter) ([]event.Redirect, error) {
	b.filter = f
	if f.Limit > 0 && len(b.redirects) > f.Limit {
		return b.redirects[:f.Limit], nil
	}
	return b.redirects, nil
}

func (b *backend) Redirect(context.Context, string) (event.Redirect, error) {
	return b.redirects[0], nil
}

func (b *backend) Offences(context.Context, api.Filter) ([]event.Offence, error) {
	return b.offences, nil
}

func (b *backend) Offence(_ context.Context, id string) (event.Offence, error) {
	if id != "o1" {
		return event.Offence{}, fs.ErrNotExist
	}
	return b.offences[0], nil
}

func (b *backend) Sessions(context.Context, api.Filter) ([]event.Session, error) {
	return b.sessions, nil
}

func (b *backend) Session(context.Context, string) (event.Session, error) { return b.sessions[0], nil }

func (b *backend) Attackers(context.Context, api.Filter) ([]api.Attacker, error) {
	return b.attackers, nil
}
func (b *backend) Pots(context.Context, api.Filter) ([]event.Pot, error) { return b.pots, nil }
func (b *backend) Status(context.Context) (api.Status, error)            { return b.status, nil }

func (b *backend) Evidence(context.Context, string) ([]event.Evidence, error) { return b.left, nil }

func (b *backend) Content(_ context.Context, _, sum string, w io.Writer) error {
	_, err := w.Write(b.content[sum])
	return err
}

func (b *backend) Tail() (<-chan api.Watched, func()) { return b.events, func() {} }

func (b *backend) AddRedirects(_ context.Context, a api.AddRedirect) ([]event.Redirect, error) {
	b.added = a
	if a.Host == "closed" {
		return nil, api.Refused("refused: the allow-list covers it", "kokkuri allow ls lists it")
	}
	return b.redirects, nil
}

func (b *backend) Release(_ context.Context, s api.Selector) ([]event.Redirect, error) {
	b.selected = s
	return b.redirects, nil
}
func (b *backend) Pause(context.Context) ([]event.Redirect, error)     { return b.redirects, nil }
func (b *backend) Resume(context.Context) error                        { return nil }
func (b *backend) AllowList(context.Context) ([]api.AllowEntry, error) { return b.allowed, nil }
func (b *backend) AllowRemove(context.Context, netip.Prefix) error     { return nil }
func (b *backend) AllowAdd(context.Context, api.Allowed) ([]event.Redirect, error) {
	return b.redirects, nil
}

// world is a server and what is needed to ask it.
type world struct {
	b      *backend
	socket string
	colour bool
	env    []string
	stdin  string
	roles  cli.Roles
}

func now() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) }

func newWorld(t *testing.T, b *backend) *world {
	t.Helper()
	w := &world{b: b, socket: filepath.Join(t.TempDir(), "server.sock")}
	s, err := api.Listen(t.Context(), w.socket, b, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return w
}

// run runs a command line and returns what it printed and its exit code.
func (w *world) run(ctx context.Context, line string) (stdout, stderr string, code int) {
	var out, errs strings.Builder
	env := cli.Env{
		Args: strings.Fields(line), Environ: append([]string{"KOKKURI_SOCKET=" + w.socket}, w.env...), Stdin: strings.NewReader(w.stdin),
		Stdout: &out, Stderr: &errs, Colour: w.colour, Version: "v1.2.3", Now: now,
	}
	code = cli.Kokkuri(ctx, env, w.roles)
	return out.String(), errs.String(), code
}

// ok runs a command line that must be done and returns what it printed.
func (w *world) ok(t *testing.T, line string) string {
	t.Helper()
	stdout, stderr, code := w.run(t.Context(), line)
	require.Equal(t, cli.ExitDone, code, "kokkuri %s: %s", line, stderr)
	return stdout
}

func (b *backend) Rules(context.Context) ([]api.Rule, error) { return b.rules, nil }

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
