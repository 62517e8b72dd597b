package process_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/cmd/internal/process"
)

// TestSignals isn't parallel: it sends this process signals.
func TestSignals(t *testing.T) {
	defer goleak.VerifyNone(t)
	exited := make(chan int, 1)
	ctx, stop := process.Context(func(code int) { exited <- code })
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)

	require.NoError(t, self.Signal(syscall.SIGTERM))
	select {
	case <-ctx.Done():
		require.ErrorIs(t, context.Cause(ctx), context.Canceled)
	case <-time.After(time.Minute):
		t.Fatal("the first signal ends nothing")
	}
	require.Empty(t, exited, "the first signal must let the process stop in order")

	require.NoError(t, self.Signal(syscall.SIGINT))
	select {
	case code := <-exited:
		require.Equal(t, 1, code)
	case <-time.After(time.Minute):
		t.Fatal("the second signal does not end the process at once")
	}
}

func TestColourIsForTerminals(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // the test ends
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	os.Stdout = file
	require.False(t, process.Env("v1").Colour, "a file is no terminal")

	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	defer terminal.Close() //nolint:errcheck // the test ends
	os.Stdout = terminal
	require.True(t, process.Env("v1").Colour, "a terminal")
	t.Setenv("NO_COLOR", "1")
	require.False(t, process.Env("v1").Colour, "NO_COLOR is respected")
}

func TestHangups(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	told := process.Hangups(ctx)
	for range 2 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
		case <-time.After(time.Minute):
			t.Fatal("nobody was told")
		}
	}
	stop()
}
