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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
)

// childEnv tells the test's own program to be a collector.
const childEnv = "KOKKURI_TEST_COLLECT"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		os.Exit(child(args))
	}
	goleak.VerifyTestMain(m)
}

// childSetup is what a collector that is to be killed collects, and where it keeps what.
type childSetup struct {
	State     string   `json:"state"`
	Out       string   `json:"out"` // the file that stands for the stream
	Files     []string `json:"files"`
	Journal   string   `json:"journal"` // the directory of its files
	Log       string   `json:"log"`
	Format    string   `json:"format"` // of Log
	Container string   `json:"container"`
	Redis     string   `json:"redis"`
}

func (c childSetup) options() Options {
	o := Options{Host: "web", Files: c.Files, StateDir: c.State, Log: slog.New(slog.DiscardHandler)}
	if c.Journal != "" {
		o.Journal = &Journal{Identifiers: []string{"sshd"}, Directory: c.Journal}
	}
	if c.Log != "" {
		o.Logs = []Log{{Path: c.Log, Format: testFormats()[c.Format]}}
	}
	if c.Container != "" {
		o.DockerSocket, o.Containers = dockerSocket, []Container{{Name: c.Container, Format: Plain("soft")}}
	}
	if c.Redis != "" {
		o.Redis = []Redis{{Address: c.Redis}}
	}
	return o
}

// record is one batch in the file that stands for the stream.
type record struct {
	ID    string   `json:"id"`
	Lines []string `json:"lines"`
}

// child collects until it is killed. A batch is in the stream once its record is written; the acknowledgement takes a while.
func child(args string) int {
	var setup childSetup
	if err := json.Unmarshal([]byte(args), &setup); err != nil {
		return 2
	}
	out, err := os.OpenFile(setup.Out, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 2
	}
	o := setup.options()
	o.Publish = func(_ context.Context, b event.Batch) error {
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
	}
	c, err := New(o)
	if err != nil || c.Run(context.Background()) != nil {
		return 1
	}
	return 0
}

// killed is a collector in a process of its own that is killed with SIGKILL, again and again.
type killed struct {
	t          *testing.T
	state, out string
	args       string
	cmd        *exec.Cmd
}

func newKilled(t *testing.T, setup childSetup) *killed {
	t.Helper()
	setup.State, setup.Out = t.TempDir(), filepath.Join(t.TempDir(), "stream")
	args, err := json.Marshal(setup)
	require.NoError(t, err)
	k := &killed{t: t, state: setup.State, out: setup.Out, args: string(args)}
	t.Cleanup(k.kill)
	return k
}

func (k *killed) launch() {
	k.t.Helper()
	self, err := os.Executable()
	require.NoError(k.t, err)
	k.cmd = exec.CommandContext(context.WithoutCancel(k.t.Context()), self)
	k.cmd.Env = append(os.Environ(), childEnv+"="+k.args)
	require.NoError(k.t, k.cmd.Start())
}

func (k *killed) kill() {
	if k.cmd != nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
		k.cmd = nil
	}
}

// again kills the collector, when within most is left to chance, and starts another.
func (k *killed) again(most time.Duration) {
	k.t.Helper()
	<-time.After(rand.N(most))
	k.kill()
	k.launch()
}

// children are the processes that the collector started.
func (k *killed) children() (pids []int) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", k.cmd.Process.Pid))
	require.NoError(k.t, err)
	for _, task := range tasks {
		b, _ := os.ReadFile(task) // gone: it had none
		for field := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(field)
			require.NoError(k.t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// holds waits until the stream holds all that is wanted, each once and in order.
func (k *killed) holds(want []string, of func([]string) []string) {
	k.t.Helper()
	var got []string
	again := 0
	for deadline := time.Now().Add(20 * time.Second); len(got) < len(want) && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
		got, again = read(k.t, k.out)
		got = of(got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.t.Fatalf("written - and got +:\n%s", diff)
	}
	k.t.Logf("%d lines; %d batches came again after a kill and were dropped by their IDs", len(want), again)
}

func asTheyAre(lines []string) []string { return lines }

// TestKilled kills a real process with SIGKILL, again and again, while the log is written and rotated. The stream, which drops
// a batch whose ID it knows, holds every line once and in order.
func TestKilled(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "auth.log")
	k := newKilled(t, childSetup{Files: []string{log}})
	k.launch()
	require.Eventually(t, func() bool { // the first look is over: what is written from now on is new
		found, err := filepath.Glob(filepath.Join(k.state, "cursors", "*.json"))
		return err == nil && len(found) == 1
	}, time.Minute, time.Millisecond)
	want := write(t, log, 0, 1)
	require.Eventually(t, func() bool { // a log that was rotated away before it was ever seen is not looked for
		got, _ := read(t, k.out)
		return len(got) == 1
	}, time.Minute, time.Millisecond)

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
		k.again(15 * time.Millisecond)
	}
	want = append(want, write(t, log, len(want), len(want)+1)...)
	k.holds(want, asTheyAre)
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
