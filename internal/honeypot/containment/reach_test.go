package containment_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// What a pot holds leads nowhere: its rights, devices, mounts, keys, descriptors and sockets.
func TestWhatAPotHolds(t *testing.T) {
	w := newWard(t)
	p := w.start(t, 0)
	assert.Equal(t, "00000000200404fb 00000000200404fb 1", strings.ReplaceAll(p.say(t, "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | cut -f 2"), "\n", " "))
	assert.Equal(t, "full\nnull\nrandom\ntty\nurandom\nzero", p.say(t, "find / -xdev \\( -type b -o -type c \\) 2>/dev/null; find /dev -xdev \\( -type b -o -type c \\) -printf '%f\\n' | sort"))
	// Nothing of the machine's is mounted but what covers /proc, and that can't be written to.
	var from []string
	for line := range strings.Lines(p.say(t, "cat /proc/self/mountinfo")) {
		left, right, _ := strings.Cut(line, " - ")
		if kind := strings.Fields(right)[0]; !slices.Contains([]string{"proc", "sysfs", "tmpfs", "cgroup", "cgroup2", "devpts", "mqueue"}, kind) {
			from = append(from, strings.Fields(left)[4]+" "+kind)
		}
	}
	slices.Sort(from)
	assert.Equal(t, []string{
		"/ overlay", "/proc/cmdline fuse", "/proc/loadavg fuse", "/proc/meminfo fuse", "/proc/sys/kernel/osrelease fuse", "/proc/sys/kernel/random/boot_id fuse", "/proc/sys/kernel/version fuse", "/proc/version fuse",
	}, from)
	assert.NotContains(t, p.say(t, "echo x > /proc/meminfo && echo written; echo x > /proc/sys/kernel/osrelease && echo written"), "written\n")
	assert.Equal(t, "0", p.say(t, "cat /proc/keys | wc -l"))
	// The node's sockets have no name here, also not those without a file.
	assert.Empty(t, p.say(t, "find / -xdev -type s ! -path '/run/*' ! -path '/dev/*' ! -path '/tmp/*' 2>/dev/null; grep '@' /proc/net/unix"))
	l, err := net.Listen("unix", "@"+pottest.Name(t, "kkc"))
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test's
	dial := fmt.Sprintf(`python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("\0%s")' 2>&1 | tail -n 1`, pottest.Name(t, "kkc"))
	assert.Contains(t, p.say(t, dial), "Connection refused")
	out, err := exec.CommandContext(t.Context(), "sh", "-c", dial).CombinedOutput()
	require.NoError(t, err)
	assert.Empty(t, string(out), "it can be reached where it is")
	// Nor does shared memory of the machine's.
	assert.Equal(t, "0", p.say(t, "tail -n +2 /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -c '^ '"))
}

// The way to everything that a machine with a node has.
func TestNothingOfTheMachineIsReached(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	b.isWell(t)
	l, err := net.Listen("tcp", "[::]:0")
	require.NoError(t, err)
	var reached atomic.Int32
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = c.Close()
		}
	})
	defer accepting.Wait()
	defer l.Close() //nolint:errcheck // a test's
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	targets := []string{
		netip.AddrPortFrom(b.address, 22).String(), netip.AddrPortFrom(w.net.Gateway(), port).String(), netip.AddrPortFrom(w.net.Gateway(), 22).String(),
		"[fd12:3456:789a::1]:22", "[fd12:3456:789a::b]:22", "[ff02::1%eth0]:22", "169.254.169.254:80", "172.17.0.1:22", "192.0.2.1:53", "[2001:db8::1]:53",
	}
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, ad := range addrs {
		if p := netip.MustParsePrefix(ad.String()); !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			targets = append(targets, netip.AddrPortFrom(p.Addr(), port).String())
		}
	}
	const probe = `import socket, sys
for t in sys.argv[1:]:
  host, port = t.rsplit(":", 1)
  for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
      i = socket.getaddrinfo(host.strip("[]"), int(port), 0, kind)[0]
      s = socket.socket(i[0], kind); s.settimeout(1); s.connect(i[4])
      if kind == socket.SOCK_DGRAM: s.send(b"x"); s.recv(1)
      print("reached", t)
    except ConnectionRefusedError: print("answered", t)
    except OSError: pass
print("done")`
	a.say(t, "cat > /root/probe.py <<'END'\n"+probe+"\nEND")
	assert.Equal(t, "done", a.say(t, "python3 /root/probe.py "+strings.Join(targets, " ")))
	assert.Contains(t, a.say(t, "python3 /root/probe.py 127.0.0.1:22"), "reached 127.0.0.1:22", "the program can reach")

	// The sinkhole answers in everybody's place, and lets nobody through.
	w.sinkhole(t, 2)
	logins := func() string { return b.say(t, "ss -Hnt state all '( sport = :22 )' | grep -c "+a.address.String()) }
	assert.Contains(t, a.say(t, "python3 /root/probe.py "+strings.Join(targets, " ")), "reached 192.0.2.1:53")
	assert.Equal(t, "0", logins(), "the other pot's server has met it")
	assert.Zero(t, reached.Load(), "a service of the machine's")
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	_ = conn.Close()
	require.Eventually(t, func() bool { return reached.Load() == 1 }, patience, time.Millisecond, "it counts")
}

// A pot that had what no pot has, the rights to forge what it sends, would still not take another's place: it says that
// another's addresses are its own, and that it is a router, while the other one is silent.
func TestNeighboursAreNotSpoofed(t *testing.T) {
	w := newWard(t)
	victim, witness := w.start(t, 1), w.start(t, 2)
	victim.isWell(t)
	name := pottest.Name(t, "kkc") + "-forger"
	id := strings.TrimSpace(pottest.Run(t, "docker", "run", "-d", "--name", name, "--network", "none", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW",
		"--sysctl", "net.ipv6.conf.all.disable_ipv6=0", "--entrypoint", "sleep", pottest.Image, "1000"))
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", id).Run() })
	var pid int
	_, err := fmt.Sscan(pottest.Run(t, "docker", "inspect", "-f", "{{.State.Pid}}", id), &pid)
	require.NoError(t, err)
	require.NoError(t, w.net.Wire(egress.Port{Pot: name, Run: "1", Index: 0, PID: pid}))
	pottest.Run(t, "docker", "cp", build(t, "spoof"), id+":/spoof")
	const theirs6 = "fd12:3456:789a::b"
	_, err = pottest.InPot(t, id, fmt.Sprintf("ip addr add %s/16 dev eth0; ip addr add %s/64 dev eth0 nodad; (while :; do busybox nc -l -p 7777 </dev/null >/dev/null; done) &", victim.address, theirs6))
	require.NoError(t, err)
	at := netip.AddrPortFrom(victim.address, 7777)
	spoof := func() {
		out, err := pottest.InPot(t, id, fmt.Sprintf("/spoof eth0 %s %s; /spoof eth0 %s fd12:3456:789a::1", victim.address, theirs6, w.net.Gateway()))
		require.NoError(t, err, out)
		require.Contains(t, out, "done")
	}
	ports := portsOf(t, w.namespace)
	require.Len(t, ports, 3)
	routes := func() string { return witness.say(t, "ip -6 route; ip route; ip neigh | grep -v FAILED") }
	before := routes()

	spoof()
	victim.isWell(t)
	assert.Equal(t, before, routes(), "what another pot takes for its router")
	pottest.Run(t, "ip", "-n", w.namespace, "link", "set", portOf(t, w, victim), "down")
	spoof()
	assert.False(t, w.answers(t.Context(), at), "the node takes the forger for its victim")

	// The same where the ports are those of an ordinary bridge.
	for _, port := range ports {
		pottest.Run(t, "bridge", "-n", w.namespace, "link", "set", "dev", port, "isolated", "off", "learning", "on", "flood", "on")
	}
	pottest.Run(t, "ip", "netns", "exec", w.namespace, "nft", "flush", "ruleset")
	pottest.Run(t, "ip", "-n", w.namespace, "neigh", "flush", "all", "nud", "permanent")
	spoof()
	require.Eventually(t, func() bool { return w.answers(t.Context(), at) }, patience, 50*time.Millisecond, "the forger can't forge, so that this test can't fail")
}

// portsOf are the bridge's ports in a namespace.
func portsOf(t *testing.T, namespace string) (out []string) {
	t.Helper()
	for line := range strings.Lines(pottest.Run(t, "ip", "-n", namespace, "-br", "link", "show", "type", "veth")) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
		out = append(out, name)
	}
	return out
}

// portOf is the one that leads to a pot: the index of its other end says which.
func portOf(t *testing.T, w *ward, p *pot) string {
	t.Helper()
	index, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "root/sys/class/net/eth0/iflink"))
	require.NoError(t, err)
	for line := range strings.Lines(pottest.Run(t, "ip", "-n", w.namespace, "-o", "link", "show", "type", "veth")) {
		if rest, ok := strings.CutPrefix(line, strings.TrimSpace(string(index))+": "); ok {
			name, _, _ := strings.Cut(rest, "@")
			return name
		}
	}
	t.Fatalf("no port leads to interface %s", index)
	return ""
}

// Nobody on the network hears what a pot says to all: as a DHCP server, or who asks for one.
func TestNobodyHearsABroadcast(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	const hear = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); s.bind(("", 68)); s.settimeout(%d)
%s
try:
  print("heard", s.recvfrom(100)[0])
except TimeoutError: print("nothing")`
	const say = `
for to in ("255.255.255.255", "172.31.255.255", "%s"):
  try: s.sendto(b"offer", (to, 68))
  except OSError: pass`
	heard := make(chan answer, 1)
	go func() {
		heard <- b.ask(t.Context(), fmt.Sprintf("cat > /root/h.py <<'END'\n"+hear+"\nEND\npython3 /root/h.py", 12, ""))
	}()
	require.Eventually(t, func() bool { return strings.Contains(b.say(t, "ss -Hlun"), ":68 ") }, patience, 50*time.Millisecond)
	for range 3 {
		assert.Equal(t, "heard b'offer'", a.say(t, fmt.Sprintf("cat > /root/h.py <<'END'\n"+hear+"\nEND\npython3 /root/h.py", 2, fmt.Sprintf(say, b.address))), "it is said, and heard by who says it")
	}
	assert.Equal(t, answer{out: "nothing"}, <-heard)
}
