package api_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// leave makes a socket that nobody answers on, as a killed process does.
func leave(t *testing.T, socket string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
}
