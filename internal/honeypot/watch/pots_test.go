package watch_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// seen is what a watcher notes.
type seen struct {
	mu   sync.Mutex
	left []event.Evidence
	kept map[string]string // content by SHA-256
}

func (s *seen) note(_ event.PotKey, _ string, e event.Evidence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, e)
}

func (s *seen) keep(_ event.Attacker, r io.Reader, size int64) (event.Content, error) {
	data, err := io.ReadAll(io.LimitReader(r, 16<<20))
	if err != nil {
		return event.Content{}, err
	}
	sum := sha256.Sum256(data)
	c := event.Content{SHA256: hex.EncodeToString(sum[:]), Size: size, Truncated: int64(len(data)) < size}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[c.SHA256] = string(data)
	return c, nil
}

func (s *seen) evidence() []event.Evidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.left)
}

func (s *seen) executions() (out []event.Execution) {
	for _, e := range s.evidence() {
		if e.Execution != nil {
			out = append(out, *e.Execution)
		}
	}
	return out
}

// ran finds the execution with these arguments.
func (s *seen) ran(args ...string) *event.Execution {
	for _, x := range s.executions() {
		if slices.Equal(texts(x.Args), args) {
			return &x
		}
	}
	return nil
}

func texts(args []event.Bytes) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = string(a)
	}
	return out
}

// wrote finds the last write to a path.
func (s *seen) wrote(path string) *event.Write {
	for _, e := range slices.Backward(s.evidence()) {
		if e.Write != nil && string(e.Write.Path) == path {
			return e.Write
		}
	}
	return nil
}

func (s *seen) content(t *testing.T, c *event.Content) string {
	t.Helper()
	require.NotNil(t, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.kept[c.SHA256]
	require.True(t, ok, "%s is not kept", c.SHA256)
	return data
}

// watched is a pot that is watched.
type watched struct {
	*seen

	w   *watch.Watcher
	pot watch.Pot
	d   *engine.Docker
}

func start(t testing.TB, mode watch.Mode) *watched {
	t.Helper()
	d := pottest.Engine(t, pottest.Name(t, "w"))
	return startIn(t, d, mode)
}

func startIn(t testing.TB, d *engine.Docker, mode watch.Mode) *watched {
	t.Helper()
	pot := makePot(t, d)
	s := &seen{kept: make(map[string]string)}
	w, err := watch.New(watch.Options{Mode: mode, Note: s.note, Keep: s.keep, Every: 5 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		assert.NoError(t, w.Close())
	})
	w.Add(pot)
	require.Empty(t, slices.DeleteFunc(w.Findings(), func(f event.Finding) bool { return f.Level == "ok" || mode != watch.EBPF }))
	return &watched{seen: s, w: w, pot: pot, d: d}
}

func makePot(t testing.TB, d *engine.Docker) watch.Pot {
	t.Helper()
	name := pottest.Name(t, "kkw") + "-" + strconv.FormatInt(time.Now().UnixNano(), 10)
	id, err := d.Create(t.Context(), engine.Spec{Name: name, Image: pottest.Image, Hostname: "web", Resolver: netip.MustParseAddr("10.0.0.1")})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context(), id))
	c, found, err := d.Inspect(t.Context(), id)
	require.NoError(t, err)
	require.True(t, found)
	return watch.Pot{
		Key: event.PotKey{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}, ID: id, PID: c.PID, Created: c.Created,
	}
}

// run runs a script in the pot, and returns when what it did is noted.
func (p *watched) run(t testing.TB, script string) string {
	t.Helper()
	out, err := pottest.InPot(t, p.pot.ID, script)
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		require.NoError(t, err)
	}
	p.flush(t, p.pot.Key)
	return out
}

// flush returns when what was done in a pot is noted; a busy machine takes its time to read what was written.
func (p *watched) flush(t testing.TB, k event.PotKey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	require.NoError(t, p.w.Flush(ctx, k))
}

func TestKernelTellsWhatRuns(t *testing.T) {
	p := start(t, watch.EBPF)
	p.run(t, "/bin/true; sh -c 'exit 3'; sh -c 'kill -9 $$'")
	ran := p.ran("/bin/true")
	require.NotNil(t, ran, "%+v", p.executions())
	assert.Equal(t, event.Bytes("/usr/bin/true"), ran.Path)
	assert.Equal(t, &event.Exit{}, ran.Exit)
	assert.Positive(t, ran.Lasted)
	assert.NotZero(t, ran.PID)
	assert.Less(t, ran.PID, uint32(10_000))
	assert.NotZero(t, ran.Parent)
	assert.Nil(t, ran.File, "true is of the image")
	assert.Equal(t, &event.Exit{Status: 3}, p.ran("sh", "-c", "exit 3").Exit)
	assert.Equal(t, &event.Exit{Signal: "KILL"}, p.ran("sh", "-c", "kill -9 $$").Exit)
	for _, e := range p.evidence() {
		assert.WithinDuration(t, time.Now(), e.At, time.Minute)
	}
}

func TestDroppedProgramsAreKept(t *testing.T) {
	p := start(t, watch.EBPF)
	script := "#!/bin/sh\necho dropped\n"
	p.run(t, `mkdir /tmp/.x; cd /tmp/.x; printf '#!/bin/sh\necho dropped\n' >a; chmod +x a; ./a; rm a
		cp /bin/busybox ./b; ./b uname -a; rm -f b
		cp /bin/busybox /dev/shm/c
		cp /bin/sleep /tmp/d; exec 9</tmp/d; rm /tmp/d; /proc/self/fd/9 2`)
	a := p.ran("/bin/sh", "./a")
	require.NotNil(t, a, "%+v", p.executions())
	assert.Equal(t, event.Bytes("./a"), a.Script)
	assert.Equal(t, event.Bytes("/usr/bin/dash"), a.Path)
	assert.Equal(t, event.Bytes("/tmp/.x"), a.Dir)
	w := p.wrote("/tmp/.x/a")
	require.NotNil(t, w)
	assert.Equal(t, script, p.content(t, w.File))

	busybox := pottest.Run(t, "docker", "exec", p.pot.ID, "sha256sum", "/bin/busybox")[:64]
	b := p.ran("./b", "uname", "-a")
	require.NotNil(t, b)
	assert.Equal(t, event.Bytes("/tmp/.x/b"), b.Path)
	require.NotNil(t, p.wrote("/tmp/.x/b"))
	assert.Equal(t, busybox, p.wrote("/tmp/.x/b").File.SHA256)
	require.NotNil(t, p.wrote("/dev/shm/c"), "%+v", p.evidence())
	assert.Equal(t, busybox, p.wrote("/dev/shm/c").File.SHA256)

	d := p.ran("/proc/self/fd/9", "2")
	require.NotNil(t, d, "%+v", p.executions())
	assert.True(t, d.Unnamed, "%+v", d)
	assert.Equal(t, event.Bytes("/tmp/d"), d.Path)
	require.NotNil(t, d.File)
	assert.Equal(t, pottest.Run(t, "docker", "exec", p.pot.ID, "sha256sum", "/bin/sleep")[:64], d.File.SHA256)
}

func TestProgramThatIsOnlyInMemory(t *testing.T) {
	p := start(t, watch.EBPF)
	p.run(t, `python3 -c '
import os
fd = os.memfd_create("kworker", 0)
os.write(fd, open("/bin/sleep", "rb").read())
os.execve(fd, ["[kworker/0:1]", "2"], {})'`)
	x := p.ran("[kworker/0:1]", "2")
	require.NotNil(t, x, "%+v", p.executions())
	assert.True(t, x.Unnamed)
	assert.Equal(t, event.Bytes("/memfd:kworker"), x.Path)
	require.NotNil(t, x.File)
	assert.Equal(t, pottest.Run(t, "docker", "exec", p.pot.ID, "sha256sum", "/bin/sleep")[:64], x.File.SHA256)
}

func TestOtherPotsAndTheMachineAreNotTold(t *testing.T) {
	p := start(t, watch.EBPF)
	other := makePot(t, p.d)
	_, err := pottest.InPot(t, other.ID, "echo of the other >/tmp/other; /bin/true other")
	require.NoError(t, err)
	pottest.Run(t, "/bin/true", "machine")
	require.NoError(t, os.WriteFile(t.TempDir()+"/machine", []byte("m"), 0o600))
	p.run(t, "/bin/true mine")
	require.NotNil(t, p.ran("/bin/true", "mine"))
	assert.Nil(t, p.ran("/bin/true", "other"))
	assert.Nil(t, p.ran("/bin/true", "machine"))
	for _, e := range p.evidence() {
		if e.Write != nil {
			assert.NotContains(t, string(e.Write.Path), "machine")
			assert.NotContains(t, string(e.Write.Path), "other")
		}
	}
}

func TestConnectionsAndPorts(t *testing.T) {
	for _, mode := range []watch.Mode{watch.EBPF, watch.Polling} {
		t.Run(string(mode), func(t *testing.T) {
			p := start(t, mode)
			// A pot of this test has a loopback only; a connection there that nobody answers is one as well.
			p.run(t, `python3 -c '
import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 4444)); s.listen()
c = socket.create_connection(("127.0.0.1", 4444))
time.sleep(0.3)'`)
			var listens, connects []event.Connection
			for _, e := range p.evidence() {
				switch {
				case e.Connection == nil:
				case e.Connection.What == "listen":
					listens = append(listens, *e.Connection)
				default:
					connects = append(connects, *e.Connection)
				}
			}
			require.True(t, slices.ContainsFunc(listens, func(c event.Connection) bool { return c.Address.Port() == 4444 }), "%+v", listens)
			require.Len(t, connects, 1)
			assert.Equal(t, netip.MustParseAddrPort("127.0.0.1:4444"), connects[0].Address)
			if mode == watch.EBPF {
				assert.NotZero(t, connects[0].PID)
			}
		})
	}
}

func TestHostileNames(t *testing.T) {
	p := start(t, watch.EBPF)
	p.run(t, `d="$(printf '/tmp/\033]0;x\007 \n;')"; mkdir "$d"; cp /bin/true "$d/t"; "$d/t" "$(printf '\033[2J\n')" '' "$(head -c 5000 /dev/zero | tr '\0' a)" late`)
	var x *event.Execution
	for _, e := range p.executions() {
		if strings.HasSuffix(string(e.Path), "/t") {
			x = &e
		}
	}
	require.NotNil(t, x, "%+v", p.executions())
	assert.Equal(t, event.Bytes("/tmp/\x1b]0;x\a \n;/t"), x.Path)
	require.Len(t, x.Args, 4)
	assert.Equal(t, event.Bytes("\x1b[2J"), x.Args[1])
	assert.Empty(t, x.Args[2])
	assert.True(t, x.Truncated)
	assert.NotNil(t, x.File)
}

func TestTrapsForWhoReadsFiles(t *testing.T) {
	p := start(t, watch.EBPF)
	// Closing each of them after writing is told, and none of them may be waited for, acted on or read without end.
	p.run(t, `cd /tmp; mkfifo f; exec 8<>f; exec 8>&-; truncate -s 1T huge; echo x >>/dev/null; echo y >/dev/shm/y; ln -s /etc/shadow l; echo z >>l; echo end >end`)
	huge := p.wrote("/tmp/huge")
	require.NotNil(t, huge, "%+v", p.evidence())
	assert.Equal(t, int64(1)<<40, huge.File.Size)
	assert.True(t, huge.File.Truncated)
	assert.Nil(t, p.wrote("/tmp/f"))
	assert.Nil(t, p.wrote("/dev/null"))
	require.NotNil(t, p.wrote("/etc/shadow"))
	require.NotNil(t, p.wrote("/tmp/end"))
	assert.Equal(t, "end\n", p.content(t, p.wrote("/tmp/end").File))
}

// Both ways of seeing tell the same of what runs long enough to be seen by looking.
func TestPollingTellsWhatTheKernelTells(t *testing.T) {
	// On a busy machine a look takes its time, and they all run at once.
	const script = `mkdir /tmp/p; cd /tmp/p; printf '#!/bin/sh\nsleep 9.3\n' >s; chmod +x s; cp /bin/sleep ./copied; mkdir b; cp /bin/busybox b
		./s &
		./copied 9.3 &
		b/busybox sleep 9.3 &
		printf 'sleep 9.25 # as from curl\n' | sh &
		python3 -c 'import time; time.sleep(9.3)' &
		python3 -c '
import os
fd = os.memfd_create("m", 0)
os.write(fd, open("/bin/sleep", "rb").read())
os.execve(fd, ["[m]", "9.3"], {})' &
		wait`
	told := make(map[watch.Mode][]string)
	for _, mode := range []watch.Mode{watch.EBPF, watch.Polling} {
		p := start(t, mode)
		p.run(t, script)
		for _, x := range p.executions() {
			args := strings.Join(texts(x.Args), " ")
			if !strings.Contains(args, "9.3") && !strings.Contains(args, "9.25") && !strings.HasSuffix(args, "./s") || strings.Contains(args, "mkdir /tmp") ||
				strings.Contains(args, "memfd_create") {
				continue
			}
			sum := ""
			if x.File != nil {
				sum = x.File.SHA256
			}
			told[mode] = append(told[mode], fmt.Sprintf("%s %s %v %s %s", x.Path, args, x.Unnamed, x.Script, sum))
		}
		slices.Sort(told[mode])
		if mode == watch.Polling {
			assert.Equal(t, watch.Polling, first(p.w.Mode()))
		}
	}
	assert.Len(t, told[watch.EBPF], 7, "%q", told[watch.EBPF])
	for _, one := range told[watch.EBPF] {
		assert.Contains(t, told[watch.Polling], one)
	}
}

func first[A, B any](a A, _ B) A { return a }

// A flood is counted, and what comes when it is over is told again. Nobody else's pot suffers.
func TestFloodIsBounded(t *testing.T) {
	p := start(t, watch.EBPF)
	other := makePot(t, p.d)
	other.Key.Attacker = netip.MustParsePrefix("203.0.113.67/32")
	p.w.Add(other)
	const floods = 10_000
	began := time.Now()
	p.run(t, fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true $i; i=$((i+1)); done", floods))
	_, err := pottest.InPot(t, other.ID, "/bin/true after the flood")
	require.NoError(t, err)
	p.flush(t, other.Key)
	require.NotNil(t, p.ran("/bin/true", "after", "the", "flood"))
	told, missed := 0, uint64(0)
	for _, e := range p.evidence() {
		switch {
		case e.Execution != nil && e.Execution.Path == "/usr/bin/true":
			told++
		case e.Missed != nil:
			missed += e.Missed.Executions
		}
	}
	t.Logf("told %d, counted %d", told, missed)
	assert.InDelta(t, floods+1, uint64(told)+missed, 5, "each is told or counted")
	assert.LessOrEqual(t, float64(told), 4000+60*time.Since(began).Seconds(), "4,000 at once, and 50 a second")
	assert.Equal(t, missed, p.w.Counts().Missed.Executions)
}

func TestForkBombIsSurvived(t *testing.T) {
	p := start(t, watch.EBPF)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, "docker", "exec", p.pot.ID, "sh", "-c", "b() { b | b & /bin/true; }; b").Run()
	require.NoError(t, p.d.Kill(t.Context(), p.pot.ID))
	p.w.Drop(p.pot.Key)
	assert.NotEmpty(t, p.executions())
}

// A pot that is restarted is another run, which has to be added again; what is left of the former is not told.
func TestRunsOfAPot(t *testing.T) {
	p := start(t, watch.EBPF)
	p.run(t, "/bin/true one")
	require.NoError(t, p.d.Stop(t.Context(), p.pot.ID))
	p.w.Remove(p.pot.ID)
	require.NoError(t, p.d.Start(t.Context(), p.pot.ID))
	c, _, err := p.d.Inspect(t.Context(), p.pot.ID)
	require.NoError(t, err)
	p.pot.PID = c.PID
	p.w.Add(p.pot)
	p.w.Add(p.pot)
	p.run(t, "/bin/true two")
	require.NotNil(t, p.ran("/bin/true", "one"))
	require.NotNil(t, p.ran("/bin/true", "two"))
	n := 0
	for _, x := range p.executions() {
		if slices.Equal(texts(x.Args), []string{"/bin/true", "two"}) {
			n++
		}
	}
	assert.Equal(t, 1, n)
}

func TestOffSeesNothing(t *testing.T) {
	p := start(t, watch.Off)
	p.run(t, "/bin/true; echo x >/tmp/x")
	assert.Empty(t, p.evidence())
}

func TestModeThatIsNone(t *testing.T) {
	_, err := watch.New(watch.Options{Mode: "dtrace"})
	require.ErrorContains(t, err, `"dtrace"; it has to be auto, ebpf, polling or off`)
}
