package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
)

func withPersonas() *backend {
	b := full()
	b.personas = []api.Persona{
		{Name: "web", Hosts: []string{"web"}, PersonaOf: event.PersonaOf{Host: "web", Origin: event.PersonaLearnt, ChangedAt: now().Add(-time.Hour), Persona: event.Persona{
			Name: "web", Hostname: "www1", Domain: "corp.example", OS: event.OSRelease{PrettyName: "Debian GNU/Linux 12 (bookworm)"},
			Accounts: []event.PersonaAccount{{Name: "root", Shell: "/bin/bash"}, {Name: "anna", UID: 1000, GID: 1000}},
			SSH:      event.PersonaSSH{Identification: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3", HostKeys: []event.HostKeyKind{{Type: "rsa", Bits: 3072}}},
		}}},
		{Name: "shop", Error: "shop.yaml:1: \x1b[2J", PersonaOf: event.PersonaOf{Origin: event.PersonaWritten}},
	}
	return b
}

func TestPersonas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withPersonas())
	list := w.ok(t, "personas ls")
	require.Contains(t, list, "web   learnt   Debian GNU/Linux 12 (bookworm)  OpenSSH_9.2p1 Debian-2+deb12u3  1h ago   web")
	require.Contains(t, list, "can't be used")
	require.Equal(t, list, w.ok(t, "personas"))
	show := w.ok(t, "personas show --learnt web")
	require.Contains(t, show, "www1.corp.example")
	require.Contains(t, show, "rsa 3072")
	require.NotContains(t, w.ok(t, "personas show shop"), "\x1b")

	shared := w.ok(t, "personas export web --learnt")
	require.Contains(t, shared, "identification: \"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\"")
	require.NotContains(t, shared, "anna")
	require.NotContains(t, shared, "corp")
	whole := w.ok(t, "personas export web --learnt --complete")
	require.Contains(t, whole, "anna")

	require.Contains(t, w.ok(t, "personas assign web shop"), "New pots of web have the persona shop (/p/shop.yaml)")
	_, errs, code := w.run(t.Context(), "personas assign web")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "--none")
	_, errs, code = w.run(t.Context(), "personas show nosuch")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "kokkuri personas ls lists them")

	for _, line := range []string{"personas ls --json", "personas show web --learnt --json", "personas export web --learnt --json", "personas assign web shop --json"} {
		require.True(t, json.Valid([]byte(w.ok(t, line))), line)
	}

	file := filepath.Join(t.TempDir(), "shop.yaml")
	require.NoError(t, os.WriteFile(file, []byte(whole), 0o600))
	require.Equal(t, file+": persona web is fine.\n", w.ok(t, "personas validate "+file))
	require.True(t, json.Valid([]byte(w.ok(t, "personas validate --json "+file))))
	require.NoError(t, os.WriteFile(file, []byte("hostname: a b\n"), 0o600))
	_, errs, code = w.run(t.Context(), "personas validate "+file)
	require.Equal(t, 2, code)
	require.Contains(t, errs, file+`:1: hostname: found "a b"; allowed: a host name`)
}
