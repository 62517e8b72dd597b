package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
)

// trial is one machine that runs all of Kokkuri, and an attacker beside it: two network namespaces with a
// cable between them, and a real sshd.
type trial struct {
	t   *testing.T
	dir string
	api *api.Client
}

const (
	trialHost     = "kokkuri-trial-host"
	trialAttacker = "kokkuri-trial-attacker"
)

func newTrial(t *testing.T) *trial {
	t.Helper()
	x := &trial{t: t, dir: t.TempDir()}
	x.api = api.NewClient(filepath.Join(x.dir, "server.sock"))
	for _, ns := range []string{trialHost, trialAttacker} {
		x.must("ip", "netns", "add", ns)
		t.Cleanup(func() { x.must("ip", "netns", "del", ns) })
	}
	x.must("ip", "link", "add", "kktrial0", "netns", trialHost, "type", "veth", "peer", "name", "kktrial1", "netns", trialAttacker)
	for ns, addrs := range map[string][]string{trialHost: {"192.0.2.10/24", "2001:db8:9:10::10/48"}, trialAttacker: {"192.0.2.66/24", "192.0.2.67/24", "2001:db8:9:66::66/48"}} {
		link := map[string]string{trialHost: "kktrial0", trialAttacker: "kktrial1"}[ns]
		for _, a := range addrs {
			args := []string{"-n", ns, "addr", "add", a, "dev", link}
			if strings.Contains(a, ":") {
				args = append(args, "nodad")
			}
			x.must("ip", args...)
		}
		x.must("ip", "-n", ns, "link", "set", link, "up")
		x.must("ip", "-n", ns, "link", "set", "lo", "up")
	}
	x.sshd()
	x.up()
	return x
}

func (x *trial) must(name string, args ...string) {
	x.t.Helper()
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput()
	require.NoError(x.t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

// inside starts a program in a namespace and ends it with the test.
func (x *trial) inside(ns, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "nsenter", append([]string{"--net=/run/netns/" + ns, name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// sshd runs a real sshd whose messages reach auth.log as a syslog daemon would write them.
func (x *trial) sshd() {
	key, conf := filepath.Join(x.dir, "key"), filepath.Join(x.dir, "sshd_config")
	x.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	require.NoError(x.t, os.WriteFile(conf, fmt.Appendf(nil, "Port 22\nHostKey %s\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication yes\n", key), 0o600))
	require.NoError(x.t, os.MkdirAll("/run/sshd", 0o755))
	log, err := os.Create(filepath.Join(x.dir, "auth.log"))
	require.NoError(x.t, err)
	cmd := x.inside(trialHost, "/usr/sbin/sshd", "-D", "-e", "-f", conf)
	stderr, err := cmd.StderrPipe()
	require.NoError(x.t, err)
	require.NoError(x.t, cmd.Start())
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintf(log, "%s trial sshd[%d]: %s\n", time.Now().Format("2006-01-02T15:04:05.000000Z07:00"), cmd.Process.Pid, strings.TrimRight(lines.Text(), "\r")) //nolint:errcheck // the test fails without the line
		}
	})
	x.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		reading.Wait()
		_ = cmd.Wait()
		_ = log.Close()
	})
}

// up runs `kokkuri up` and ends it in order.
func (x *trial) up() {
	conf := filepath.Join(x.dir, "kokkuri.yaml")
	require.NoError(x.t, os.WriteFile(conf, fmt.Appendf(nil, `
state_dir: %[1]s/state
socket: %[1]s/server.sock
server:
  syslog: {listen_tcp: [], listen_udp: []}
honeypot: {name: trial, guesses: 1, ssh: {fail_delay: 100ms}, pool: {warm: 1}}
agent: {name: trial, files: [%[1]s/auth.log]}
`, x.dir), 0o600))
	cmd := x.inside(trialHost, filepath.Join(bin, "kokkuri"), "up", "--config", conf)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(x.t, cmd.Start())
	x.t.Cleanup(func() {
		require.NoError(x.t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(x.t, cmd.Wait(), "it ends in order; it said: %s", &out)
		require.Contains(x.t, out.String(), "for a trial only")
		require.NoError(x.t, honeypot.Cleanup(context.Background(), honeypot.Options{Name: "trial"}), "the pots that it leaves for its next start")
	})
	require.Eventually(x.t, func() bool {
		nodes, err := api.List[api.Node](x.t.Context(), x.api, api.PathNodes, api.Filter{})
		hosts, err2 := api.List[api.Host](x.t.Context(), x.api, api.PathHosts, api.Filter{})
		return err == nil && err2 == nil && len(nodes) == 1 && nodes[0].Connected && len(nodes[0].Services) > 0 && len(hosts) == 1 && hosts[0].Connected
	}, 90*time.Second, 50*time.Millisecond, "node and agent connect by themselves")
}

// ssh logs in from an address of the attacker; it returns what the command printed.
func (x *trial) ssh(from, to, password string) (string, error) {
	cmd := x.inside(trialAttacker, "sshpass", "-p", password, "ssh", "-b", from, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile="+filepath.Join(x.t.TempDir(), "known"),
		"-o", "UpdateHostKeys=no", "-o", "NumberOfPasswordPrompts=1", "-o", "PreferredAuthentications=password", "-o", "ConnectTimeout=30", "root@"+to, "true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestUpProtectsOneMachine shows that `kokkuri up` makes certificates and connections by itself, and that
// redirecting works where host and node are one machine.
func TestUpProtectsOneMachine(t *testing.T) {
	x := newTrial(t)
	for _, family := range []struct{ host, attacker, bystander string }{
		{"192.0.2.10", "192.0.2.66", "192.0.2.67"},
		{"2001:db8:9:10::10", "2001:db8:9:66::66", ""},
	} {
		source := event.SourcePrefix(netip.MustParseAddr(family.attacker), 64)
		for i := range 5 {
			_, err := x.ssh(family.attacker, family.host, fmt.Sprintf("wrong%d", i))
			require.Error(t, err)
		}
		require.Eventually(t, func() bool {
			rs, err := api.List[event.Redirect](t.Context(), x.api, api.PathRedirects, api.Filter{Source: source})
			return err == nil && len(rs) == 1 && rs[0].State == event.Active
		}, soon, 10*time.Millisecond, "redirect of %s", source)
		_, err := x.ssh(family.attacker, family.host, "hunter2")
		require.Error(t, err, "the front refuses the first guess")
		out, err := x.ssh(family.attacker, family.host, "123456")
		require.NoError(t, err, "the pot lets it in: %s", out)
		if family.bystander != "" {
			_, err = x.ssh(family.bystander, family.host, "123456")
			require.Error(t, err, "the real sshd refuses this password")
		}
	}
}
