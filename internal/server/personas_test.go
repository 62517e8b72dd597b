package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

func (s *site) learn(p event.Persona) {
	s.t.Helper()
	_, err := bus.Request[event.Persona, struct{}](s.t.Context(), s.host, bus.PersonaSubject("web"), p)
	require.NoError(s.t, err)
}

func (s *site) personaAt(node *bus.Conn, host string) event.PersonaOf {
	s.t.Helper()
	p, err := bus.Request[event.PersonaRequest, event.PersonaOf](s.t.Context(), node, bus.PersonasSubject("node2"), event.PersonaRequest{Host: host})
	require.NoError(s.t, err)
	return p
}

func TestPersonasReachNodes(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, func(c *config.Server) { c.Personas = dir })
	node := s.dial(pki.RoleNode, "node2")
	defer node.Close()
	assert.Empty(t, s.personaAt(node, "web").Origin, "none is known")
	_, err := bus.Request[event.PersonaRequest, event.PersonaOf](t.Context(), node, bus.PersonasSubject("node2"), event.PersonaRequest{Host: "../web"})
	require.Error(t, err)

	s.learn(event.Persona{Name: "db", Hostname: "www1", TimeZone: "../../etc/shadow", Kernel: event.Kernel{Name: "Linux"}})
	p := s.personaAt(node, "web")
	assert.Equal(t, event.PersonaLearnt, p.Origin)
	assert.Equal(t, event.Persona{Name: "web", Hostname: "www1", Kernel: event.Kernel{Name: "Linux"}}, p.Persona, "a host speaks for itself, and of what can be")
	assert.Empty(t, s.personaAt(node, "db").Origin)

	// By hand: a file that is named like the host, then one that is assigned. They hold without a restart.
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600))
	}
	write("web", "hostname: byhand\n")
	assert.Equal(t, "byhand", s.personaAt(node, "web").Persona.Hostname)
	write("shop", "hostname: shop\n")
	out, err := s.api.AssignPersona(t.Context(), "web", "shop")
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, out.Hosts)
	p = s.personaAt(node, "web")
	assert.Equal(t, []any{"shop", event.PersonaWritten, filepath.Join(dir, "shop.yaml")}, []any{p.Persona.Hostname, p.Origin, p.File})

	_, err = s.api.AssignPersona(t.Context(), "web", "nosuch")
	require.ErrorContains(t, err, "there is no such file")
	_, err = s.api.AssignPersona(t.Context(), "nohost", "shop")
	require.ErrorContains(t, err, "there is no host nohost")

	list, err := api.List[api.Persona](t.Context(), s.api, api.PathPersonas, api.Filter{})
	require.NoError(t, err)
	var names []string
	for _, p := range list {
		names = append(names, p.Name+" "+string(p.Origin))
	}
	assert.Equal(t, []string{"shop written", "web written", "web learnt"}, names)
	learnt, err := s.api.Persona(t.Context(), "web", true)
	require.NoError(t, err)
	assert.Equal(t, "www1", learnt.Persona.Hostname)

	// One that is damaged is not used, and that is said.
	write("shop", "hostnam: shop\n")
	assert.Equal(t, "www1", s.personaAt(node, "web").Persona.Hostname)
	status, err := s.api.Status(t.Context())
	require.NoError(t, err)
	var said string
	for _, f := range status.Findings {
		if f.Subject == "persona shop" {
			said = f.Text
		}
	}
	assert.Contains(t, said, "shop.yaml:1: hostnam: unknown key; did you mean hostname?")
	_, err = s.api.AssignPersona(t.Context(), "web", "")
	require.NoError(t, err)
	assert.Equal(t, "byhand", s.personaAt(node, "web").Persona.Hostname)

	// All of it is there after a restart.
	node.Close()
	s.stop()
	s.start()
	node = s.dial(pki.RoleNode, "node2")
	defer node.Close()
	require.NoError(t, os.Remove(filepath.Join(dir, "web.yaml")))
	assert.Equal(t, "www1", s.personaAt(node, "web").Persona.Hostname)
}

func TestAPersonaThatTheConfigurationNamesMustBeThere(t *testing.T) {
	dir := t.TempDir()
	c := config.Server{Common: config.Common{StateDir: dir, Socket: filepath.Join(dir, "s")}}
	c.Bus.Listen, c.Bus.LogBudget, c.KeepDays = netip.MustParseAddrPort("127.0.0.1:0"), 64<<20, 90
	c.Personas, c.Hosts = dir, []config.HostInfo{{Name: "web", Persona: "shop"}}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte("motd: hi\nlocale: nowhere!\n"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := Run(ctx, Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "persona of host web: "+filepath.Join(dir, "shop.yaml")+`:2: locale: found "nowhere!"; allowed: a locale`)
}

// Host keys pass through the server; it stores nothing of them, and gives them to who holds the host's attackers only.
func TestHostKeysPassThrough(t *testing.T) {
	s := newSite(t)
	stop, err := bus.Serve(s.host, bus.KeysSubject("web"), func(_ context.Context, _ string, r event.PersonaRequest) (event.HostKeys, error) {
		if r.Host != "web" {
			return event.HostKeys{}, errors.New("who?")
		}
		return event.HostKeys{Keys: []event.HostKey{{Type: "ed25519", Private: []byte("SECRETKEY-0123456789")}}}, nil
	})
	require.NoError(t, err)
	defer stop()
	ask := func(node *bus.Conn, name string) (event.HostKeys, error) {
		return bus.Request[event.PersonaRequest, event.HostKeys](t.Context(), node, bus.NodeKeysSubject(name), event.PersonaRequest{Host: "web"})
	}
	node, other := s.dial(pki.RoleNode, "node1"), s.dial(pki.RoleNode, "node2")
	defer node.Close()
	defer other.Close()
	_, err = ask(node, "node1")
	require.ErrorContains(t, err, "no redirect of that host")
	s.fail("203.0.113.66", 6)
	require.Eventually(t, func() bool {
		keys, err := ask(node, "node1")
		return err == nil && len(keys.Keys) == 1 && string(keys.Keys[0].Private) == "SECRETKEY-0123456789"
	}, time.Minute, 20*time.Millisecond)
	_, err = ask(other, "node2")
	require.ErrorContains(t, err, "no redirect of that host")

	s.stop()
	require.NoError(t, filepath.WalkDir(s.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.NotContains(t, string(data), "SECRETKEY-0123456789", path)
			assert.NotContains(t, string(data), "U0VDUkVUS0VZ", path) // base64
		}
		return err
	}))
	s.start()
}
