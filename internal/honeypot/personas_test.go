package honeypot_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

func learnt(p event.Persona) event.PersonaOf {
	p.Name = "web"
	return event.PersonaOf{Host: "web", Origin: event.PersonaLearnt, Persona: p}
}

func (b *fakeBus) learn(p event.Persona) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.personas["web"] = learnt(p)
}

// banner is what the server at an endpoint calls itself.
func (f *fixture) banner(t *testing.T, to netip.AddrPort) string {
	t.Helper()
	conn, err := f.dial(t.Context(), to)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // only looked at
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimRight(line, "\r\n")
}

// hostKey is the key that the server at an endpoint shows for an algorithm, as a fingerprint; empty where it has none.
func (f *fixture) hostKey(t *testing.T, to netip.AddrPort, algorithms ...string) (seen string) {
	t.Helper()
	conn, err := f.dial(t.Context(), to)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // only looked at
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _, _, _ = ssh.NewClientConn(conn, "web:22", &ssh.ClientConfig{
		User: "x", HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { seen = ssh.FingerprintSHA256(key); return nil },
	})
	return seen
}

func TestPotsAreWhatTheirHostsAre(t *testing.T) {
	f := newFixture(t)
	first := event.Persona{
		Hostname: "www1", Domain: "corp.example", TimeZone: "Europe/Rome", Motd: "Ciao\n",
		Accounts: []event.PersonaAccount{{Name: "anna", UID: 1000, GID: 1000, Comment: "Anna,,,", Home: "/home/anna", Shell: "/bin/bash"}},
		Groups:   []event.PersonaGroup{{Name: "anna", GID: 1000}, {Name: "users", GID: 100, Members: []string{"anna"}}},
		SSH: event.PersonaSSH{
			Identification: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3", Settings: map[string]string{"maxauthtries": "3", "usedns": "yes"},
			HostKeys: []event.HostKeyKind{{Type: "rsa", Bits: 2048}, {Type: "ed25519", Bits: 256}},
		},
	}
	f.bus.learn(first)
	_, stop := f.run(t)
	one := f.grant(t, "203.0.113.66/32")
	require.Eventually(t, func() bool { return f.banner(t, one.Endpoint) == first.SSH.Identification }, time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool { return f.hostKey(t, one.Endpoint, ssh.KeyAlgoRSASHA512) != "" }, time.Minute, 50*time.Millisecond)
	assert.NotEmpty(t, f.hostKey(t, one.Endpoint, ssh.KeyAlgoED25519))
	assert.Empty(t, f.hostKey(t, one.Endpoint, ssh.KeyAlgoECDSA256), "the host has none")

	look := "hostname; hostname -f; id anna; id martin 2>&1; date +%Z; cat /etc/motd; grep -E '^(MaxAuthTries|UseDNS)' /etc/ssh/sshd_config; ls /home; " +
		"ls /etc/ssh | grep -c host_; ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2"
	want := "www1\nwww1.corp.example\nuid=1000(anna) gid=1000(anna) groups=1000(anna),100(users)\nid: ‘martin’: no such user\n"
	out, err := f.shell(t.Context(), one.Endpoint, "export LC_ALL=C.UTF-8; "+look)
	require.NoError(t, err, out)
	assert.True(t, strings.HasPrefix(out, want), out)
	assert.Regexp(t, `\nCES?T\nCiao\nMaxAuthTries 3\nUseDNS yes\nadmin\nanna\n`, out)
	assert.Contains(t, out, f.hostKey(t, one.Endpoint, ssh.KeyAlgoED25519), "the key inside is the one that is shown")

	// What an attacker's pot was it stays, over changes at the host and starts of the node; others' are as the host is now.
	out, err = f.shell(t.Context(), one.Endpoint, "echo mine >/etc/motd; sed -i s/anna/anne/ /etc/passwd; cat /etc/motd")
	require.NoError(t, err, out)
	second := first
	second.Hostname, second.SSH.Identification = "www2", "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u9"
	f.bus.learn(second)
	stop()
	_, stop = f.run(t)
	two := f.grant(t, "203.0.113.67/32")
	require.Eventually(t, func() bool { return f.banner(t, two.Endpoint) == second.SSH.Identification }, time.Minute, 50*time.Millisecond)
	assert.Equal(t, first.SSH.Identification, f.banner(t, one.Endpoint))
	out, err = f.shell(t.Context(), two.Endpoint, "hostname")
	require.NoError(t, err)
	assert.Equal(t, "www2\n", out)
	out, err = f.shell(t.Context(), one.Endpoint, "hostname; cat /etc/motd; grep -c anne /etc/passwd")
	require.NoError(t, err)
	assert.Equal(t, "www1\nmine\n1\n", out)

	// Without a server what was known holds.
	f.bus.mu.Lock()
	f.bus.away = true
	f.bus.mu.Unlock()
	three := f.grant(t, "203.0.113.68/32")
	out, err = f.shell(t.Context(), three.Endpoint, "hostname")
	require.NoError(t, err)
	assert.Equal(t, "www2\n", out)
	stop()
}

// A host whose operator opted in: what stands in front of pots has the host's keys, and nothing else has.
func TestOwnHostKeysStayInFront(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "root@web")
	require.NoError(t, err)
	text := pem.EncodeToMemory(block)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	own := ssh.FingerprintSHA256(signer.PublicKey())

	f := newFixture(t)
	f.bus.keys["web"] = event.HostKeys{Keys: []event.HostKey{{Type: "ed25519", Private: text}}}
	_, stop := f.run(t)
	one := f.grant(t, "203.0.113.66/32")
	require.Eventually(t, func() bool { return f.hostKey(t, one.Endpoint, ssh.KeyAlgoED25519) == own }, time.Minute, 50*time.Millisecond)
	out, err := f.shell(t.Context(), one.Endpoint, "cat /etc/ssh/ssh_host_*; ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
	require.NoError(t, err)
	assert.NotContains(t, out, own, "a pot has keys of its own")
	middle := strings.Split(string(text), "\n")[2]
	require.Greater(t, len(middle), 20)
	assert.NotContains(t, out, middle)
	found := 0
	require.NoError(t, filepath.WalkDir(f.opts.StateDir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Base(filepath.Dir(path)) != "ownkeys" {
			return err
		}
		info, err := e.Info()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		found++
		return nil
	}))
	assert.Equal(t, 1, found)

	// The operator takes it back.
	f.bus.mu.Lock()
	f.bus.keys = map[string]event.HostKeys{}
	f.bus.mu.Unlock()
	stop()
	_, stop = f.run(t)
	require.Eventually(t, func() bool { return f.hostKey(t, one.Endpoint, ssh.KeyAlgoED25519) != own }, time.Minute, 50*time.Millisecond)
	files, err := filepath.Glob(filepath.Join(f.opts.StateDir, "ownkeys", "*"))
	require.NoError(t, err)
	assert.Empty(t, files)
	stop()
}

// A persona that makes no sense at all still gives a pot.
func TestHostilePersonaGivesAPot(t *testing.T) {
	f := newFixture(t)
	f.bus.learn(event.Persona{
		Hostname: "a b\n", TimeZone: "../../etc/shadow", Locale: "xx_XX.UTF-8", Motd: "\x1b[2J",
		Accounts: []event.PersonaAccount{{Name: "root", UID: 5}, {Name: "sshd", UID: 0}, {Name: "x", UID: 1000, Home: "/etc", Shell: "/nonexistent"}, {Name: "y", UID: 1001, Home: "/home/y", Shell: "/x"}},
		SSH: event.PersonaSSH{
			Identification: "SSH-2.0-\r\n", HostKeys: []event.HostKeyKind{{Type: "rsa", Bits: 1 << 30}, {Type: "dsa", Bits: 1}},
			Settings: map[string]string{"subsystem": "sftp /bin/false", "maxstartups": "1:100:1", "maxsessions": "0", "clientaliveinterval": "1", "usepam": "no", "strictmodes": "yes", "loglevel": "x", "syslogfacility": "y"},
		},
	})
	_, stop := f.run(t)
	one := f.grant(t, "203.0.113.66/32")
	out, err := f.shell(t.Context(), one.Endpoint, "hostname; id -un; ls -ld /etc | cut -d' ' -f3")
	require.NoError(t, err, out)
	assert.Equal(t, "web\nroot\nroot\n", out)
	out, err = f.shell(t.Context(), one.Endpoint, "echo again")
	require.NoError(t, err, out)
	assert.Equal(t, "again\n", out)
	stop()
}

// The images of both suites come of one build, and what a pot of each says of itself is the persona's.
func TestPotsOfEachSuite(t *testing.T) {
	f := newFixture(t)
	f.opts.Image = ""
	d, err := engine.New(engine.Options{Node: f.opts.Name})
	require.NoError(t, err)
	defer d.Close() //nolint:errcheck // idle connections
	for suite, p := range map[string]event.Persona{
		"bookworm": {
			OS:  event.OSRelease{ID: "debian", VersionID: "12", VersionCodename: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)", DebianVersion: "12.1", Fields: map[string]string{"NAME": "Debian GNU/Linux"}},
			SSH: event.PersonaSSH{Settings: map[string]string{"maxauthtries": "5"}},
		},
		"bullseye": {
			OS:  event.OSRelease{ID: "debian", VersionID: "11", VersionCodename: "bullseye", PrettyName: "Debian GNU/Linux 11 (bullseye)", DebianVersion: "11.1", Fields: map[string]string{"NAME": "Debian GNU/Linux"}},
			SSH: event.PersonaSSH{Settings: map[string]string{"maxauthtries": "5", "kbdinteractiveauthentication": "yes", "requiredrsasize": "1024"}},
		},
	} {
		t.Run(suite, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			require.NoError(t, honeypot.BuildSuite(ctx, d, suite, t.Output()))
			f.opts.StateDir = t.TempDir()
			f.bus.learn(p)
			n, stop := f.run(t)
			lease := f.grant(t, "203.0.113.66/32")
			require.Eventually(t, func() bool { return n.Ready(suite) }, 5*time.Minute, 50*time.Millisecond)
			var said string
			require.Eventually(t, func() bool { // on a busy machine a pot is not there at once, and its attacker is refused meanwhile
				var err error
				said, err = f.shell(t.Context(), lease.Endpoint, "cat /etc/debian_version; . /etc/os-release; echo $VERSION_CODENAME; sshd -V 2>&1 | tail -1; grep ^MaxAuth /etc/ssh/sshd_config; sshd -T | grep -i maxauthtries; cat /etc/issue")
				if err != nil {
					t.Log(err, said)
				}
				return err == nil
			}, time.Minute, 100*time.Millisecond)
			assert.Contains(t, said, p.OS.DebianVersion+"\n"+suite+"\n")
			assert.Contains(t, said, "\nMaxAuthTries 5\nmaxauthtries 5\nDebian GNU/Linux "+p.OS.VersionID)
			stop()
			require.NoError(t, honeypot.Cleanup(t.Context(), f.opts))
		})
	}
}
