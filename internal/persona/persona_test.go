package persona_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/persona"
)

func full() event.Persona {
	return event.Persona{
		Name: "web", Hostname: "web", Domain: "corp.example", OS: event.OSRelease{ID: "debian", VersionID: "12", PrettyName: "Debian GNU/Linux 12 (bookworm)", Fields: map[string]string{"NAME": "Debian GNU/Linux"}},
		Kernel:   event.Kernel{Name: "Linux", Release: "6.1.0-37-amd64", Version: "#1 SMP", Machine: "x86_64"},
		TimeZone: "Europe/Rome", Locale: "it_IT.UTF-8", Motd: "Ask anna: \"tel. 5\"\n\té\n",
		Accounts: []event.PersonaAccount{{Name: "root", Home: "/root", Shell: "/bin/bash"}, {Name: "anna", UID: 1000, GID: 1000, Comment: "Anna, room 5", Home: "/home/anna", Shell: "/bin/bash"}},
		Groups:   []event.PersonaGroup{{Name: "root"}, {Name: "sudo", GID: 27, Members: []string{"anna", "root"}}, {Name: "anna", GID: 1000}},
		SSH: event.PersonaSSH{
			Identification: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3", Ports: []uint16{22, 2222}, Banner: "Property of Corp\n",
			Settings: map[string]string{"maxauthtries": "6", "usedns": "no", "rekeylimit": "0 0"}, AcceptEnv: []string{"LANG", "LC_*"},
			HostKeys: []event.HostKeyKind{{Type: "ed25519", Bits: 256}},
		},
		Listening: []event.Listening{{Port: 22, Service: event.SSH}, {Port: 9999}},
		Machine: event.Hardware{
			CPUs: 2, Memory: 8 << 30, Swap: 1234, BootedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Disks: []event.Disk{{Name: "sda", Size: 40 << 30}},
			FileSystems: []event.FileSystem{{Device: "/dev/sda1", Mount: "/", Type: "ext4", Size: 39 << 30}},
		},
		Network:  event.PersonaNetwork{Interface: "ens18", Addresses: []event.InterfaceAddress{{Prefix: netip.MustParsePrefix("192.0.2.10/24")}}},
		Software: []event.ServiceVersion{{Service: event.MySQL, Product: "MariaDB", Version: "1:10.11.6-0+deb12u1"}},
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	text := persona.Format(full())
	golden := filepath.Join("testdata", "full.yaml")
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, text, 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(text))
	p, err := persona.Parse("web.yaml", text)
	require.NoError(t, err)
	assert.Equal(t, full(), p)
}

func TestWhatIsSharedTellsNobodysName(t *testing.T) {
	text := string(persona.Format(persona.Shareable(full())))
	for _, secret := range []string{"anna", "Anna", "corp", "Corp", "192.0.2.10", "2026-01-02"} {
		assert.NotContains(t, text, secret)
	}
	assert.Contains(t, text, "OpenSSH_9.2p1")
	_, err := persona.Parse("x.yaml", []byte(text))
	require.NoError(t, err)
}

func TestErrorsSayWhereWhatAndWhatIsAllowed(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":      {"name: web\nhostnam: web\n", `shop.yaml:2: hostnam: unknown key; did you mean hostname?; allowed: name, hostname, domain,`},
		"bad value":        {"accounts:\n  - {name: root}\n  - {name: \"a:b\", uid: 1}\n", `shop.yaml:3: accounts[1].name: found "a:b"; allowed: an account's name`},
		"no number":        {"accounts:\n  - {name: root, uid: -1}\n", `shop.yaml:2: accounts[0].uid: found "-1"; allowed: a whole number`},
		"no size":          {"machine:\n  memory: much\n", `shop.yaml:2: machine.memory: found "much"; allowed: a size, such as`},
		"no time":          {"machine:\n  booted_at: yesterday\n", `shop.yaml:2: machine.booted_at: found "yesterday"; allowed: a time, such as`},
		"setting unknown":  {"ssh:\n  settings:\n    usedns: no\n    hostkey: /etc/x\n", `shop.yaml:4: ssh.settings.hostkey: found "hostkey"; allowed: acceptenv`},
		"setting wrong":    {"ssh:\n  settings:\n    maxauthtries: many\n", `shop.yaml:3: ssh.settings.maxauthtries: found "many"; allowed: what matches [1-9][0-9]{0,8}`},
		"setting twice":    {"ssh:\n  settings:\n    usedns: no\n    usedns: yes\n", `usedns`},
		"no address":       {"network:\n  addresses: [web]\n", `shop.yaml:2: network.addresses[0]: found "web"; allowed: an address with its network's length`},
		"control sequence": {"motd: \"\\e[2J\"\n", `shop.yaml:1: motd: found "\x1b[2J"; allowed: printable text`},
		"not YAML":         {"a: [\n", "shop.yaml:1: not valid YAML"},
		"a list":           {"- a\n", `shop.yaml:1: found a list; allowed: a section with keys`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := persona.Parse("/etc/kokkuri/personas/shop.yaml", []byte(c.text))
			var errs config.Errors
			require.ErrorAs(t, err, &errs)
			want := strings.Replace(c.want, "allowed: acceptenv", "allowed: allowagentforwarding", 1)
			assert.Contains(t, err.Error(), want)
		})
	}
}

func TestAFileThatIsNoneSaysSo(t *testing.T) {
	_, err := persona.Load(filepath.Join(t.TempDir(), "x.yaml"))
	require.ErrorContains(t, err, "x.yaml: there is no such file; allowed: a persona in YAML")
	_, err = persona.Load(t.TempDir())
	require.ErrorContains(t, err, "no ordinary file")
}

func FuzzParse(f *testing.F) {
	f.Add(persona.Format(full()))
	f.Add([]byte("accounts: [{name: a}]\nssh: {settings: {x: y}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := persona.Parse("x.yaml", data)
		if err != nil {
			return
		}
		again, err := persona.Parse("x.yaml", persona.Format(p))
		require.NoError(t, err)
		assert.Equal(t, p, again)
	})
}
