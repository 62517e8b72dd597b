package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
)

// childEnv tells the test's own program to be a collector: state directory, file to follow, file that stands for the stream.
const childEnv = "KOKKURI_TEST_COLLECT"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		os.Exit(child(args))
	}
	goleak.VerifyTestMain(m)
}

// record is one batch in the file that stands for the stream.
type record struct {
	ID    string   `json:"id"`
	Lines []string `json:"lines"`
}

// child collects until it is killed. A batch is in the stream once its record is written; the acknowledgement takes a while.
func child(args string) int {
	var dirs [3]string
	if err := json.Unmarshal([]byte(args), &dirs); err != nil {
		return 2
	}
	out, err := os.OpenFile(dirs[2], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 2
	}
	c, err := New(Options{
		Host: "web", Files: []string{dirs[1]}, StateDir: dirs[0], Log: slog.New(slog.DiscardHandler),
		Publish: func(_ context.Context, b event.Batch) error {
			r := record{ID: b.ID}
			for _, l := range b.Lines {
				r.Lines = append(r.Lines, string(l))
			}
			text, err := json.Marshal(r)
			if err != nil {
				return err
			}
			if _, err := out.Write(slices.Concat([]byte{'\n'}, text, []byte{'\n'})); err != nil {
				return err
			}
			<-time.After(time.Duration(rand.IntN(2000)) * time.Microsecond)
			return nil
		},
	})
	if err != nil || c.Run(context.Background()) != nil {
		return 1
	}
	return 0
}

// TestKilled kills a real process with SIGKILL, again and again, while the log is written and rotated. The stream, which drops
// a batch whose ID it knows, holds every line once and in order.
func TestKilled(t *testing.T) {
	t.Parallel()
	state, log, out := t.TempDir(), filepath.Join(t.TempDir(), "auth.log"), filepath.Join(t.TempDir(), "stream")
	args, err := json.Marshal([3]string{state, log, out})
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	launch := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childEnv+"="+string(args))
		require.NoError(t, cmd.Start())
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	cmd := launch()
	defer func() { kill(cmd) }()
	require.Eventually(t, func() bool { // the first look is over: what is written from now on is new
		found, err := filepath.Glob(filepath.Join(state, "cursors", "*.json"))
		return err == nil && len(found) == 1
	}, 10*time.Second, time.Millisecond)
	want := write(t, log, 0, 1)
	require.Eventually(t, func() bool { // a log that was rotated away before it was ever seen is not looked for
		got, _ := read(t, out)
		return len(got) == 1
	}, 10*time.Second, time.Millisecond)

	for round := range 40 {
		for range 5 {
			n := 1 + rand.IntN(60)
			want = append(want, write(t, log, len(want), len(want)+n)...)
		}
		if round%4 == 1 {
			for i := 9; i > 0; i-- {
				_ = os.Rename(fmt.Sprintf("%s.%d", log, i), fmt.Sprintf("%s.%d", log, i+1))
			}
			require.NoError(t, os.Rename(log, log+".1"))
		}
		<-time.After(time.Duration(rand.IntN(15)) * time.Millisecond) // when the kill hits is left to chance
		kill(cmd)
		cmd = launch()
	}
	want = append(want, write(t, log, len(want), len(want)+1)...)
	var got []string
	again := 0
	for deadline := time.Now().Add(20 * time.Second); len(got) < len(want) && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
		got, again = read(t, out)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("written - and got +:\n%s", diff)
	}
	t.Logf("%d lines; %d batches came again after a kill and were dropped by their IDs", len(want), again)
}

// read returns the lines of the stream; again is how many batches were dropped because their IDs were known.
func read(t *testing.T, path string) (lines []string, again int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0
	}
	seen := make(map[string][]string)
	for text := range bytes.Lines(b) {
		var r record
		if json.Unmarshal(text, &r) != nil {
			continue // empty, being written, or cut off by a kill: not in the stream
		}
		if was, ok := seen[r.ID]; ok {
			require.Equal(t, was, r.Lines, "the same ID with other lines")
			again++
			continue
		}
		seen[r.ID] = r.Lines
		lines = append(lines, r.Lines...)
	}
	return lines, again
}
