package roadtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	agent "github.com/kokkuri/kokkuri/internal/agent/persona"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
	"github.com/kokkuri/kokkuri/internal/honeypot/persona"
)

// host unpacks a machine of a suite with a real sshd, set up as Debian has it.
func host(t *testing.T, suite string) string {
	t.Helper()
	d, err := engine.New(engine.Options{})
	require.NoError(t, err)
	defer d.Close() //nolint:errcheck // idle connections
	require.NoError(t, honeypot.BuildSuite(t.Context(), d, suite, t.Output()))
	run := func(name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).Output()
		require.NoError(t, err, "%s %s", name, strings.Join(args, " "))
		return strings.TrimSpace(string(out))
	}
	image := strings.Replace(honeypot.ImageOf(suite), "/pot", "/ssh", 1)
	id := run("docker", "create", image)
	defer run("docker", "rm", id)
	dir := t.TempDir()
	run("sh", "-c", "docker export "+id+" | tar -x -C "+dir+" --exclude=dev/* --exclude=usr/share/doc")
	require.NoError(t, os.Remove(filepath.Join(dir, "etc/ssh/sshd_config.d/access.conf")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "run/sshd"), 0o755))
	require.NoError(t, exec.CommandContext(t.Context(), "mknod", "-m", "666", filepath.Join(dir, "dev/null"), "c", "1", "3").Run())
	run("chroot", dir, "ssh-keygen", "-A")
	return dir
}

// What is learnt of a real sshd of each suite, and what an administrator's edits of it become in a pot.
func TestLearnRealServers(t *testing.T) {
	for suite, version := range map[string]string{persona.Bookworm: "OpenSSH_9.2p1 Debian-2+deb12", persona.Bullseye: "OpenSSH_8.4p1 Debian-5+deb11"} {
		t.Run(suite, func(t *testing.T) {
			dir := host(t, suite)
			learn := func() event.Persona {
				p, found := agent.Learn(t.Context(), agent.Options{Host: "web", Root: dir, Chroot: true})
				require.Empty(t, found)
				require.Empty(t, p.Check())
				return p
			}
			p := learn()
			got, exact := persona.SuiteOf(p.OS)
			assert.Equal(t, []any{suite, true}, []any{got, exact})
			assert.True(t, strings.HasPrefix(p.SSH.Identification, "SSH-2.0-"+version), p.SSH.Identification)
			assert.Equal(t, []event.HostKeyKind{{Type: "rsa", Bits: 3072}, {Type: "ecdsa", Bits: 256}, {Type: "ed25519", Bits: 256}}, p.SSH.HostKeys)
			assert.Equal(t, []uint16{22}, p.SSH.Ports)
			for key, want := range map[string]string{
				"maxauthtries": "6", "logingracetime": "120", "permitrootlogin": "without-password", "kbdinteractiveauthentication": "no", "x11forwarding": "yes",
				"printmotd": "no", "usedns": "no", "maxstartups": "10:30:100", "subsystem": "sftp /usr/lib/openssh/sftp-server",
			} {
				assert.Equal(t, want, p.SSH.Settings[key], key)
			}
			for _, key := range []string{"kexalgorithms", "ciphers", "macs", "hostkeyalgorithms", "pubkeyacceptedalgorithms"} {
				assert.Contains(t, p.SSH.Settings[key], ",", key)
			}
			shipped, err := os.ReadFile(filepath.Join(dir, "usr/share/openssh/sshd_config"))
			require.NoError(t, err)
			text, _ := furnish.SSHDConfig(string(shipped), p.SSH)
			assert.Equal(t, string(shipped), text, "nobody edited it")

			// An administrator edits it; what becomes of that in a pot is to this very server the same.
			config := filepath.Join(dir, "etc/ssh/sshd_config")
			edited := strings.Replace(string(shipped), "#MaxAuthTries 6", "MaxAuthTries 3", 1) +
				"\nClientAliveInterval 77\nBanner /etc/issue.net\nMatch Address 10.0.0.0/8\n\tMaxAuthTries 9\n\tPasswordAuthentication no\n"
			require.NoError(t, os.WriteFile(config, []byte(edited), 0o644))
			p = learn()
			assert.Equal(t, []string{"3", "77", "yes"}, []string{p.SSH.Settings["maxauthtries"], p.SSH.Settings["clientaliveinterval"], p.SSH.Settings["passwordauthentication"]})
			assert.NotEmpty(t, p.SSH.Banner)
			text, banner := furnish.SSHDConfig(string(shipped), p.SSH)
			assert.True(t, banner)
			require.NoError(t, os.WriteFile(config, []byte(text), 0o644))
			assert.Equal(t, p.SSH, learn().SSH)

			keys, err := agent.HostKeys(t.Context(), agent.Options{Root: dir, Chroot: true})
			require.NoError(t, err)
			assert.Len(t, keys, 3)
		})
	}
}
