package fronttest

import (
	"crypto/tls"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/certificate"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

// FreeAddress is one of this machine at which nothing listens.
func FreeAddress(t testing.TB) (address, port string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	address = l.Addr().String()
	require.NoError(t, l.Close())
	_, port, err = net.SplitHostPort(address)
	require.NoError(t, err)
	return address, port
}

// Start starts a server, which ends with the test, and waits until it takes connections.
func Start(t testing.TB, address string, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
}

// certificates give all hosts the same name.
type certificates struct{ store *certificate.Store }

// Of implements front.Certificates.
func (c certificates) Of(event.PotKey) (tls.Certificate, error) {
	return c.store.Of("web")
}

// Certificates are those of hosts.
func Certificates(t testing.TB) front.Certificates { //nolint:ireturn // what fronts know of them
	t.Helper()
	store, err := certificate.Open(t.TempDir())
	require.NoError(t, err)
	return certificates{store}
}
