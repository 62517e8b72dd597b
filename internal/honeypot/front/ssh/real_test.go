package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/door"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// realSSHD runs the sshd of the pots' image as it comes from Debian, which gives logins so many seconds, and returns where it
// listens.
func realSSHD(t *testing.T, grace string) netip.AddrPort {
	t.Helper()
	pottest.Engine(t, "real") // builds the image
	port := freePort(t)
	script := "mkdir -p /run/sshd; ssh-keygen -A >/dev/null; exec /usr/sbin/sshd -D -f /dev/null -o UsePAM=yes -o LoginGraceTime=" + grace +
		" -o ListenAddress=127.0.0.1 -p " + port
	out, err := exec.CommandContext(t.Context(), "docker", "run", "-d", "--network", "host", "--entrypoint", "/bin/sh", pottest.Image, "-c", script).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { assert.NoError(t, exec.Command("docker", "rm", "-f", strings.TrimSpace(string(out))).Run()) })
	n, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n))
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	return addr
}

// likeReal is a door for what realSSHD is.
func likeReal(t *testing.T, grace string) *site {
	t.Helper()
	return newSiteWith(t, openSSH, choices{kinds: []event.HostKeyKind{{Type: "rsa", Bits: 3072}, {Type: "ecdsa", Bits: 256}, {Type: "ed25519", Bits: 256}}, door: func(o *door.Options) {
		o.FailDelay = 0
		o.Startups = door.Startups{}
		o.Persona = func(event.PotKey) event.PersonaSSH {
			return event.PersonaSSH{Settings: map[string]string{"logingracetime": grace}}
		}
	}})
}

// A scanner can't tell the door from the sshd that it shows.
func TestScannersSeeTheRealThing(t *testing.T) {
	genuine, s := realSSHD(t, "120"), likeReal(t, "120")
	s.dialUntilUp(t)
	// The width of a column is that of the port's number.
	hex, spaces := regexp.MustCompile(`[0-9a-f]{32}`), regexp.MustCompile(` +`)
	scan := func(to netip.AddrPort) string {
		out, errs, code := run(t, "", "nmap", "-n", "-Pn", "-sV", "-p", strconv.Itoa(int(to.Port())), "--script", "ssh2-enum-algos,ssh-hostkey,ssh-auth-methods", "127.0.0.1")
		require.Zero(t, code, errs)
		var blocks []string // a script's each: they answer in any order
		for line := range strings.SplitSeq(out, "\n") {
			line = spaces.ReplaceAllString(hex.ReplaceAllString(strings.ReplaceAll(line, strconv.Itoa(int(to.Port())), "PORT"), "FINGERPRINT"), " ")
			line = strings.Replace(line, "|_", "| ", 1)
			switch {
			case strings.HasPrefix(line, "| ssh") && strings.HasSuffix(line, ": "), strings.Contains(line, "/tcp"), strings.HasPrefix(line, "Service Info"):
				blocks = append(blocks, line)
			case strings.HasPrefix(line, "|") && len(blocks) > 0:
				blocks[len(blocks)-1] += "\n" + line
			}
		}
		slices.Sort(blocks)
		return strings.Join(blocks, "\n")
	}
	want := scan(genuine)
	require.Contains(t, want, "OpenSSH 9.2p1 Debian")
	require.Contains(t, want, "sntrup761x25519-sha512@openssh.com")
	require.Contains(t, want, "rsa-sha2-512")
	require.Contains(t, want, "keyboard-interactive")
	got := scan(s.Addr)
	for range 3 { // scripts give up on a machine that is slow
		if got == want {
			break
		}
		want, got = scan(genuine), scan(s.Addr)
	}
	assert.Equal(t, want, got)
}

// dialUntilUp waits for the door, which answers nobody before it is there.
func (s *site) dialUntilUp(t testing.TB) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr.String())
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // a test's connection
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = io.ReadFull(c, make([]byte, 4))
	require.NoError(t, err)
}

// outcome is what a server answered and how it ended.
type outcome struct {
	Answer string
	End    string
	Late   bool // only when the time for a login was over
}

// probe sends bytes and hears the server to its end.
func probe(t *testing.T, to netip.AddrPort, send []byte) outcome {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Error(err)
		return outcome{}
	}
	defer c.Close() //nolint:errcheck // a test's connection
	_ = c.SetDeadline(time.Now().Add(40 * time.Second))
	began := time.Now()
	var got bytes.Buffer
	hello := make([]byte, 4)
	if n, err := io.ReadFull(c, hello); err != nil {
		t.Errorf("no hello: %v", err)
	} else {
		got.Write(hello[:n])
	}
	_, _ = c.Write(send)
	_, err = io.Copy(&got, c)
	o := outcome{Answer: got.String(), End: "closed", Late: time.Since(began) > 3*time.Second}
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		o.End = "reset"
	case err != nil:
		o.End = err.Error()
	}
	// The cookie of a KEXINIT (RFC 4253, 7.1) is random.
	if line, rest, ok := strings.Cut(o.Answer, "\r\n"); ok && len(rest) > 22 && rest[5] == 20 {
		o.Answer = line + "\r\n" + rest[:6] + strings.Repeat("?", 16) + rest[22:]
	}
	return o
}

func TestProbesAreAnsweredAsByTheRealThing(t *testing.T) {
	genuine, s := realSSHD(t, "4"), likeReal(t, "4")
	s.dialUntilUp(t)
	packet := func(length uint32, rest string) string {
		return "SSH-2.0-probe\r\n" + string([]byte{byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}) + rest
	}
	probes := map[string]string{
		"silence":               "",
		"HTTP":                  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"blank lines":           "\r\n\r\n\r\n",
		"a bad version":         "SSH-1111-x\r\n",
		"SSH-1.5":               "SSH-1.5-x\r\n",
		"SSH-1.99":              "SSH-1.99-x\r\n",
		"no software":           "SSH-2.0\r\n",
		"zero bytes":            "SSH-2.0-\x00\x01\r\n",
		"half a line":           "SSH-2.0-pro",
		"a long line":           "SSH-2.0-" + strings.Repeat("x", 10_000),
		"many lines":            strings.Repeat("x\r\n", 3000),
		"TLS":                   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a truncated packet":    packet(200, "\x04\x14"),
		"an oversized packet":   packet(0xffffffff, "\x04\x14"),
		"a packet too short":    packet(1, "\x00\x14"),
		"too much padding":      packet(12, "\xff\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"a message of no type":  packet(12, "\x04\xc8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"a disconnect":          packet(28, "\x06\x01\x00\x00\x00\x0b\x00\x00\x00\x03bye\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"a version, then lines": "SSH-2.0-probe\r\nGET / HTTP/1.0\r\n\r\n",
	}
	results := make(map[string][2][]outcome) // the real thing's, the door's
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4) // below MaxStartups, with what is still to end
	for name, send := range probes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var seen [2][]outcome
			// A server that closes with something unread may take back what it said last: then answers differ by the moment.
			for range 6 {
				seen[0] = append(seen[0], probe(t, genuine, []byte(send)))
				seen[1] = append(seen[1], probe(t, s.Addr, []byte(send)))
				if common(seen) {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			results[name] = seen
		})
	}
	wg.Wait()
	for name, seen := range results {
		assert.True(t, common(seen), "%s: the real thing %+q, the door %+q", name, seen[0], seen[1])
	}
	assert.True(t, results["silence"][0][0].Late)
	assert.Contains(t, results["HTTP"][0][0].Answer, "Invalid SSH identification string.")
	assert.Contains(t, results["SSH-1.5"][0][0].Answer, "Protocol major versions differ.")
}

// common reports whether both have given one and the same answer.
func common(seen [2][]outcome) bool {
	return slices.ContainsFunc(seen[0], func(o outcome) bool { return slices.Contains(seen[1], o) })
}

// A wrong password takes as long as PAM has it take: two seconds, more or less.
func TestAWrongPasswordTakesItsTime(t *testing.T) {
	s := newSiteWith(t, openSSH, choices{door: func(o *door.Options) { o.FailDelay = 0 }})
	s.dialUntilUp(t)
	began := time.Now()
	_, errs, code := s.opensshAs(t, "wrong", "", "-o", "NumberOfPasswordPrompts=1", "-o", "PreferredAuthentications=password", "127.0.0.1", "true")
	require.Equal(t, 255, code)
	require.Contains(t, errs, "Permission denied (publickey,password,keyboard-interactive)")
	assert.Greater(t, time.Since(began), 900*time.Millisecond)
}

// Who begins too many logins at once is told what OpenSSH tells.
func TestTooManyLoginsAtOnce(t *testing.T) {
	s := newSiteWith(t, openSSH, choices{door: func(o *door.Options) {
		o.Persona = func(event.PotKey) event.PersonaSSH {
			return event.PersonaSSH{Settings: map[string]string{"maxstartups": "3", "logingracetime": "100"}}
		}
	}})
	s.dialUntilUp(t)
	s.forget(t)
	var conns []net.Conn
	for i := range 3 {
		c, err := net.Dial("tcp", s.Addr.String())
		require.NoError(t, err)
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err = io.ReadFull(c, make([]byte, 4))
		require.NoError(t, err, "%d", i)
		conns = append(conns, c)
	}
	c, err := net.Dial("tcp", s.Addr.String())
	require.NoError(t, err)
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	out, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "Exceeded MaxStartups\r\n", string(out))
	for _, c := range append(conns, c) {
		require.NoError(t, c.Close())
	}
	s.ended(t, 4)
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := fmt.Sprint(s.reasons)
	assert.Contains(t, seen, door.TooMany)
}

// An attacker of a host with Debian 11 meets Debian 11's sshd.
func TestTheDoorOfAnotherRelease(t *testing.T) {
	const suite = "bullseye"
	s := newSiteWith(t, openSSH, choices{door: func(o *door.Options) {
		d, ok := o.Engine.(*engine.Docker)
		require.True(t, ok)
		image := pottest.DoorOf(t, d, suite)
		o.Suite = func(event.PotKey) string { return suite }
		o.Spec = func(_ context.Context, wanted string) (engine.DoorSpec, error) {
			if wanted == suite {
				return engine.DoorSpec{Image: image}, nil
			}
			return engine.DoorSpec{Image: pottest.DoorImage}, nil
		}
		o.Persona = func(event.PotKey) event.PersonaSSH {
			return event.PersonaSSH{Settings: map[string]string{"maxauthtries": "4", "kbdinteractiveauthentication": "yes", "pubkeyacceptedalgorithms": "ssh-ed25519"}}
		}
	}})
	s.letIn(t)
	c, err := net.Dial("tcp", s.Addr.String())
	require.NoError(t, err)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	banner := make([]byte, 21)
	_, err = io.ReadFull(c, banner)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.Equal(t, "SSH-2.0-OpenSSH_8.4p1", string(banner))
	for _, method := range []string{"password", "keyboard-interactive"} {
		out, errs, code := s.openssh(t, "", "-o", "PreferredAuthentications="+method, "127.0.0.1", "echo in; exit 3")
		assert.Equal(t, 3, code, errs)
		assert.Equal(t, "in\n", out)
	}
	target := web(t)
	forward, err := s.dial(t).Dial("tcp", target)
	require.NoError(t, err)
	require.NoError(t, forward.Close())
	_, err = s.dial(t).Dial("tcp", "127.0.0.1:1")
	require.Error(t, err)
}
