package collect

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/agent/collect/journaltest"
)

// begun starts a collector and waits until it runs its roads.
func begun(t *testing.T, o Options) (c *Collector, stop func()) {
	t.Helper()
	o.Host, o.Log = "web", slog.New(slog.DiscardHandler)
	c, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return c, stop
}

func stateExists(t *testing.T, state, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(state, "cursors", name))
		return err == nil
	}, time.Minute, time.Millisecond)
}

// messages are what follows the structured data.
func messages(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		_, out[i], _ = strings.Cut(l, `"] `)
	}
	return out
}

func holds(t *testing.T, s *stream, want []string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		if diff := cmp.Diff(want, messages(s.got())); diff != "" {
			c.Errorf("written - and got +:\n%s", diff)
		}
	}, time.Minute, 10*time.Millisecond)
}

func TestJournal(t *testing.T) {
	t.Parallel()
	j, s, state := journaltest.Start(t), &stream{}, t.TempDir()
	log(t, j, "was there before")
	o := Options{StateDir: state, Publish: s.publish, Journal: &Journal{Identifiers: []string{"sshd", "mail"}, Units: []string{"nosuch"}, Directory: j.Dir}}
	c, stop := begun(t, o)
	stateExists(t, state, "journal.json")
	j.Run(t, "", "logger", "-t", "sshd", "--", "plain")
	j.Run(t, "", "logger", "-t", "cron", "--", "not asked for")
	j.Run(t, "", "setpriv", "--reuid=65534", "--clear-groups", "logger", "-t", "sshd", "--", "nobody's")
	j.Run(t, "bytes \xff\x00\x1b[31m]\"\\\n", "systemd-cat", "-t", "mail")
	j.Run(t, "MESSAGE=two\nSYSLOG_IDENTIFIER=mail\n", "logger", "--journald")
	multi := "MESSAGE\n" + string([]byte{9, 0, 0, 0, 0, 0, 0, 0}) + "one\nt\xffwo\n\nSYSLOG_IDENTIFIER=mail\n"
	send(t, j, multi)
	send(t, j, "MESSAGE="+strings.Repeat("x", 30_000)+"\nSYSLOG_IDENTIFIER=mail\n")
	send(t, j, "MESSAGE="+strings.Repeat("y", 600_000)+"\nSYSLOG_IDENTIFIER=mail\n")
	send(t, j, "MESSAGE=twice\nMESSAGE=given\n_UID=0\nSYSLOG_IDENTIFIER=mail\n")
	j.Run(t, "", "logger", "-t", "sshd", "--", "last")
	want := []string{
		"plain", "nobody's", "bytes \xff", "\x1b[31m]\"\\", "two", "one#012t\xffwo", strings.Repeat("x", maxLine/4), "twice", "last",
	}
	require.Eventually(t, func() bool { return len(s.got()) >= len(want) }, time.Minute, 10*time.Millisecond)
	got := s.got()
	if diff := cmp.Diff(want, messages(got)); diff != "" {
		t.Errorf("written - and got +:\n%s", diff)
	}
	require.Contains(t, got[1], `uid="65534"`)
	require.Contains(t, got[1], " sshd ")
	require.Contains(t, got[0], `[kokkuri@32473 uid="0"`)
	require.Len(t, c.Findings(), 2, "one entry was too long, one was cut: %v", c.Findings())
	require.Equal(t, map[string]int64{countCutLines: 1, countCutBytes: 30_000 - maxLine/4, countLeftOut: 1}, c.Counts())

	// A collector that was away takes up where it was, over rotation, and says when entries were vacuumed.
	stop()
	log(t, j, "away 1")
	j.Rotate(t)
	log(t, j, "away 2")
	want = append(want, "away 1", "away 2")
	c, stop = begun(t, o)
	holds(t, s, want)
	require.Empty(t, c.Findings())
	stop()
	log(t, j, "vacuumed")
	j.Rotate(t)
	log(t, j, "kept")
	j.Vacuum(t)
	want = append(want, "kept")
	c, stop = begun(t, o)
	holds(t, s, want)
	require.Len(t, c.Findings(), 1)
	require.Contains(t, c.Findings()[0].Text, "vacuumed")
	stop()
}

// log has logger write a message, and waits until journald wrote it down.
func log(t *testing.T, j *journaltest.Journald, message string) {
	t.Helper()
	j.Run(t, "", "logger", "--socket-errors=on", "-t", "sshd", "--", message)
	var held []string
	defer func() {
		if t.Failed() {
			t.Logf("the journal holds %q", held)
		}
	}()
	require.Eventually(t, func() bool {
		held = inJournal(t, j)
		return slices.Contains(held, message)
	}, time.Minute, 5*time.Millisecond)
}

// inJournal are the messages that the journal holds.
func inJournal(t *testing.T, j *journaltest.Journald) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "journalctl", "--directory="+j.Dir, "--merge", "--output=cat", "SYSLOG_IDENTIFIER=sshd").CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.Split(string(out), "\n")
}

// send sends an entry in journald's own protocol.
func send(t *testing.T, j *journaltest.Journald, text string) {
	t.Helper()
	const program = `import socket,sys,os
b=sys.stdin.buffer.read()
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,8<<20)
s.connect("/run/systemd/journal/socket")
try: s.send(b)
except OSError:
  f=os.memfd_create("entry",os.MFD_ALLOW_SEALING); os.write(f,b)
  import fcntl; fcntl.fcntl(f,1033,15)
  socket.send_fds(s,[b""],[f])
`
	j.Run(t, text, "python3", "-c", program)
}

// TestJournalKilled kills the collector and its journalctl again and again while entries are written and files rotated.
func TestJournalKilled(t *testing.T) {
	t.Parallel()
	j := journaltest.Start(t)
	k := newKilled(t, childSetup{Journal: j.Dir})
	k.launch()
	stateExists(t, k.state, "journal.json")
	pipe, logger := io.Pipe()
	cat := j.Command(t.Context(), "logger", "-t", "sshd")
	cat.Stdin = pipe
	require.NoError(t, cat.Start())
	var want []string
	for round := range 25 {
		for range 1 + rand.IntN(40) {
			want = append(want, "line "+strconv.Itoa(len(want)))
			_, err := fmt.Fprintln(logger, want[len(want)-1])
			require.NoError(t, err)
		}
		if round%5 == 2 {
			j.Rotate(t)
		}
		if round%3 == 1 { // journalctl dies, the collector does not
			require.Eventually(t, func() bool {
				pids := k.children()
				return len(pids) == 1 && syscall.Kill(pids[0], syscall.SIGKILL) == nil
			}, time.Minute, time.Millisecond)
			continue
		}
		k.again(80 * time.Millisecond)
	}
	require.NoError(t, logger.Close())
	require.NoError(t, cat.Wait())
	k.holds(want, messages)
	var left []int
	require.Eventually(t, func() bool { left = k.children(); return len(left) == 1 }, time.Minute, time.Millisecond)
	k.kill()
	require.Eventually(t, func() bool { return syscall.Kill(left[0], 0) != nil }, time.Minute, time.Millisecond, "journalctl ends with its collector")
}
