package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

// eventually asks fn every 50 ms until it says yes.
func eventually(t *testing.T, what string, fn func() (bool, error)) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := fn()
		if ok {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s (last error: %v)", what, soon, err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
	}
}

// eachAtOnce runs fn for all addresses at the same time.
func eachAtOnce(t *testing.T, from []netip.Addr, fn func(*testing.T, netip.Addr)) {
	t.Helper()
	var wg sync.WaitGroup
	for _, a := range from {
		wg.Go(func() { fn(t, a) })
	}
	wg.Wait()
}

// potOf is the pot that belongs to a source.
func potOf(t *testing.T, from netip.Addr) (found event.Pot) {
	t.Helper()
	eventually(t, fmt.Sprintf("the server knows a pot of %s", from), func() (bool, error) {
		pots, err := the.PotsOf(t.Context(), from)
		if len(pots) > 0 {
			found = pots[0]
		}
		return len(pots) == 1, err
	})
	return found
}

// reach is a line of shell that says whether a TCP connection from a pot to host:port comes about.
func reach(host, port string) string {
	return fmt.Sprintf("timeout 3 bash -c ': </dev/tcp/%s/%s' 2>/dev/null && echo reached || echo out of reach", host, port)
}

// kokkuri runs the operator's command and returns its output and exit code.
func kokkuri(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin+"/kokkuri", args...) // cleanups use it too
	text, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		require.NoError(t, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// watch runs a command that goes on until the test has ended, and returns what tells its output so far.
func watch(t *testing.T, args ...string) (output func() string) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "watched")
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), bin+"/kokkuri", args...)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait(); _ = out.Close() })
	return func() string {
		text, err := os.ReadFile(out.Name())
		require.NoError(t, err)
		return string(text)
	}
}

// rules lists web's nftables rules that are Kokkuri's.
func rules(t *testing.T) string {
	t.Helper()
	text, err := the.Web.Exec(t.Context(), "nft", "list", "table", "inet", "kokkuri")
	require.NoError(t, err)
	return text
}

// elements lists the redirects in web's kernel that name a source, as nft shows them.
func elements(t *testing.T, from netip.Addr) []string {
	t.Helper()
	var found []string
	for field := range strings.SplitSeq(strings.NewReplacer("{", ",", "}", ",", "\n", ",").Replace(rules(t)), ",") {
		if strings.Contains(field, lab.Prefix(from).Addr().String()+" .") {
			found = append(found, strings.TrimSpace(field))
		}
	}
	return found
}

// send writes lines to a TCP port of the machine from one of its own addresses.
func send(ctx context.Context, from netip.Addr, to netip.AddrPort, data []byte) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	_, err = conn.Write(data)
	return errors.Join(err, conn.Close())
}

// replaceOnce replaces what must be there.
func replaceOnce(t *testing.T, text, old, by string) string {
	t.Helper()
	require.Contains(t, text, old)
	return strings.Replace(text, old, by, 1)
}
