package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// terminal is a real one, and what its screen was told.
type terminal struct {
	keyboard *os.File // and screen
	tty      *os.File

	mu    sync.Mutex
	shown []byte
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	x := &terminal{keyboard: master, tty: tty}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			x.mu.Lock()
			x.shown = append(x.shown, buf[:n]...)
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_, _ = master.Write([]byte("\n")) // who still reads a key gets one
		_ = tty.Close()
		<-read // the other side has gone
		_ = master.Close()
	})
	return x
}

// modes are how the terminal treats what is typed.
func (x *terminal) modes(t *testing.T) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(x.tty.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return *m
}

// press types keys and waits until the screen shows something after that.
func (x *terminal) press(t *testing.T, keys, want string) {
	t.Helper()
	x.mu.Lock()
	before := len(x.shown)
	x.mu.Unlock()
	_, err := x.keyboard.WriteString(keys)
	require.NoError(t, err)
	x.shows(t, before, want)
}

func (x *terminal) shows(t *testing.T, after int, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return bytes.Contains(x.shown[after:], []byte(want))
	}, time.Minute, time.Millisecond, "%q is not shown", want)
}

// longSession is a server with a session that a shell was open in for ten minutes: it says one, two and so on, to
// nine, a minute apart.
func longSession(t *testing.T) *backend {
	t.Helper()
	b := visited(t)
	rec, err := recording.EncodeHeader(recording.Header{Session: b.sessions[0].ID, Host: "web", Attacker: b.sessions[0].Attacker, StartedAt: now()})
	require.NoError(t, err)
	start, err := json.Marshal(event.Evidence{Start: &event.Start{What: "shell", Term: "xterm", Width: 80, Height: 24}})
	require.NoError(t, err)
	rec = recording.AppendFrame(rec, recording.Frame{Kind: recording.Note, Channel: 1, Payload: start})
	for i := range 9 {
		rec = recording.AppendFrame(rec, recording.Frame{
			Kind: recording.Out, Channel: 1, Offset: time.Duration(i) * time.Minute, Payload: fmt.Appendf(nil, "word%d %s\r\n", i+1, hostile),
		})
	}
	rec = recording.AppendFrame(rec, recording.Frame{Kind: recording.End})
	sum := sha256.Sum256(rec)
	b.sessions[0].Recording = hex.EncodeToString(sum[:])
	b.content = map[string][]byte{b.sessions[0].Recording: rec}
	return b
}

// A replay is played on a real terminal, by its keys.
func TestReplayOnATerminal(t *testing.T) {
	w := newWorld(t, longSession(t))
	x := newTerminal(t)
	before := x.modes(t)
	var errs strings.Builder
	code := make(chan int, 1)
	go func() {
		code <- cli.Kokkuri(t.Context(), cli.Env{
			Args: strings.Fields("sessions replay 0123456789ab --max-idle 0s"), Environ: []string{"KOKKURI_SOCKET=" + w.socket},
			Stdin: x.tty, Stdout: x.tty, Stderr: &errs, Version: "v1.2.3", Now: now,
		}, cli.Roles{})
	}()
	x.shows(t, 0, "word1")
	assert.Zero(t, x.modes(t).Lflag&(unix.ECHO|unix.ICANON), "keys are read one by one, and not shown")
	x.press(t, " ", "0:00 of 8:00, speed 1x")
	x.press(t, ".", "word2")
	x.press(t, "\x1b[C", "1:05 of 8:00")
	x.press(t, "\x1b[D", "1:00 of 8:00")
	x.press(t, "++", "speed 4x")
	x.press(t, "-", "speed 2x")
	x.press(t, "/word7", "/word7")
	x.press(t, "\r", "6:00 of 8:00")
	x.press(t, "/WORD8\r", "7:00 of 8:00")
	x.press(t, "n", "not found: WORD8")
	x.press(t, "q", "\x1b[?25h")
	assert.Equal(t, cli.ExitDone, <-code, errs.String())
	assert.Equal(t, before, x.modes(t), "the terminal is as it was")
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, bad := range []string{"\x1b]", "\a", "\u202e", "\xff"} {
		assert.NotContains(t, string(x.shown), bad)
	}
}

// Without a key a replay ends by itself.
func TestReplayEndsByItself(t *testing.T) {
	w := newWorld(t, longSession(t))
	x := newTerminal(t)
	code := cli.Kokkuri(t.Context(), cli.Env{
		Args: strings.Fields("sessions replay 0123456789ab --max-idle 1ms --speed 64"), Environ: []string{"KOKKURI_SOCKET=" + w.socket},
		Stdin: x.tty, Stdout: x.tty, Stderr: &strings.Builder{}, Version: "v1.2.3", Now: now,
	}, cli.Roles{})
	assert.Equal(t, cli.ExitDone, code)
	x.shows(t, 0, "word9")
}
