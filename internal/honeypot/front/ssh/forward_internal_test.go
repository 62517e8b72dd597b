package ssh

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzDestination(f *testing.F) {
	f.Add("direct-tcpip", []byte("\x00\x00\x00\x01a\x00\x00\x00\x50\x00\x00\x00\x01b\x00\x00\x00\x51"))
	f.Add("direct-streamlocal@openssh.com", []byte("\x00\x00\x00\x02/x\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		d, ok := destination(kind, payload)
		require.LessOrEqual(t, len(d.Destination), maxAddress)
		require.LessOrEqual(t, len(d.Origin), maxAddress)
		if !ok {
			require.Empty(t, d.Destination)
		}
	})
}
