// Package e2e attacks the lab and holds what it sees against what must hold, on real sshds, a real
// rsyslog, a real Docker Engine and the real kernel. All its tests share one lab and run one after another.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

// soon is how long anything may take that takes milliseconds when the machine has nothing else to do.
const soon = time.Minute

// wrong are five passwords that nobody has: as many as the shipped rule takes.
func wrong() []string { return []string{"alpha", "bravo", "charlie", "delta", "echo"} }

// the is the lab that all tests share, bin the folder of the binaries that it runs.
var (
	the *lab.Lab
	bin string
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx := context.Background()
	unlock, err := alone()
	if err != nil {
		return fail(err)
	}
	defer unlock()
	if bin, err = os.MkdirTemp("", "kokkuri-e2e-"); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(bin) //nolint:errcheck // a temporary folder
	if err := build(ctx); err != nil {
		return fail(err)
	}
	if the, err = lab.New(lab.Options{Out: os.Stderr, Bin: bin}); err != nil {
		return fail(err)
	}
	defer the.Close() //nolint:errcheck // the test is over
	// What another lab left, or a demo that still runs, would be in the way.
	if err := the.Down(ctx); err != nil {
		return fail(err)
	}
	before, err := takeTraces(ctx)
	if err != nil {
		return fail(err)
	}
	if err := the.Up(ctx); err != nil {
		return fail(errors.Join(err, the.Down(ctx)))
	}
	code = m.Run()
	if code != 0 {
		showLogs(ctx)
	}
	if err := the.Down(ctx); err != nil {
		return fail(err)
	}
	after, err := takeTraces(ctx)
	if err != nil {
		return fail(err)
	}
	if left := after.beyond(before); len(left) > 0 {
		for _, line := range left {
			fmt.Fprintln(os.Stderr, "--- FAIL: left behind by lab down:", line)
		}
		return 1
	}
	fmt.Fprintln(os.Stderr, "lab down left nothing behind")
	return code
}

// alone waits until no other run of these tests has the machine's one lab.
func alone() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "kokkuri-e2e.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		fmt.Fprintln(os.Stderr, "another run of the end-to-end tests has the lab: waiting for its end")
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	} else if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil //nolint:errcheck // the lock goes with it
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "--- FAIL:", err)
	return 1
}

func build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin+"/", "./cmd/...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return nil
}

// showLogs is for whoever has to find out what went wrong where the lab is gone.
func showLogs(ctx context.Context) {
	for _, command := range []string{"status", "hosts show " + lab.HostName, "nodes show " + lab.NodeName} {
		text, err := exec.CommandContext(ctx, bin+"/kokkuri", strings.Fields(command)...).CombinedOutput()
		fmt.Fprintf(os.Stderr, "=== kokkuri %s (%v)\n%s", command, err, text)
	}
	for _, path := range []string{the.Server().LogPath(), the.Node().LogPath()} {
		data, err := os.ReadFile(path)
		showLog(path, string(data), err)
	}
	for _, path := range []string{"/var/log/kokkuri-agent.log", "/var/log/auth.log"} {
		data, err := the.Web.ReadFile(ctx, path)
		showLog(path+" of web", string(data), err)
	}
}

// showLog prints the warnings and errors of a log, and its end.
func showLog(path, text string, err error) {
	lines := slices.Collect(strings.Lines(text))
	fmt.Fprintf(os.Stderr, "=== %s (%v)\n", path, err)
	for i, line := range lines {
		if i >= len(lines)-60 || strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			fmt.Fprint(os.Stderr, line)
		}
	}
}

// source is an IPv4 address of the attacker that did nothing yet.
func source(t *testing.T) netip.Addr {
	t.Helper()
	a, err := the.NewSource(t.Context())
	require.NoError(t, err)
	return a
}

// source6 is an IPv6 address of the attacker in a /64 that did nothing yet.
func source6(t *testing.T) netip.Addr {
	t.Helper()
	a, err := the.NewSource6(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	return a
}

// guess makes wrong guesses on one connection and requires that each was refused by a password check.
func guess(t *testing.T, from netip.Addr, passwords ...string) {
	t.Helper()
	refused, err := the.Attacker.Guess(t.Context(), from, "root", passwords...)
	require.ErrorIs(t, err, lab.ErrRefused)
	require.Equal(t, len(passwords), refused)
}

// offend makes as many wrong guesses as the rule takes. The connection may be cut before the last answer.
func offend(t *testing.T, from netip.Addr) {
	t.Helper()
	refused, err := the.Attacker.Guess(t.Context(), from, "root", wrong()...)
	require.Error(t, err)
	require.Equal(t, 5, refused)
}

// deflected waits until the source's redirect is in the kernel.
func deflected(t *testing.T, from netip.Addr) event.Redirect {
	t.Helper()
	r, err := the.WaitRedirect(t.Context(), from, soon, event.Active)
	require.NoError(t, err)
	return r
}

// release ends a source's redirect and waits until the kernel has none.
func release(t *testing.T, from netip.Addr) {
	t.Helper()
	require.NoError(t, the.Release(t.Context(), from))
	eventually(t, fmt.Sprintf("%s is not redirected any more", from), func() (bool, error) { return len(elements(t, from)) == 0, nil })
}

// untouched requires that no redirect of the source was ever made.
func untouched(t *testing.T, from netip.Addr) {
	t.Helper()
	r, err := the.RedirectOf(t.Context(), from)
	assert.ErrorIs(t, err, lab.ErrNoRedirect, "redirect %+v", r)
}

// pipelineDrained waits until whatever was logged before has been decided: a new source's five failures come
// after it in the stream and lead to a redirect.
func pipelineDrained(t *testing.T) {
	t.Helper()
	from := source6(t)
	offend(t, from)
	deflected(t, from)
}

// pot logs in to the attacker's pot.
func pot(t *testing.T, from netip.Addr) *lab.Shell {
	t.Helper()
	shell, err := the.Attacker.Login(t.Context(), lab.Login{From: from, Account: lab.PotAccount, Passwords: []string{lab.PotDecoy, lab.PotPassword}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, shell.Close()) })
	isReal, err := shell.Real(t.Context())
	require.NoError(t, err)
	require.False(t, isReal, "%s is on the real host", from)
	return shell
}

// comesToPot is pot where it may take some tries, because something was just restarted or cut.
func comesToPot(t *testing.T, from netip.Addr) *lab.Shell {
	t.Helper()
	eventually(t, fmt.Sprintf("%s comes to its pot", from), func() (bool, error) {
		shell, err := the.Attacker.Login(t.Context(), lab.Login{From: from, Account: lab.PotAccount, Passwords: []string{lab.PotDecoy, lab.PotPassword}})
		if err != nil {
			return false, err
		}
		return true, shell.Close()
	})
	return pot(t, from)
}

// onRealHost logs in as the user does and requires that this is the real host.
func onRealHost(t *testing.T, m *lab.Machine, from netip.Addr) *lab.Shell {
	t.Helper()
	shell, err := m.Login(t.Context(), lab.Login{From: from, Account: lab.UserAccount, Passwords: []string{lab.UserPassword}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, shell.Close()) })
	isReal, err := shell.Real(t.Context())
	require.NoError(t, err)
	require.True(t, isReal, "%s is not on the real host", from)
	return shell
}

// out runs a command in a shell whose exit code does not matter.
func out(t *testing.T, shell *lab.Shell, command string) string {
	t.Helper()
	text, err := shell.Run(t.Context(), command+"; true")
	require.NoError(t, err)
	return text
}
