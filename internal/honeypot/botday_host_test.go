package honeypot_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// realHost is a machine with Debian's own sshd, which lets root in, in a world that has one server.
type realHost struct {
	id    string
	pid   string
	world *netns.NS
}

const (
	hostImage = "kokkuri/botday-host:test"
	dropper   = "192.0.2.80" // the server that bots fetch from
)

// newRealHost starts a host of a name, with all rights that root has on a machine and that do no harm to this one.
func newRealHost(t *testing.T, d *engine.Docker, hostname string) *realHost {
	t.Helper()
	base, err := d.EnsureBase(t.Context(), t.Output())
	require.NoError(t, err)
	require.NoError(t, d.BuildImage(t.Context(), hostImage, os.DirFS("testdata/botday/host"), map[string]string{"BASE": base}, t.Output()))
	args := []string{
		"create", "--network", "none", "--hostname", hostname, "--add-host", "files.example.com:" + dropper,
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--ulimit", "nofile=1024:4096",
	}
	for _, right := range []string{"LINUX_IMMUTABLE", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_NICE", "DAC_READ_SEARCH", "IPC_LOCK", "LEASE"} {
		args = append(args, "--cap-add", right)
	}
	h := &realHost{id: strings.TrimSpace(pottest.Run(t, "docker", append(args, hostImage, "sh", "-c", hostStart)...))}
	t.Cleanup(func() {
		// What bots have made immutable would stay behind.
		_ = exec.Command("docker", "exec", h.id, "sh", "-c", "lsattr -aR /root /etc /var/spool /tmp /var/tmp 2>/dev/null | awk '$1 ~ /[ai]/ { print $2 }' | xargs -r chattr -ai").Run()
		assert.NoError(t, exec.Command("docker", "rm", "--force", h.id).Run())
	})
	pottest.Run(t, "docker", "start", h.id)
	h.pid = strings.TrimSpace(pottest.Run(t, "docker", "inspect", "--format", "{{.State.Pid}}", h.id))
	h.settle(t)
	h.connect(t)
	return h
}

// hostStart is what systemd would start.
const hostStart = `set -e
echo root:123456 | chpasswd
echo PermitRootLogin yes >/etc/ssh/sshd_config.d/root.conf
sed -i /imklog/d /etc/rsyslog.conf
touch /run/utmp
mkdir -p /run/sshd
cron
rsyslogd
exec /usr/sbin/sshd -D`

// settle makes of the container what a machine is where it matters to bots: shared memory whose files can be run, and
// settings of the kernel that can be written, which here are files of the host's own.
func (h *realHost) settle(t *testing.T) {
	t.Helper()
	inside := []string{"-t", h.pid, "-m", "sh", "-c", `set -e
mount -o remount,exec /dev/shm
mkdir /run/kernel && mount -t tmpfs none /run/kernel
for f in vm/nr_hugepages kernel/nmi_watchdog; do
	cat /proc/sys/$f >/run/kernel/${f#*/} && mount --bind /run/kernel/${f#*/} /proc/sys/$f
done`}
	pottest.Run(t, "nsenter", inside...)
}

// connect joins the host with its world, a namespace in which the bots' server is.
func (h *realHost) connect(t *testing.T) {
	t.Helper()
	name := pottest.Name(t, "kkw")
	world, err := netns.Ensure(name)
	require.NoError(t, err)
	h.world = world
	t.Cleanup(func() {
		assert.NoError(t, world.Close())
		assert.NoError(t, netns.Delete(name))
	})
	pottest.Run(t, "ip", "-n", name, "link", "set", "lo", "up")
	pottest.Run(t, "ip", "-n", name, "link", "add", "host", "type", "veth", "peer", "name", "eth0", "netns", h.pid)
	for _, addr := range []string{"203.0.113.1/24", dropper + "/32"} {
		pottest.Run(t, "ip", "-n", name, "addr", "add", addr, "dev", "host")
	}
	pottest.Run(t, "ip", "-n", name, "link", "set", "host", "up")
	for _, args := range []string{"addr add 203.0.113.10/24 dev eth0", "link set eth0 up", "route add default via 203.0.113.1"} {
		pottest.Run(t, "nsenter", append([]string{"-t", h.pid, "-n", "ip"}, strings.Fields(args)...)...)
	}
	serveDroppers(t, world)
}

// login logs in as root, as soon as sshd is there.
func (h *realHost) login(t *testing.T, password string) *ssh.Client {
	t.Helper()
	var client *ssh.Client
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		conn, err := h.world.DialTCP(ctx, netip.MustParseAddrPort("203.0.113.10:22"))
		if err != nil {
			return false
		}
		c, chans, reqs, err := ssh.NewClientConn(conn, "host:22", &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{guesses(decoy, password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err != nil {
			_ = conn.Close()
			return false
		}
		client = ssh.NewClient(c, chans, reqs)
		return true
	}, time.Minute, 100*time.Millisecond)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// memory is this machine's, in bytes.
func memory(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	fields := strings.Fields(string(data)) // MemTotal: N kB
	require.Equal(t, "MemTotal:", fields[0])
	kib, err := strconv.ParseInt(fields[1], 10, 64)
	require.NoError(t, err)
	return kib << 10
}
