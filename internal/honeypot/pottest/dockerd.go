package pottest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Dockerd is an engine of a test's own, which it may restart.
type Dockerd struct {
	dir  string
	args []string
	cmd  *exec.Cmd
}

// SmallImage is an image of an engine of a test's own: a shell in which nothing runs, quickly made.
const SmallImage = "kokkuri/small:test"

// NewDockerd starts an engine that has SmallImage; it goes when the test ends.
func NewDockerd(t testing.TB, liveRestore bool) *Dockerd {
	t.Helper()
	dir, err := os.MkdirTemp("", "kkd") //nolint:usetesting // names of sockets have to be short
	require.NoError(t, err)
	d := &Dockerd{dir: dir, args: []string{
		"--host", "unix://" + dir + "/s", "--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid", "--config-file", dir + "/none",
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "overlay2",
	}}
	require.NoError(t, os.WriteFile(dir+"/none", []byte("{}"), 0o600))
	if liveRestore {
		d.args = append(d.args, "--live-restore")
	}
	t.Cleanup(func() {
		d.stop(t)
		d.unmount(t)
		assert.NoError(t, os.RemoveAll(dir))
	})
	d.start(t)
	busybox, err := exec.LookPath("busybox")
	require.NoError(t, err, "scripts/deps.sh test installs it")
	Run(t, "install", "-D", busybox, dir+"/image/bin/busybox")
	Run(t, "ln", "-s", "busybox", dir+"/image/bin/sh")
	require.NoError(t, os.WriteFile(dir+"/image/motd", []byte("welcome"), 0o600))
	require.NoError(t, os.WriteFile(dir+"/image/Dockerfile", []byte("FROM scratch\nCOPY bin /bin\nCOPY motd /etc/motd\nCMD [\"busybox\", \"sleep\", \"1000000\"]\n"), 0o600))
	Run(t, "docker", "--host", d.Host(), "build", "--quiet", "--tag", SmallImage, dir+"/image")
	return d
}

// Host is the engine's address.
func (d *Dockerd) Host() string { return "unix://" + filepath.Join(d.dir, "s") }

// Restart ends the engine and starts it anew.
func (d *Dockerd) Restart(t testing.TB) {
	t.Helper()
	d.stop(t)
	d.start(t)
}

func (d *Dockerd) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(d.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close() //nolint:errcheck // the engine has its own
	// In a network namespace of its own: without a bridge an engine removes docker0, which is another's.
	d.cmd = exec.CommandContext(context.Background(), "unshare", append([]string{"--net", "dockerd"}, d.args...)...) // it ends with stop
	d.cmd.Stdout, d.cmd.Stderr = log, log
	require.NoError(t, d.cmd.Start())
	require.Eventually(t, func() bool {
		return exec.CommandContext(t.Context(), "docker", "--host", d.Host(), "version").Run() == nil
	}, time.Minute, 50*time.Millisecond, "the engine's log is %s/log", d.dir)
}

func (d *Dockerd) stop(t testing.TB) {
	t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait() // it says how it was ended
}

// unmount undoes what an engine leaves mounted for its next start.
func (d *Dockerd) unmount(t testing.TB) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	for _, line := range slices.Backward(slices.Collect(strings.Lines(string(data)))) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], d.dir+"/") {
			assert.NoError(t, unix.Unmount(fields[1], unix.MNT_DETACH))
		}
	}
}
