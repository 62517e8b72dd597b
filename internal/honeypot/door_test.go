package honeypot_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// withDoor has the fixture's attackers meet OpenSSH.
func withDoor(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	pottest.Doors(t, f.opts.Name)
	f.opts.SSH.Front, f.opts.SSH.Door = honeypot.FrontOpenSSH, pottest.DoorImage
	return f
}

// door returns the node's door's first process.
func (f *fixture) door(t testing.TB) (id string, pid int) {
	t.Helper()
	out := pottest.Run(t, "docker", "ps", "-q", "--no-trunc", "--filter", "label=kokkuri.door="+f.opts.Name)
	id = strings.TrimSpace(out)
	require.NotEmpty(t, id)
	pid, err := strconv.Atoi(strings.TrimSpace(pottest.Run(t, "docker", "inspect", "-f", "{{.State.Pid}}", id)))
	require.NoError(t, err)
	return id, pid
}

// doorFindings are what the node says of its door.
func doorFindings(n *honeypot.Node) []event.Finding {
	return slices.DeleteFunc(n.Findings(), func(f event.Finding) bool { return f.Subject != "door of SSH" })
}

func TestAShellThroughTheDoor(t *testing.T) {
	f := withDoor(t)
	n, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	out, err := f.shell(t.Context(), l.Endpoint, "hostname; id -un; echo $SSH_CONNECTION; cat /proc/1/comm; ls -d /run/door 2>&1; true")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 5)
	assert.Equal(t, []string{"web", "root"}, lines[:2])
	assert.True(t, strings.HasPrefix(lines[2], "203.0.113.66 "), "%s", lines[2])
	assert.NotEqual(t, "door", lines[3])
	assert.Contains(t, lines[4], "No such file")
	require.Eventually(t, func() bool { return len(f.bus.ended()) == 1 }, time.Minute, 10*time.Millisecond)
	s := f.bus.ended()[0]
	assert.Equal(t, "root", string(s.Account))
	assert.Equal(t, 2, s.Guesses)
	assert.Contains(t, string(s.Client), "SSH-2.0-Go")
	assert.NotEmpty(t, s.Recording)
	assert.Positive(t, s.BytesIn)
	assert.Positive(t, s.BytesOut)
	assert.Empty(t, doorFindings(n))
	stop()
	assert.Empty(t, pottest.Run(t, "docker", "ps", "-aq", "--filter", "label=kokkuri.door="+f.opts.Name), "the door goes with the node")
	assert.NoFileExists(t, "/run/kokkuri/door/"+f.opts.Name)
}

// What sshd forwards leaves from the attacker's pot, and what it listens on is in there.
func TestTheDoorIsNoWayAround(t *testing.T) {
	f := withDoor(t)
	f.run(t)
	// On the machine something listens that no pot has: on loopback, and where the endpoints are.
	var lc net.ListenConfig
	secret, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer secret.Close() //nolint:errcheck // a test's listener
	inNode, err := f.Node.ListenTCP(netip.MustParseAddrPort("198.51.100.20:8081"))
	require.NoError(t, err)
	defer inNode.Close() //nolint:errcheck // a test's listener
	l := f.grant(t, "203.0.113.66/32")
	c, err := f.login(t.Context(), l.Endpoint, "123456")
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // a test's connection

	inside, err := c.Dial("tcp", "127.0.0.1:22")
	require.NoError(t, err, "the pot's own server")
	banner := make([]byte, 8)
	_, err = io.ReadFull(inside, banner)
	require.NoError(t, err)
	assert.Equal(t, "SSH-2.0-", string(banner))
	require.NoError(t, inside.Close())

	for _, to := range []string{secret.Addr().String(), "198.51.100.20:8081", "198.51.100.10:22"} {
		got := make(chan string, 1)
		go func() {
			c, err := c.Dial("tcp", to)
			if err != nil {
				got <- "refused"
				return
			}
			defer c.Close() //nolint:errcheck // a test's connection
			_, _ = c.Write([]byte("are you the machine's?\n"))
			got <- "taken"
		}()
		for _, listener := range []net.Listener{secret, inNode} {
			type deadline interface{ SetDeadline(time.Time) error }
			require.NoError(t, listener.(deadline).SetDeadline(time.Now().Add(time.Second)))
			conn, err := listener.Accept()
			if err == nil {
				_ = conn.Close()
			}
			require.Error(t, err, "%s leads to the machine", to)
		}
		select {
		case <-got: // or it still waits for an answer that nobody gives
		default:
		}
	}
	for _, path := range []string{"/run/docker.sock", "/var/run/docker.sock", "/run/door", "/run/kokkuri/server.sock"} {
		_, err = c.Dial("unix", path)
		require.Error(t, err, "%s", path)
	}

	listener, err := c.Listen("tcp", "127.0.0.1:8099")
	require.NoError(t, err)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("from the attacker\n"))
			_ = conn.Close()
		}
	}()
	session, err := c.NewSession()
	require.NoError(t, err)
	out, err := session.CombinedOutput("exec 3<>/dev/tcp/127.0.0.1/8099; cat <&3; ss -Hltn | grep -c 127.0.0.1:8099")
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "from the attacker\n1\n", string(out))
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:8099")
	require.Error(t, err, "it is nowhere else")
	require.NoError(t, c.Close())

	require.Eventually(t, func() bool { return len(f.bus.ended()) == 1 }, time.Minute, 10*time.Millisecond)
	var asked []string
	for _, e := range f.bus.left(f.bus.ended()[0].ID) {
		if e.Kind == event.EvidenceForward {
			asked = append(asked, fmt.Sprintf("%s %s %d", e.Forward.What, e.Forward.Destination, e.Forward.Port))
		}
	}
	assert.Contains(t, asked, "direct-tcpip 127.0.0.1 22")
	assert.Contains(t, asked, "direct-tcpip 198.51.100.20 8081")
	assert.Contains(t, asked, "tcpip-forward 127.0.0.1 8099")
	assert.Contains(t, asked, "direct-streamlocal@openssh.com /run/docker.sock 0")
}

// Whoever takes over an sshd of the door has nothing: an id of its own, no capability, no other program's memory.
func TestTheDoorHoldsNobodyOfUse(t *testing.T) {
	f := withDoor(t)
	f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	c, err := f.login(t.Context(), l.Endpoint, "123456")
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // a test's connection
	s, err := c.NewSession()
	require.NoError(t, err)
	in, err := s.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, s.Start("cat"))
	_, first := f.door(t)
	seen := map[string]int{}
	require.Eventually(t, func() bool {
		clear(seen)
		for _, p := range descendants(t, first) {
			seen[p.name+" "+p.kind()]++
			assert.Equal(t, "1", p.status["NoNewPrivs"], p.name)
			assert.Equal(t, "2", p.status["Seccomp"], p.name)
		}
		return seen["seat nobody"] == 1
	}, time.Minute, 20*time.Millisecond)
	// Beside the first process: the connection's root, which has lost what entered the pot's network, its user, and the seat.
	assert.Equal(t, map[string]int{"door root with SYS_ADMIN": 1, "sshd root": 1, "sshd nobody": 1, "seat nobody": 1}, seen)
	require.NoError(t, in.Close())
	require.NoError(t, s.Wait())

	// Nor may anything there: the door's own root tries.
	try := func(args ...string) string {
		out, err := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(first), "-m", "-p", "--"}, args...)...).CombinedOutput()
		if err == nil {
			return "done: " + string(out)
		}
		return string(out)
	}
	assert.Contains(t, try("touch", "/etc/x"), "Read-only file system")
	assert.Contains(t, try("touch", "/run/door/x"), "Read-only file system")
	routes := pottest.Run(t, "nsenter", "-t", strconv.Itoa(first), "-n", "ip", "route")
	assert.Empty(t, routes, "no way out")
}

type process struct {
	name   string
	status map[string]string
}

func (p process) kind() string {
	const sysAdmin = 1 << 21
	effective, _ := strconv.ParseUint(p.status["CapEff"], 16, 64)
	switch {
	case effective&sysAdmin != 0:
		return "root with SYS_ADMIN"
	case effective != 0:
		return "root"
	case strings.HasPrefix(p.status["Uid"], "0"):
		return "root without capabilities"
	}
	return "nobody"
}

// descendants returns a process and all below it.
func descendants(t *testing.T, pid int) []process {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	p := process{status: map[string]string{}}
	for line := range strings.SplitSeq(string(data), "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			p.status[key] = strings.TrimSpace(value)
		}
	}
	p.name = p.status["Name"]
	out := []process{p}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return out
	}
	for child := range strings.FieldsSeq(string(children)) {
		n, err := strconv.Atoi(child)
		require.NoError(t, err)
		out = append(out, descendants(t, n)...)
	}
	return out
}

// A door that ends is there again at once; sessions end cleanly; an earlier process's door is swept.
func TestTheDoorComesBack(t *testing.T) {
	f := withDoor(t)
	// What a node leaves that was killed.
	out := pottest.Run(t, "docker", "run", "-d", "--network", "none", "--label", "kokkuri.door="+f.opts.Name, "--entrypoint", "sleep", pottest.DoorImage, "600")
	n, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	c, err := f.login(t.Context(), l.Endpoint, "123456")
	require.NoError(t, err)
	left, err := exec.Command("docker", "inspect", strings.TrimSpace(out)).CombinedOutput()
	require.Error(t, err, "%s", left)
	id, _ := f.door(t)
	pottest.Run(t, "docker", "kill", id)
	require.Error(t, c.Wait())
	require.Eventually(t, func() bool { return len(f.bus.ended()) == 1 }, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		out, err := f.shell(t.Context(), l.Endpoint, "echo again")
		return err == nil && out == "again\n"
	}, 60*time.Second, 200*time.Millisecond)
	assert.Empty(t, doorFindings(n))
	stop()
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	for _, s := range f.bus.sessions {
		assert.False(t, s.EndedAt.IsZero(), "%+v", s)
	}
}

// Above the load that it is meant for, an attacker meets the builtin front, as long as it has its lease; and that is told.
func TestAutoTurnsToTheBuiltinFront(t *testing.T) {
	f := withDoor(t)
	f.opts.SSH.Front, f.opts.SSH.AtDoor, f.opts.SSH.Version = honeypot.FrontAuto, 1, "SSH-2.0-builtin"
	n, _ := f.run(t)
	banner := func(c net.Conn) string {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 15)
		_, err := io.ReadFull(c, b)
		require.NoError(t, err)
		return string(b)
	}
	require.Eventually(t, func() bool { // until the door is up, everybody meets the builtin one
		out, err := exec.Command("docker", "ps", "-q", "--filter", "label=kokkuri.door="+f.opts.Name).Output()
		return err == nil && len(out) > 0
	}, 60*time.Second, 50*time.Millisecond)
	first := f.grant(t, "203.0.113.66/32")
	one, err := f.dial(t.Context(), first.Endpoint)
	require.NoError(t, err)
	defer one.Close() //nolint:errcheck // a test's connection
	assert.Equal(t, "SSH-2.0-OpenSSH", banner(one))
	second := f.grant(t, "203.0.113.67/32")
	two, err := f.dial(t.Context(), second.Endpoint)
	require.NoError(t, err)
	assert.Equal(t, "SSH-2.0-builtin", banner(two))
	require.NoError(t, two.Close())
	require.NoError(t, one.Close())
	require.Eventually(t, func() bool { return len(f.bus.ended()) == 2 }, time.Minute, 10*time.Millisecond)
	two, err = f.dial(t.Context(), second.Endpoint)
	require.NoError(t, err)
	defer two.Close() //nolint:errcheck // a test's connection
	assert.Equal(t, "SSH-2.0-builtin", banner(two), "it could compare")
	findings := doorFindings(n)
	require.Len(t, findings, 1)
	assert.Contains(t, findings[0].Text, "1 attackers meet the builtin front")
	f.release(t, second)
	require.Eventually(t, func() bool { return len(doorFindings(n)) == 0 }, time.Minute, 10*time.Millisecond)
}
