// Package journaltest runs a real systemd-journald for tests, in a world of its own.
package journaltest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Journald is a real systemd-journald in a world of its own: mounts and processes. Its journal's files lie in Dir, where a
// journalctl outside reads them.
type Journald struct {
	Dir  string // of its files
	Stop func() // kills it, with all that is in its world

	pid int // of its init, as we see it
}

// world makes the world. /dev/log is journald's there.
const world = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal /run/sshd /run/olddev
mount --bind "$1" /run/log/journal
mount -t tmpfs tmpfs /var/log
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nRuntimeMaxFileSize=8M\nRuntimeMaxUse=64M\n' >/run/systemd/journald.conf.d/test.conf
mount --bind /dev /run/olddev
mount -t tmpfs -o mode=755 tmpfs /dev
for n in null zero random urandom full tty; do touch /dev/$n; mount --bind /run/olddev/$n /dev/$n; done
mkdir /dev/pts /dev/shm
mount --bind /run/olddev/pts /dev/pts
ln -s /proc/self/fd /dev/fd
ln -s pts/ptmx /dev/ptmx
ln -s /run/systemd/journal/dev-log /dev/log
if [ -n "$2" ]; then
	echo "$2" >/run/boot_id
	mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
fi
exec /lib/systemd/systemd-journald
`

// Start starts one that ends with the test.
func Start(t *testing.T) *Journald {
	t.Helper()
	return StartAt(t, t.TempDir(), "")
}

// StartAt starts one that writes into a folder, in a boot of its own where bootID is not empty.
func StartAt(t *testing.T, dir, bootID string) *Journald {
	t.Helper()
	j := &Journald{Dir: dir}
	var said bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", world, "sh", j.Dir, bootID)
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	j.Stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("systemd-journald said: %s", said.String())
		}
	})
	t.Cleanup(j.Stop)
	require.Eventually(t, func() bool { // the entry that says that it started
		b, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/children")
		if err != nil {
			return false
		}
		if j.pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			return false
		}
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(j.pid) + "/comm")
		found, _ := filepath.Glob(filepath.Join(j.Dir, "*", "system.journal"))
		return strings.HasPrefix(string(comm), "systemd-journal") && len(found) == 1 && j.try(t, "logger", "-t", "test", "it is there") == nil
	}, 20*time.Second, 10*time.Millisecond, "systemd-journald starts (apt-get install systemd)")
	return j
}

// Command is a program in journald's world.
func (j *Journald) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(j.pid), "--mount", "--pid"}, args...)...)
}

func (j *Journald) try(t *testing.T, args ...string) error {
	t.Helper()
	return j.Command(t.Context(), args...).Run() //nolint:wrapcheck // only whether it failed
}

// Run runs a program in journald's world.
func (j *Journald) Run(t *testing.T, in string, args ...string) {
	t.Helper()
	cmd := j.Command(t.Context(), args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
}

// Rotate begins a new file.
func (j *Journald) Rotate(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(j.pid, syscall.SIGUSR2))
}

// Vacuum removes all files but the one that is written to.
func (j *Journald) Vacuum(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "journalctl", "--directory="+j.Dir, "--vacuum-files=1").CombinedOutput()
	require.NoError(t, err, string(out))
}
