package persona_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/persona"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers for hosts.
type server struct {
	mu    sync.Mutex
	of    map[string]event.PersonaOf
	down  bool
	asked int
}

func (s *server) ask(ctx context.Context, host string) (event.PersonaOf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.down {
		<-ctx.Done()
		return event.PersonaOf{}, errors.New("no answer")
	}
	return s.of[host], nil
}

func (s *server) put(host, hostname string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[host] = event.PersonaOf{Host: host, Origin: event.PersonaLearnt, Persona: event.Persona{Name: host, Hostname: hostname}}
}

func key(attacker string) event.PotKey {
	return event.PotKey{Attacker: netip.MustParsePrefix(attacker), Host: "web"}
}

func open(t *testing.T, dir string, s *server) *persona.Book {
	t.Helper()
	b, err := persona.Open(persona.Options{Dir: dir, Ask: s.ask})
	require.NoError(t, err)
	return b
}

func TestAPotStaysWhatItWasAtFirst(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &server{of: map[string]event.PersonaOf{}}
		s.put("web", "old")
		b := open(t, dir, s)
		p, err := b.Pin(t.Context(), key("203.0.113.66/32"))
		require.NoError(t, err)
		assert.Equal(t, "old", p.Persona.Hostname)

		<-time.After(time.Minute)
		s.put("web", "new")
		p, err = b.Pin(t.Context(), key("203.0.113.66/32"))
		require.NoError(t, err)
		assert.Equal(t, "old", p.Persona.Hostname)
		p, err = b.Pin(t.Context(), key("203.0.113.67/32"))
		require.NoError(t, err)
		assert.Equal(t, "new", p.Persona.Hostname)

		s.down = true
		again := open(t, dir, s) // the node started anew, without a server
		assert.Equal(t, "old", again.Of(key("203.0.113.66/32")).Persona.Hostname)
		assert.Equal(t, "new", again.Of(key("203.0.113.99/32")).Persona.Hostname, "what is known of the host")
		p, err = again.Pin(t.Context(), key("203.0.113.99/32"))
		require.NoError(t, err)
		assert.Equal(t, "new", p.Persona.Hostname)

		require.NoError(t, again.Unpin(key("203.0.113.66/32")))
		assert.Equal(t, "new", again.Of(key("203.0.113.66/32")).Persona.Hostname)
		require.NoError(t, again.Unpin(key("203.0.113.66/32")), "again")
	})
}

func TestWithoutAServerAPotIsWhatItsImageIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{down: true}
		b := open(t, t.TempDir(), s)
		start := time.Now()
		p, err := b.Pin(t.Context(), key("203.0.113.66/32"))
		require.NoError(t, err)
		assert.Empty(t, p.Origin)
		assert.LessOrEqual(t, time.Since(start), 2*time.Second, "an attacker waits for the pot")
	})
}

func TestWhatIsWantedIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{of: map[string]event.PersonaOf{}}
		s.put("web", "web")
		learnt := make(chan event.PersonaOf, 9)
		b, err := persona.Open(persona.Options{Dir: t.TempDir(), Ask: s.ask, Learnt: func(_ context.Context, p event.PersonaOf) { learnt <- p }})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		for range 1000 {
			b.Want("web")
		}
		synctest.Wait()
		assert.Equal(t, "web", (<-learnt).Host)
		for range 1000 {
			b.Want("web")
		}
		synctest.Wait()
		assert.Equal(t, 1, s.asked)
		assert.Empty(t, learnt)
		assert.Equal(t, "web", b.Of(key("203.0.113.66/32")).Persona.Hostname)
		cancel()
		<-done
	})
}

// What comes over the bus is of a host that may be compromised.
func TestAHostilePersonaIsCleaned(t *testing.T) {
	s := &server{of: map[string]event.PersonaOf{"web": {Origin: event.PersonaLearnt, Persona: event.Persona{Name: "web", Hostname: "a\nb", TimeZone: "../../x"}}}}
	b := open(t, t.TempDir(), s)
	p, err := b.Pin(t.Context(), key("203.0.113.66/32"))
	require.NoError(t, err)
	assert.Empty(t, p.Persona.Hostname)
	assert.Empty(t, p.Persona.TimeZone)
}

func TestDamagedFilesAreForgotten(t *testing.T) {
	dir := t.TempDir()
	s := &server{of: map[string]event.PersonaOf{}}
	s.put("web", "web")
	b := open(t, dir, s)
	_, err := b.Pin(t.Context(), key("203.0.113.66/32"))
	require.NoError(t, err)
	require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			require.Zero(t, info.Mode().Perm()&0o077)
			return os.Truncate(path, 5)
		}
		return err
	}))
	again := open(t, dir, s)
	assert.Empty(t, again.Of(key("203.0.113.66/32")).Origin)
	p, err := again.Pin(t.Context(), key("203.0.113.66/32"))
	require.NoError(t, err)
	assert.Equal(t, "web", p.Persona.Hostname)
}

func TestSuites(t *testing.T) {
	for _, c := range []struct {
		os    event.OSRelease
		suite string
		exact bool
	}{
		{event.OSRelease{}, persona.Bookworm, true},
		{event.OSRelease{ID: "debian", VersionID: "12"}, persona.Bookworm, true},
		{event.OSRelease{ID: "debian", VersionID: "11", VersionCodename: "bullseye"}, persona.Bullseye, true},
		{event.OSRelease{ID: "debian", VersionID: "9"}, persona.Bullseye, false},
		{event.OSRelease{ID: "debian", VersionID: "13"}, persona.Bookworm, false},
		{event.OSRelease{ID: "ubuntu", VersionID: "20.04"}, persona.Bullseye, false},
		{event.OSRelease{ID: "ubuntu", VersionID: "24.04"}, persona.Bookworm, false},
		{event.OSRelease{ID: "fedora", VersionID: "40"}, persona.Bookworm, false},
		{event.OSRelease{ID: "debian", VersionID: "x"}, persona.Bookworm, false},
	} {
		suite, exact := persona.SuiteOf(c.os)
		assert.Equal(t, []any{c.suite, c.exact}, []any{suite, exact}, "%+v", c.os)
	}
}
