package doctor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// fake makes a machine out of files.
func fake(t *testing.T, files map[string]string) machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return machine{root: root}
}

// only returns the one finding, which must have a mend unless it is ok.
func only(t *testing.T, list []event.Finding) event.Finding {
	t.Helper()
	require.Len(t, list, 1)
	if list[0].Level != OK {
		require.NotEmpty(t, list[0].Mend, list[0].Text)
	}
	return list[0]
}

func TestPrivileges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		capEff string
		roles  []config.Role
		level  string
		text   string
	}{
		"root":             {"000001ffffffffff", []config.Role{config.RoleAgent, config.RoleHoneypot}, OK, "all that are needed"},
		"none":             {"0000000000000000", []config.Role{config.RoleHoneypot}, Error, "this process lacks CAP_NET_ADMIN, CAP_SYS_ADMIN"},
		"net_admin only":   {"0000000000001000", []config.Role{config.RoleAgent}, OK, "all"},
		"net_admin, node":  {"0000000000001000", []config.Role{config.RoleHoneypot}, Error, "lacks CAP_SYS_ADMIN"},
		"server, needless": {"0000000000000000", []config.Role{config.RoleServer}, OK, "none are needed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := fake(t, map[string]string{"proc/self/status": "Name:\tx\nCapEff:\t" + test.capEff + "\n"})
			f := only(t, m.privileges(Options{Roles: test.roles})(t.Context()))
			require.Equal(t, test.level, f.Level)
			require.Contains(t, f.Text, test.text)
		})
	}
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	m := fake(t, map[string]string{"file": "x"})
	require.NoError(t, os.MkdirAll(m.path("good"), 0o700))
	require.NoError(t, os.MkdirAll(m.path("open"), 0o700))
	require.NoError(t, os.Chmod(m.path("open"), 0o777))
	for dir, want := range map[string]struct{ level, text string }{
		"/good":       {OK, "/good"},
		"/good/later": {OK, "/good/later"},
		"/open":       {Error, "/open can be written by others (mode 0777)"},
		"/file":       {Error, "/file is not a folder"},
	} {
		f := only(t, m.stateDir(dir)(t.Context()))
		require.Equal(t, want.level, f.Level, f.Text)
		require.Contains(t, f.Text, want.text)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // the test ends
	at := netip.MustParseAddrPort(taken.Addr().String())

	f := only(t, port(t.Context(), "bus", "server.bus.listen", "tcp", at, false))
	require.Equal(t, Error, f.Level)
	require.Contains(t, f.Text, "is taken by another program")
	require.Contains(t, f.Mend, fmt.Sprintf("ss -lnp '( sport = :%d )' names it; stop it, or change server.bus.listen", at.Port()))

	require.Equal(t, OK, only(t, port(t.Context(), "bus", "k", "tcp", at, true)).Level, "by the server itself")
	require.Equal(t, OK, only(t, port(t.Context(), "syslog", "k", "udp", netip.MustParseAddrPort("127.0.0.1:0"), false)).Level)

	f = only(t, port(t.Context(), "bus", "server.bus.listen", "tcp", netip.MustParseAddrPort("192.0.2.1:12666"), false))
	require.Equal(t, Error, f.Level)
	require.Equal(t, "192.0.2.1 is not an address of this machine", f.Text)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	m := fake(t, map[string]string{"var/log/auth.log": "x\n", "var/log/empty": "", "var/log/folder/x": ""})
	for file, want := range map[string]struct{ level, text string }{
		"/var/log/auth.log": {OK, "readable, last written "},
		"/var/log/empty":    {Warning, "it is empty"},
		"/var/log/folder":   {Error, "it is not a file"},
		"/var/log/none":     {Error, "there is no such file: nothing is noticed"},
	} {
		f := only(t, m.log(file))
		require.Equal(t, want.level, f.Level, file)
		require.Contains(t, f.Text, want.text)
	}
	require.Equal(t, OK, only(t, m.logs(config.AgentSection{})(t.Context())).Level)
}

func TestPortRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"32768\t60999": OK, "20000\t60999": Error, "1024\t20000": Error, "nonsense": Warning} {
		m := fake(t, map[string]string{"proc/sys/net/ipv4/ip_local_port_range": text + "\n"})
		f := only(t, m.portRange(config.PortRange{First: 20000, Last: 29999})(t.Context()))
		require.Equal(t, want, f.Level, text)
	}
}

func TestModules(t *testing.T) {
	t.Parallel()
	const nft = "kernel/a/nf_tables.ko kernel/a/nf_nat.ko kernel/a/nf_conntrack.ko kernel/a/nft_chain_nat.ko kernel/a/nft_fib_inet.ko kernel/a/nft_masq.ko.xz"
	dep := strings.ReplaceAll(nft, " ", ": x.ko\n") + ": x.ko\n"
	base := map[string]string{"proc/sys/kernel/osrelease": "6.1.0\n", "lib/modules/6.1.0/modules.dep": dep}
	m := fake(t, base)
	agent := []config.Role{config.RoleAgent}
	require.Equal(t, OK, only(t, m.modules(agent)(t.Context())).Level)
	f := only(t, m.modules([]config.Role{config.RoleHoneypot})(t.Context()))
	require.Equal(t, Error, f.Level)
	require.Equal(t, "it has no veth, bridge, nft_tproxy, nft_limit", f.Text)

	base["lib/modules/6.1.0/modules.builtin"] = "kernel/net/bridge/bridge.ko\nkernel/drivers/net/veth.ko\nkernel/net/netfilter/nft_tproxy.ko\nkernel/net/netfilter/nft_limit.ko\n"
	require.Equal(t, OK, only(t, fake(t, base).modules([]config.Role{config.RoleHoneypot})(t.Context())).Level)
	m = fake(t, map[string]string{"proc/sys/kernel/osrelease": "6.1.0\n"})
	require.Equal(t, Warning, only(t, m.modules(agent)(t.Context())).Level, "a container has no list")
}

func TestForwardChains(t *testing.T) {
	t.Parallel()
	chain := func(family, table, name, hook, policy string) string {
		return fmt.Sprintf(`{"chain":{"family":%q,"table":%q,"name":%q,"hook":%q,"policy":%q}}`, family, table, name, hook, policy)
	}
	docker := chain("ip", "filter", "FORWARD", "forward", "drop") + "," + chain("ip", "filter", "DOCKER-USER", "", "")
	for name, test := range map[string]struct {
		chains     string
		dockerUser bool
		level      string
		mend       string
	}{
		"nothing":             {`{"metainfo":{}}`, false, OK, ""},
		"accepts":             {chain("ip", "filter", "FORWARD", "forward", "accept"), false, OK, ""},
		"input drops":         {chain("ip", "filter", "INPUT", "input", "drop"), false, OK, ""},
		"our own":             {chain("inet", "kokkuri", "forward", "forward", "drop"), false, OK, ""},
		"docker":              {docker, false, Warning, "set agent.docker_user: true"},
		"docker, as it wants": {docker, true, OK, ""},
		"another":             {chain("inet", "filter", "forward", "forward", "drop"), true, Warning, "accept there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := only(t, forwardChains([]byte(`{"nftables":[`+test.chains+`]}`), test.dockerUser))
			require.Equal(t, test.level, f.Level, f.Text)
			require.Contains(t, f.Mend, test.mend)
		})
	}
	require.Equal(t, Warning, only(t, forwardChains([]byte("no JSON"), false)).Level)
}

// TestKernel asks the real kernel.
func TestKernel(t *testing.T) {
	t.Parallel()
	m := machine{}
	require.Equal(t, OK, only(t, m.nftables(t.Context())).Level)
	require.Equal(t, OK, only(t, m.namespaces(t.Context())).Level)
}

func TestEngine(t *testing.T) {
	t.Parallel()
	const seccomp = `"SecurityOptions":["name=seccomp,profile=default"`
	for name, test := range map[string]struct {
		version, info string
		want          []string // levels and parts of texts
	}{
		"as it should be": {`{"Version":"20.10.24","ApiVersion":"1.41"}`, `{"LiveRestoreEnabled":true,` + seccomp + `,"name=userns"]}`, []string{"ok: Docker Engine 20.10.24 answers"}},
		"as installed": {
			`{"Version":"20.10.24","ApiVersion":"1.41"}`, `{"LiveRestoreEnabled":false,` + seccomp + `]}`,
			[]string{"ok: Docker", "warning: live-restore is off", "warning: userns-remap is off"},
		},
		"without seccomp": {`{"Version":"20.10.24","ApiVersion":"1.41"}`, `{"LiveRestoreEnabled":true,"SecurityOptions":["name=userns"]}`, []string{"ok: Docker", "error: it runs containers without seccomp"}},
		"too old":         {`{"Version":"18.06","ApiVersion":"1.38"}`, `{}`, []string{"error: Docker Engine 18.06 speaks API 1.38, too old"}},
		"something else":  {`hello`, `{}`, []string{"error: the Docker Engine at"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := test.info
				if r.URL.Path == "/version" {
					answer = test.version
				}
				_, _ = io.WriteString(w, answer)
			}))
			defer s.Close()
			found := engine("tcp://" + s.Listener.Addr().String())(t.Context())
			require.Len(t, found, len(test.want))
			for i, f := range found {
				require.Contains(t, f.Level+": "+f.Text, test.want[i])
				require.True(t, f.Level == OK || f.Mend != "")
			}
		})
	}
}

func TestLookAtRoles(t *testing.T) {
	t.Parallel()
	l, err := config.Load(config.Options{Environ: []string{"KOKKURI_SERVER_RULES=/etc/kokkuri/rules.yaml", "KOKKURI_STATE_DIR=" + t.TempDir(), "KOKKURI_HONEYPOT_ENGINE=unix:///nonexistent.sock"}})
	require.NoError(t, err)
	o := Options{
		Config: l.Up, Roles: []config.Role{config.RoleServer, config.RoleHoneypot, config.RoleAgent},
		Rules: func(string) error { return errors.New("rules.yaml:3: no such rule") },
	}
	found := map[string]event.Finding{}
	for _, f := range Look(t.Context(), o) {
		found[f.Subject] = f
		if f.Level != OK {
			require.NotEmpty(t, f.Mend, f.Text)
		}
	}
	require.Equal(t, "rules.yaml:3: no such rule", found["rules"].Text)
	require.Equal(t, "kokkuri rules test /etc/kokkuri/rules.yaml", found["rules"].Mend)
	require.Equal(t, "the Docker Engine at unix:///nonexistent.sock: nobody answers", found["engine"].Text)
	for _, subject := range []string{"privileges", "state folder", "bus tcp/12666", "nftables", "kernel", "network namespaces", "endpoint ports", "log /var/log/auth.log", "forwarding"} {
		require.Contains(t, found, subject)
	}
	require.True(t, Failed([]event.Finding{found["engine"]}))
	require.False(t, Failed(nil))

	o.Roles = []config.Role{config.RoleServer}
	for _, f := range Look(t.Context(), o) {
		require.NotEqual(t, "engine", f.Subject)
	}
}

// Whoever looks hears loudly that a node fetches for attackers.
func TestEgress(t *testing.T) {
	t.Parallel()
	f := only(t, egress(config.Egress{Default: "sinkhole", Most: "sinkhole"})(t.Context()))
	require.Equal(t, OK, f.Level)
	require.Contains(t, f.Text, "nothing that pots send leaves")
	f = only(t, egress(config.Egress{Default: "sinkhole", Most: "record"})(t.Context()))
	require.Equal(t, Warning, f.Level)
	require.Contains(t, f.Text, "RECORDING IS ON")
	require.NotEmpty(t, f.Mend)
}
