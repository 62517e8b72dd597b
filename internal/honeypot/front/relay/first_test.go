package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

// pair is a connection of TCP, from both its ends.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // it has served
	var d net.Dialer
	near, err = d.DialContext(t.Context(), "tcp4", l.Addr().String())
	require.NoError(t, err)
	far, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func TestFirst(t *testing.T) {
	for name, c := range map[string]struct {
		does  func(attacker, pot net.Conn, end context.CancelCauseFunc)
		first string
		ended string
		idle  time.Duration
	}{
		"it says enough":   {func(a, _ net.Conn, _ context.CancelCauseFunc) { _, _ = io.WriteString(a, "12345678") }, "12345678", "", 0},
		"it says too much": {func(a, _ net.Conn, _ context.CancelCauseFunc) { _, _ = io.WriteString(a, "1234567890") }, "12345678", "", 0},
		"it says no more": {func(a, _ net.Conn, _ context.CancelCauseFunc) {
			_, _ = io.WriteString(a, "123")
			_ = relay.CloseWrite(a)
		}, "123", "", 0},
		"it goes":           {func(a, _ net.Conn, _ context.CancelCauseFunc) { _ = a.Close() }, "", relay.AttackerClosed, 0},
		"the pot goes":      {func(_, p net.Conn, _ context.CancelCauseFunc) { _ = p.Close() }, "", relay.PotClosed, 0},
		"nobody does":       {func(_, _ net.Conn, _ context.CancelCauseFunc) {}, "", relay.Idle, 50 * time.Millisecond},
		"the lease has end": {func(_, _ net.Conn, end context.CancelCauseFunc) { end(errors.New("lease ended")) }, "", "lease ended", 0},
	} {
		t.Run(name, func(t *testing.T) {
			attacker, theirs := pair(t)
			pot, its := pair(t)
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			c.does(theirs, its, end)
			first, ended := relay.First(ctx, attacker, pot, 8, 8, c.idle)
			assert.Equal(t, c.first, string(first))
			assert.Equal(t, c.ended, ended)
			if ended != "" {
				return
			}
			// Both go on as if nothing had been read, and without a deadline.
			_, _ = io.WriteString(its, "the pot")
			got := make([]byte, 7)
			_, err := io.ReadFull(pot, got)
			require.NoError(t, err)
			assert.Equal(t, "the pot", string(got))
			again := make([]byte, len(first))
			_, err = io.ReadFull(relay.Unread(attacker, first), again)
			require.NoError(t, err)
			assert.Equal(t, c.first, string(again))
		})
	}
}
