package furnish_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
)

func webPersona() event.Persona {
	return event.Persona{
		Name: "web", Hostname: "web",
		OS: event.OSRelease{
			ID: "debian", VersionID: "12", VersionCodename: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)", DebianVersion: "12.5",
			Fields: map[string]string{"NAME": "Debian GNU/Linux", "VERSION": "12 (bookworm)", "HOME_URL": "https://www.debian.org/", "ZED": "1"},
		},
		TimeZone: "Europe/Rome", Locale: "it_IT.UTF-8", Motd: "Ciao\n",
		Accounts: []event.PersonaAccount{
			{Name: "root", Comment: "Capo", Home: "/elsewhere", Shell: "/bin/zsh"},
			{Name: "www-data", UID: 99, GID: 99, Comment: "moved", Home: "/x", Shell: "/bin/bash"},
			{Name: "anna", UID: 1000, GID: 1000, Comment: "Anna,,,", Home: "/home/anna", Shell: "/usr/bin/fish"},
			{Name: "bert", UID: 1001, GID: 100, Home: "/srv/bert", Shell: "/bin/bash"},
			{Name: "toor", UID: 0, GID: 0, Home: "/root", Shell: "/bin/bash"},
			{Name: "prometheus", UID: 113, GID: 120, Home: "/var/lib/prometheus", Shell: "/usr/sbin/nologin"},
			{Name: "clash", UID: 33, GID: 33, Home: "/home/clash", Shell: "/bin/bash"},
		},
		Groups: []event.PersonaGroup{{Name: "sudo", GID: 27, Members: []string{"anna", "gone"}}, {Name: "anna", GID: 1000}, {Name: "prometheus", GID: 120}, {Name: "bad", GID: 27}},
	}
}

func machineFiles(t *testing.T) (string, *furnish.Pot) {
	t.Helper()
	dir, pot := system(t)
	for name, text := range map[string]string{
		"etc/passwd":                     "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nadmin:x:1000:1000:Administrator:/home/admin:/bin/bash\nmartin:x:1002:1002::/home/martin:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":                      "root:x:0:\nsudo:x:27:admin\nwww-data:x:33:\nusers:x:100:\nadmin:x:1000:\nmartin:x:1002:\nnogroup:x:65534:\n",
		"etc/shadow":                     "root:$6$a$b:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\nadmin:$6$x$y:19000:0:99999:7:::\nmartin:!:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
		"etc/locale.gen":                 "# de_DE.UTF-8 UTF-8\nit_IT.UTF-8 UTF-8\n",
		"usr/share/zoneinfo/Europe/Rome": "TZif2",
		"usr/lib/os-release":             "ID=debian\n",
		"home/admin/deep/er/file":        "x",
		"home/martin/todo.txt":           "x",
		"usr/share/openssh/sshd_config":  shipped,
		"etc/ssh/sshd_config":            "old\n",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "etc/localtime")))
	require.NoError(t, os.Symlink("/usr/share/zoneinfo/Etc/UTC", filepath.Join(dir, "etc/localtime")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "etc/default"), 0o755))
	return dir, pot
}

const shipped = `Include /etc/ssh/sshd_config.d/*.conf

#Port 22
#LoginGraceTime 2m
#PermitRootLogin prohibit-password
#MaxAuthTries 6
KbdInteractiveAuthentication no
X11Forwarding yes
#Compression delayed
#MaxStartups 10:30:100
#Banner none
AcceptEnv LANG LC_*
Subsystem	sftp	/usr/lib/openssh/sftp-server
#Match User anoncvs
#	X11Forwarding no
`

func TestAPotBecomesItsPersona(t *testing.T) {
	dir, pot := machineFiles(t)
	for range 2 { // again changes nothing
		require.NoError(t, pot.Become(webPersona(), true))
		assert.Equal(t, `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
ZED="1"
`, read(t, dir, "usr/lib/os-release"))
		assert.Equal(t, "12.5\n", read(t, dir, "etc/debian_version"))
		zone, err := os.Readlink(filepath.Join(dir, "etc/localtime"))
		require.NoError(t, err)
		assert.Equal(t, "/usr/share/zoneinfo/Europe/Rome", zone)
		assert.Equal(t, "Europe/Rome\n", read(t, dir, "etc/timezone"))
		assert.Equal(t, "LANG=it_IT.UTF-8\n", read(t, dir, "etc/default/locale"))
		assert.Equal(t, "Ciao\n", read(t, dir, "etc/motd"))
		assert.Equal(t, `root:x:0:0:Capo:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
admin:x:1000:1000:Administrator:/home/admin:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
anna:x:1001:1001:Anna,,,:/home/anna:/bin/bash
bert:x:1002:100::/srv/bert:/bin/bash
prometheus:x:113:120::/var/lib/prometheus:/usr/sbin/nologin
`, read(t, dir, "etc/passwd"))
		assert.Equal(t, `root:x:0:
sudo:x:27:admin,anna
www-data:x:33:
users:x:100:
admin:x:1000:
nogroup:x:65534:
anna:x:1001:
prometheus:x:120:
`, read(t, dir, "etc/group"))
		shadow := read(t, dir, "etc/shadow")
		assert.Contains(t, shadow, "root:$6$a$b:")
		assert.Regexp(t, `\nanna:\$y\$j9T\$[./A-Za-z0-9]{22}\$[./A-Za-z0-9]{43}:`, shadow)
		assert.Contains(t, shadow, "\nprometheus:!:")
		assert.Contains(t, shadow, "admin:$6$x$y:", "who can be guessed stays")
		assert.NotContains(t, shadow, "martin")
		assert.Equal(t, 7, strings.Count(shadow, "\n"))
		assert.DirExists(t, filepath.Join(dir, "home/admin"))
		assert.NoDirExists(t, filepath.Join(dir, "home/martin"))
		assert.FileExists(t, filepath.Join(dir, "home/anna/.bashrc"))
	}
}

func TestAnotherSystemDoesNotSayItIsThePersonas(t *testing.T) {
	dir, pot := machineFiles(t)
	require.NoError(t, pot.Become(webPersona(), false))
	assert.Equal(t, "ID=debian\n", read(t, dir, "usr/lib/os-release"))
	assert.Equal(t, "Ciao\n", read(t, dir, "etc/motd"))
}

func TestWhatAPotHasNotIsLeftOut(t *testing.T) {
	dir, pot := machineFiles(t)
	v := webPersona()
	v.TimeZone, v.Locale = "Mars/Olympus", "de_DE.UTF-8"
	require.ErrorContains(t, pot.Become(v, true), "Mars/Olympus")
	assert.NoFileExists(t, filepath.Join(dir, "etc/timezone"))
	assert.NoFileExists(t, filepath.Join(dir, "etc/default/locale"), "programs would complain")
	assert.Equal(t, "Ciao\n", read(t, dir, "etc/motd"), "the rest is done")
}

func TestSSHDConfigLooksAsAnAdministratorLeftIt(t *testing.T) {
	same := map[string]string{
		"maxauthtries": "6", "logingracetime": "120", "permitrootlogin": "without-password", "kbdinteractiveauthentication": "no", "x11forwarding": "yes",
		"compression": "yes", "maxstartups": "10:30:100", "disableforwarding": "no", "allowstreamlocalforwarding": "yes", "ciphers": "aes128-ctr",
	}
	text, banner := furnish.SSHDConfig(shipped, event.PersonaSSH{Settings: same, AcceptEnv: []string{"LANG", "LC_*"}})
	assert.Equal(t, shipped, text)
	assert.False(t, banner)

	text, banner = furnish.SSHDConfig(shipped, event.PersonaSSH{
		Settings: map[string]string{
			"maxauthtries": "3", "logingracetime": "60", "permitrootlogin": "yes", "kbdinteractiveauthentication": "yes", "x11forwarding": "no",
			"disableforwarding": "yes", "usedns": "yes", "ciphers": "aes128-ctr", "port": "2222",
		},
		Banner: "Authorised only\n",
	})
	assert.True(t, banner)
	assert.Equal(t, strings.NewReplacer(
		"#MaxAuthTries 6", "MaxAuthTries 3", "#LoginGraceTime 2m", "LoginGraceTime 60", "#PermitRootLogin prohibit-password", "PermitRootLogin yes",
		"KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes", "X11Forwarding yes", "X11Forwarding no", "#Banner none", "Banner /etc/issue.net",
	).Replace(shipped)+"UseDNS yes\nDisableForwarding yes\n", text)
}

// A server that is told to read its configuration anew and can't would end, and the pot with it.
func TestNoSettingThatAPersonaMayHaveStopsAServer(t *testing.T) {
	shipped, err := os.ReadFile("/usr/share/openssh/sshd_config")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(dir, "key")).Run())
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	candidates := []string{
		"yes", "no", "0", "1", "999999999", "delayed", "all", "local", "clientspecified", "ethernet", "1:1:1", "999999:100:999999", "10", "1:100:1",
		"forced-commands-only", "without-password", "QUIET", "DEBUG3", "LOCAL7", "DAEMON", "none", "- -", "a b", "any", "x", strings.Repeat("a", 100),
	}
	tried := 0
	for _, key := range event.SSHSettings() {
		for _, value := range candidates {
			if _, ok := event.SSHSettingAllowed(key, value); !ok {
				continue
			}
			tried++
			text, _ := furnish.SSHDConfig(string(shipped), event.PersonaSSH{Settings: map[string]string{key: value}, AcceptEnv: []string{"*", "LC_*", "A?"}, Banner: "x"})
			file := filepath.Join(dir, "config")
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			out, err := exec.CommandContext(t.Context(), "/usr/sbin/sshd", "-t", "-f", file, "-h", filepath.Join(dir, "key")).CombinedOutput()
			require.NoError(t, err, "%s %s: %s", key, value, out)
		}
	}
	assert.Greater(t, tried, 60)
}

// A persona may be a hostile host's; that it is clean was checked before, that it can't get out of the pot holds anyway.
func TestAPersonaCannotLeaveThePot(t *testing.T) {
	dir, pot := machineFiles(t)
	outside := t.TempDir()
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "home")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "home")))
	v := webPersona()
	v.TimeZone = "../../../../../../../" + outside + "/zone"
	v.Accounts = append(v.Accounts, event.PersonaAccount{Name: "eve", UID: 1005, GID: 1005, Home: "/home/../../" + outside + "/eve", Shell: "/bin/sh"})
	_ = pot.Become(v, true)
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func FuzzSSHDConfig(f *testing.F) {
	f.Add(shipped, "6", "x")
	f.Fuzz(func(t *testing.T, text, value, banner string) {
		out, _ := furnish.SSHDConfig(text, event.PersonaSSH{Settings: map[string]string{"maxauthtries": value, "usedns": value}, Banner: banner})
		assert.True(t, strings.HasSuffix(out, "\n"))
	})
}
