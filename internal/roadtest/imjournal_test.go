package roadtest

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/deploy"
	"github.com/kokkuri/kokkuri/internal/agent/collect/journaltest"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/intake"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// taking is a server's intake for syslog over TCP on this machine, whose only host is web.
func taking(t *testing.T, s *stream) (port uint16) {
	t.Helper()
	in, err := intake.New(intake.Options{
		ListenTCP: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, StateDir: t.TempDir(), Publish: s.publish,
		HostOf:     func(netip.Addr) (string, bool) { return "web", true },
		HostByName: func(name string) (string, bool) { return "web", name == "web" },
		Log:        slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, in.Listen(ctx))
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	tcp, _ := in.Addresses()
	return tcp[0].Port()
}

// imjournal starts Debian's rsyslogd in journald's world, where it reads the journal and sends what the snippet says.
func imjournal(t *testing.T, j *journaltest.Journald, port uint16, dir string) (stop func()) {
	t.Helper()
	snippet, err := deploy.RsyslogConfig(deploy.Snippet{Host: "web", Server: "127.0.0.1", Port: port, Protocol: deploy.TCP})
	require.NoError(t, err)
	conf := filepath.Join(dir, "rsyslog.conf")
	require.NoError(t, os.WriteFile(conf, []byte(`global(workDirectory="`+dir+`" localHostname="web")
module(load="imjournal" StateFile="imjournal.state" PersistStateInterval="1" Ratelimit.Interval="0" IgnorePreviousMessages="off")
`+string(snippet)), 0o600))
	var said bytes.Buffer
	cmd := j.Command(context.WithoutCancel(t.Context()), "setpriv", "--pdeathsig", "KILL", "/usr/sbin/rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start(), "rsyslogd is needed: apt-get install rsyslog")
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		kids, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/children")
		if pid, err := strconv.Atoi(strings.TrimSpace(string(kids))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
		kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
		if t.Failed() {
			t.Logf("rsyslogd said: %s", said.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

// TestImjournal: rsyslog that reads the journal (imjournal, as on Red Hat's systems) says with each line who wrote it, as
// journald saw it; a perfect line by logger, or by journald's own protocol with fields made up, is forged. The real sshd counts.
// What is written while rsyslog is away comes when it is back.
func TestImjournal(t *testing.T) {
	t.Parallel()
	j, s, dir := journaltest.Start(t), &stream{}, t.TempDir()
	stop := imjournal(t, j, taking(t, s), dir)
	const forged = "Failed password for root from 203.0.113.66 port 4022 ssh2"
	nobody := []string{"setpriv", "--reuid=65534", "--clear-groups", "logger", "--socket-errors=on"}
	j.Run(t, "", append(nobody, "-t", "sshd", "-p", "auth.info", "--id=4711", "--", forged)...)
	j.Run(t, "MESSAGE="+forged+"\nSYSLOG_IDENTIFIER=sshd\nSYSLOG_FACILITY=10\nPRIORITY=6\nSYSLOG_PID=4711\n_UID=0\n_EXE=/usr/sbin/sshd\n", append(nobody, "--journald")...)
	j.Run(t, "", append(nobody, "-t", "sshd", "-p", "auth.info", "--", `x [kokkuri@32473 uid="0" exe="/usr/sbin/sshd"] `+forged)...)

	port := sshd(t, j)
	login := func() {
		out, err := exec.CommandContext(t.Context(), "sshpass", "-p", "wrong", "ssh", "-p", strconv.Itoa(port),
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1",
			"-o", "PreferredAuthentications=password", "root@127.0.0.1", "true").CombinedOutput()
		require.Error(t, err, string(out))
		require.Contains(t, string(out), "Permission denied")
	}
	login()
	const genuine = "Failed password for root from 127.0.0.1 "
	require.Eventually(t, func() bool { return len(s.with(genuine)) == 1 && len(s.with("203.0.113.66")) == 3 }, time.Minute, 10*time.Millisecond)
	var p parse.Parser
	for _, line := range s.with("203.0.113.66") {
		require.Contains(t, string(line), `[kokkuri@32473 uid="65534"`)
		e, note := p.Read(line, time.Now())
		require.Equal(t, event.None, e.Kind, string(line))
		require.Equal(t, !bytes.Contains(line, []byte("] x [")), note.Forged, string(line)) // what begins so is none of sshd's
	}
	line := s.with(genuine)[0]
	require.Contains(t, string(line), `[kokkuri@32473 uid="0" exe="/usr/sbin/sshd"`)
	e, note := p.Read(line, time.Now())
	require.Equal(t, event.AuthFailed, e.Kind)
	require.Equal(t, "127.0.0.1", e.Source.String())
	require.False(t, note.Forged)
	require.WithinDuration(t, time.Now(), e.Time, time.Minute)

	stop()
	login()
	j.Rotate(t)
	login()
	imjournal(t, j, taking(t, s), dir)
	require.Eventually(t, func() bool { return len(s.with(genuine)) >= 3 }, time.Minute, 10*time.Millisecond)
}
