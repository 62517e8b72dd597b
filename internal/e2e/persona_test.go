package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

// What web's agent learns is what a pot of web shows.
func TestPotHasItsHostsPersona(t *testing.T) {
	var p api.Persona
	eventually(t, "the server knows what web is like", func() (bool, error) {
		text, _ := kokkuri(t, "personas", "show", lab.HostName, "--json")
		return json.Unmarshal([]byte(text), &p) == nil && p.Origin == event.PersonaLearnt, nil
	})
	assert.Equal(t, []string{lab.HostName}, p.Hosts)
	assert.Contains(t, p.Persona.SSH.Settings["maxstartups"], "200:30:400", "its own setting")
	assert.Contains(t, p.Persona.SSH.HostKeys, event.HostKeyKind{Type: "rsa", Bits: 3072})

	from := source(t)
	offend(t, from)
	deflected(t, from)
	shell := pot(t, from)
	host := onRealHost(t, the.User, lab.UserAddr())
	assert.Equal(t, host.Banner, shell.Banner)
	for _, look := range []string{
		"hostname", "cat /etc/hostname /etc/os-release /etc/debian_version /etc/timezone /etc/motd", "readlink /etc/localtime", "getent passwd user root",
		"getent group user", "stat -c '%U %G' /home/user", "ls /home | grep -vx admin", // who stays to be guessed
	} {
		assert.Equal(t, out(t, host, look), out(t, shell, look), look)
	}
	assert.Contains(t, out(t, shell, "cat /etc/ssh/sshd_config"), "\nSubsystem", "as Debian ships it")
	assert.Equal(t, "no such user\n", out(t, shell, "getent passwd martin deploy || echo no such user"), "the image's own people")
	eventually(t, "the front has an RSA key, as web has", func() (bool, error) {
		key, err := the.Attacker.HostKey(t.Context(), from, lab.WebSSH(), ssh.KeyAlgoRSASHA512)
		return key != "", err
	})

	// What is shared is a persona, and tells nothing of web's people.
	text, code := kokkuri(t, "personas", "export", lab.HostName)
	require.Zero(t, code, text)
	file := filepath.Join(t.TempDir(), "shared.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	said, code := kokkuri(t, "personas", "validate", file)
	require.Zero(t, code, said)
	assert.NotContains(t, text, "/home/user")
}
