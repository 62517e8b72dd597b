// Package roadtest follows logs by the agent's roads into the server's parsers: what only both together show.
package roadtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/agent/collect"
	"github.com/kokkuri/kokkuri/internal/agent/collect/journaltest"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// stream keeps the lines that were published.
type stream struct {
	mu    sync.Mutex
	lines [][]byte
}

func (s *stream) publish(_ context.Context, b event.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range b.Lines {
		s.lines = append(s.lines, bytes.Clone(l))
	}
	return nil
}

// with returns the lines in which text stands.
func (s *stream) with(text string) (out [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		if bytes.Contains(l, []byte(text)) {
			out = append(out, l)
		}
	}
	return out
}

func collectInto(t *testing.T, s *stream, o collect.Options) {
	t.Helper()
	o.Host, o.StateDir, o.Publish, o.Log = "web", t.TempDir(), s.publish, slog.New(slog.DiscardHandler)
	c, err := collect.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool {
		found, _ := filepath.Glob(filepath.Join(o.StateDir, "cursors", "*.json"))
		return len(found) > 0
	}, time.Minute, 10*time.Millisecond)
}

// TestWhoeverCallsItselfSSHDInTheJournal: a local user writes the perfect line of a failed login with logger; journald saw who
// it was, and it counts for nothing. The line of the real sshd counts.
func TestWhoeverCallsItselfSSHDInTheJournal(t *testing.T) {
	t.Parallel()
	j, s := journaltest.Start(t), &stream{}
	collectInto(t, s, collect.Options{Journal: &collect.Journal{Identifiers: []string{"sshd", "sshd-session"}, Directory: j.Dir}})
	const forged = "Failed password for root from 203.0.113.66 port 4022 ssh2"
	j.Run(t, "", "setpriv", "--reuid=65534", "--clear-groups", "logger", "-t", "sshd", "-p", "auth.info", "--id=4711", "--", forged)
	j.Run(t, "MESSAGE="+strings.Replace(forged, "4022", "4023", 1)+"\nSYSLOG_IDENTIFIER=sshd\nSYSLOG_PID=4711\n_UID=0\n_EXE=/usr/sbin/sshd\n",
		"setpriv", "--reuid=65534", "--clear-groups", "logger", "--journald")

	port := sshd(t, j)
	out, err := exec.CommandContext(t.Context(), "sshpass", "-p", "wrong", "ssh", "-p", strconv.Itoa(port),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1",
		"-o", "PreferredAuthentications=password", "root@127.0.0.1", "true").CombinedOutput()
	require.Error(t, err, string(out))
	require.Contains(t, string(out), "Permission denied")

	const genuine = "Failed password for root from 127.0.0.1 "
	require.Eventually(t, func() bool { return len(s.with(genuine)) == 1 && len(s.with("203.0.113.66")) == 2 }, time.Minute, 10*time.Millisecond)
	for _, line := range s.with("203.0.113.66") {
		require.Contains(t, string(line), `uid="65534"`)
		require.Equal(t, event.None, parse.Line(line, time.Now()).Kind, string(line))
		without := strings.Replace(string(line), `uid="65534"`, `uid="0"`, 1)
		without = strings.Replace(without, `exe="/usr/bin/logger"`, `exe="/usr/sbin/sshd"`, 1)
		require.Equal(t, event.AuthFailed, parse.Line([]byte(without), time.Now()).Kind, "it is the writer that decides: %s", without)
	}
	e := parse.Line(s.with(genuine)[0], time.Now())
	require.Equal(t, event.AuthFailed, e.Kind)
	require.Equal(t, "127.0.0.1", e.Source.String())
	require.Equal(t, "root", e.Account)
}

// sshd starts Debian's own in journald's world.
func sshd(t *testing.T, j *journaltest.Journald) (port int) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	require.NoError(t, err, string(out))
	port = 15_000 + rand.IntN(5000)
	conf := filepath.Join(dir, "sshd_config")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil,
		"ListenAddress 127.0.0.1\nPort %d\nHostKey %s\nPasswordAuthentication yes\nPermitRootLogin yes\nUsePAM no\nPidFile none\n", port, key), 0o600))
	cmd := j.Command(context.WithoutCancel(t.Context()), "/usr/sbin/sshd", "-D", "-f", conf)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	return port
}
