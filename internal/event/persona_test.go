package event_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

func goodPersona() event.Persona {
	return event.Persona{
		Name: "web", Hostname: "web", Domain: "example.net",
		OS: event.OSRelease{
			ID: "debian", VersionID: "12", VersionCodename: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)",
			Fields: map[string]string{"NAME": "Debian GNU/Linux"}, DebianVersion: "12.11",
		},
		Kernel:   event.Kernel{Name: "Linux", Release: "6.1.0-37-amd64", Version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.140-1 (2025-05-22)", Machine: "x86_64"},
		TimeZone: "Europe/Berlin", Locale: "de_DE.UTF-8", Motd: "Maintenance on Sunday\n",
		Accounts: []event.PersonaAccount{{Name: "anna", UID: 1000, GID: 1000, Comment: "Anna Müller,,,", Home: "/home/anna", Shell: "/bin/bash"}},
		Groups:   []event.PersonaGroup{{Name: "anna", GID: 1000}, {Name: "sudo", GID: 27, Members: []string{"anna"}}},
		SSH: event.PersonaSSH{
			Identification: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3", Ports: []uint16{22},
			Settings:  map[string]string{"maxauthtries": "6", "ciphers": "aes128-ctr,aes256-gcm@openssh.com", "subsystem": "sftp /usr/lib/openssh/sftp-server"},
			AcceptEnv: []string{"LANG", "LC_*"},
			HostKeys:  []event.HostKeyKind{{Type: "rsa", Bits: 3072}, {Type: "ecdsa", Bits: 256}, {Type: "ed25519", Bits: 256}},
		},
		Listening: []event.Listening{{Port: 22, Service: event.SSH}, {Port: 8080}},
		Machine: event.Hardware{
			CPUs: 4, Memory: 8 << 30, BootedAt: time.Date(2025, 3, 1, 2, 3, 4, 0, time.UTC),
			Disks:       []event.Disk{{Name: "sda", Size: 40 << 30}},
			FileSystems: []event.FileSystem{{Device: "/dev/sda1", Mount: "/", Type: "ext4", Size: 39 << 30, Used: 7 << 30}},
		},
		Network:  event.PersonaNetwork{Interface: "ens18", Addresses: []event.InterfaceAddress{{Prefix: netip.MustParsePrefix("192.0.2.10/24")}}},
		Software: []event.ServiceVersion{{Service: event.MySQL, Product: "MariaDB", Version: "10.11.11-MariaDB-0+deb12u1"}},
	}
}

func TestPersonaThatIsFineStaysAsItIs(t *testing.T) {
	p := goodPersona()
	assert.Empty(t, p.Check())
	cleaned, problems := p.Clean()
	assert.Empty(t, problems)
	assert.Equal(t, p, cleaned)
	data, err := json.Marshal(p)
	require.NoError(t, err)
	var again event.Persona
	require.NoError(t, json.Unmarshal(data, &again))
	assert.Equal(t, p, again)
}

// A host may be compromised: what it says of itself gets into files of containers.
func TestPersonaOfAHostileHost(t *testing.T) {
	for key, spoil := range map[string]func(*event.Persona){
		"name":                         func(p *event.Persona) { p.Name = "../web" },
		"hostname":                     func(p *event.Persona) { p.Hostname = "web\nroot" },
		"domain":                       func(p *event.Persona) { p.Domain = "a..b" },
		"os.id":                        func(p *event.Persona) { p.OS.ID = "deb ian" },
		"os.pretty_name":               func(p *event.Persona) { p.OS.PrettyName = "a\"; rm -rf /" },
		"os.fields.HOME_URL":           func(p *event.Persona) { p.OS.Fields = map[string]string{"HOME_URL": "$(id)"} },
		"os.fields.x=y":                func(p *event.Persona) { p.OS.Fields = map[string]string{"x=y": "1"} },
		"kernel.release":               func(p *event.Persona) { p.Kernel.Release = strings.Repeat("6", 65) },
		"kernel.version":               func(p *event.Persona) { p.Kernel.Version = "#1\x1b[2J" },
		"time_zone":                    func(p *event.Persona) { p.TimeZone = "../../etc/shadow" },
		"locale":                       func(p *event.Persona) { p.Locale = "de_DE\nX=1" },
		"motd":                         func(p *event.Persona) { p.Motd = "\x1b]0;x\x07" },
		"accounts[0].name":             func(p *event.Persona) { p.Accounts[0].Name = "a:b" },
		"accounts[0].comment":          func(p *event.Persona) { p.Accounts[0].Comment = "a:0:0" },
		"accounts[0].home":             func(p *event.Persona) { p.Accounts[0].Home = "/home/../etc" },
		"accounts[0].shell":            func(p *event.Persona) { p.Accounts[0].Shell = "/bin/sh\nx::0:0:::" },
		"groups[1].members[0]":         func(p *event.Persona) { p.Groups[1].Members = []string{"a,b"} },
		"ssh.identification":           func(p *event.Persona) { p.SSH.Identification = "SSH-2.0-x\r\nSSH-2.0-y" },
		"ssh.settings.hostkey":         func(p *event.Persona) { p.SSH.Settings["hostkey"] = "/etc/shadow" },
		"ssh.settings.forcecommand":    func(p *event.Persona) { p.SSH.Settings["forcecommand"] = "id" },
		"ssh.settings.ciphers":         func(p *event.Persona) { p.SSH.Settings["ciphers"] = "aes128-ctr\nForceCommand id" },
		"ssh.settings.maxauthtries":    func(p *event.Persona) { p.SSH.Settings["maxauthtries"] = "6 7" },
		"ssh.settings.loglevel":        func(p *event.Persona) { p.SSH.Settings["loglevel"] = "x" },
		"ssh.settings.maxstartups":     func(p *event.Persona) { p.SSH.Settings["maxstartups"] = "5:30:1" },
		"ssh.settings.versionaddendum": func(p *event.Persona) { p.SSH.Settings["versionaddendum"] = `a "b` },
		"ssh.settings.subsystem":       func(p *event.Persona) { p.SSH.Settings["subsystem"] = "sftp /bin/sh -c id" },
		"ssh.accept_env[0]":            func(p *event.Persona) { p.SSH.AcceptEnv[0] = "LANG\nX" },
		"ssh.banner":                   func(p *event.Persona) { p.SSH.Banner = strings.Repeat("x", 4097) },
		"ssh.host_keys[0]":             func(p *event.Persona) { p.SSH.HostKeys[0].Bits = 1 << 20 },
		"ssh.ports[0]":                 func(p *event.Persona) { p.SSH.Ports[0] = 0 },
		"listening[1].port":            func(p *event.Persona) { p.Listening[1].Port = 22 },
		"machine.cpus":                 func(p *event.Persona) { p.Machine.CPUs = -1 },
		"machine.memory":               func(p *event.Persona) { p.Machine.Memory = -1 },
		"machine.booted_at":            func(p *event.Persona) { p.Machine.BootedAt = time.Unix(1<<40, 0) },
		"machine.disks[0].name":        func(p *event.Persona) { p.Machine.Disks[0].Name = "../x" },
		"machine.file_systems[0].used": func(p *event.Persona) { p.Machine.FileSystems[0].Used = 1 << 50 },
		"network.interface":            func(p *event.Persona) { p.Network.Interface = "eth0 up" },
		"software[0].version":          func(p *event.Persona) { p.Software[0].Version = "\x00" },
	} {
		t.Run(key, func(t *testing.T) {
			p := goodPersona()
			spoil(&p)
			cleaned, problems := p.Clean()
			require.Len(t, problems, 1)
			assert.Equal(t, key, problems[0].Key)
			assert.NotEmpty(t, problems[0].Allowed)
			assert.NotContains(t, problems[0].Error(), "\x1b")
			if key != "name" {
				assert.Empty(t, cleaned.Check(), "what is left is fine")
			}
		})
	}
}

func TestPersonaHasBounds(t *testing.T) {
	p := goodPersona()
	for i := range 100_000 {
		p.Accounts = append(p.Accounts, event.PersonaAccount{Name: fmt.Sprintf("u%d", i)})
		p.Groups = append(p.Groups, event.PersonaGroup{Name: fmt.Sprintf("g%d", i), Members: make([]string, 3)})
	}
	cleaned, problems := p.Clean()
	assert.NotEmpty(t, problems)
	assert.Empty(t, cleaned.Check())
	data, err := json.Marshal(cleaned)
	require.NoError(t, err)
	assert.Less(t, len(data), event.MaxPersona)
}

func TestCleaningChangesNothingOfTheOriginal(t *testing.T) {
	p := goodPersona()
	p.SSH.Settings["hostkey"] = "/x"
	p.Accounts[0].Name = "-"
	before := fmt.Sprintf("%#v", p)
	_, _ = p.Clean()
	assert.Equal(t, before, fmt.Sprintf("%#v", p))
}

func FuzzPersona(f *testing.F) {
	good, err := json.Marshal(goodPersona())
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"name":"x","accounts":[{"name":"a\u0000"}],"ssh":{"settings":{"\n":"x"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p event.Persona
		if json.Unmarshal(data, &p) != nil {
			return
		}
		cleaned, _ := p.Clean()
		cleaned.Name = "web"
		assert.Empty(t, cleaned.Check())
		for _, a := range cleaned.Accounts {
			assert.NotContains(t, a.Name+a.Comment+a.Home+a.Shell, "\n")
			assert.NotContains(t, a.Name+a.Comment+a.Home+a.Shell, ":")
		}
		for k, v := range cleaned.SSH.Settings {
			assert.NotContains(t, k+v, "\n")
		}
	})
}
