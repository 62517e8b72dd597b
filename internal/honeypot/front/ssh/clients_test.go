package ssh_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestWhoGetsIn(t *testing.T) { each(t, testWhoGetsIn) }

func testWhoGetsIn(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	try := func(password string, options ...string) int {
		_, errs, code := s.opensshAs(t, password, "", append(options, "-o", "NumberOfPasswordPrompts=1", "127.0.0.1", "true")...)
		if code == 255 {
			assert.Contains(t, errs, "Permission denied")
		}
		return code
	}
	const refused = 255
	assert.Equal(t, refused, try("one", "-o", "PreferredAuthentications=password"))
	assert.Equal(t, refused, try("one", "-o", "PreferredAuthentications=password"))
	assert.Equal(t, refused, try("one", "-o", "PreferredAuthentications=keyboard-interactive"), "the same guess by another method")
	s.mu.Lock()
	assert.Zero(t, s.stays)
	s.mu.Unlock()
	assert.Zero(t, try("two", "-o", "PreferredAuthentications=keyboard-interactive"))
	assert.Zero(t, try("two", "-o", "PreferredAuthentications=password"))
	assert.Equal(t, refused, try("three", "-o", "PreferredAuthentications=password"))

	var got []event.Login
	for _, e := range kinds(s.ended(t, 6), event.EvidenceLogin) {
		got = append(got, *e.Login)
	}
	assert.Equal(t, []event.Login{
		{Account: "root", Method: "password", Password: "one"},
		{Account: "root", Method: "password", Password: "one"},
		{Account: "root", Method: "keyboard-interactive", Password: "one"},
		{Account: "root", Method: "keyboard-interactive", Password: "two", Success: true},
		{Account: "root", Method: "password", Password: "two", Success: true},
		{Account: "root", Method: "password", Password: "three"},
	}, got)
}

// Who has logged in somewhere may be honest: the password is not kept.
func TestPasswordsOfKnownUsersAreHashed(t *testing.T) { each(t, testPasswordsOfKnownUsersAreHashed) }

func testPasswordsOfKnownUsersAreHashed(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.setKnown()
	s.opensshAs(t, "my own", "", "-o", "NumberOfPasswordPrompts=1", "127.0.0.1", "true")
	all := s.ended(t, 1)
	logins := kinds(all, event.EvidenceLogin)
	require.Len(t, logins, 2, "by both methods")
	assert.Equal(t, event.Login{Account: "root", Method: logins[0].Login.Method, Hash: "$6$hash"}, *logins[0].Login)
	files, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(s.dir, "*", "*", "*"))
	require.NoError(t, err)
	for _, f := range append(files, more...) {
		if data, err := os.ReadFile(f); err == nil {
			assert.NotContains(t, string(data), "my own", f)
		}
	}
}

func TestClientAndKeysAreNoted(t *testing.T) { each(t, testClientAndKeysAreNoted) }

func testClientAndKeysAreNoted(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	key := filepath.Join(t.TempDir(), "id")
	require.NoError(t, exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key).Run())
	args := append([]string{"-p", password, "ssh", "-p", strconv.Itoa(int(s.Addr.Port()))},
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i", key, "-l", account)
	_, _, code := run(t, "", "sshpass", append(args, "127.0.0.1", "true")...)
	require.Zero(t, code)
	all := s.ended(t, 1)
	client := kinds(all, event.EvidenceClient)
	require.Len(t, client, 1)
	c := client[0].Client
	assert.True(t, strings.HasPrefix(string(c.Version), "SSH-2.0-OpenSSH_"), "%s", c.Version)
	assert.Len(t, c.HASSH, 32)
	assert.Contains(t, c.KEX, event.Bytes("curve25519-sha256"))
	assert.Contains(t, c.Ciphers, event.Bytes("aes128-ctr"))
	keys := kinds(all, event.EvidenceKey)
	require.Len(t, keys, 1)
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-l", "-f", key).Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), keys[0].Key.Fingerprint)
	out, err = exec.CommandContext(t.Context(), "ssh-keygen", "-l", "-E", "md5", "-f", key).Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "MD5:"+keys[0].Key.MD5)
	public, err := os.ReadFile(key + ".pub")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(public), keys[0].Key.Key))
}

func TestOpenSSHRuns(t *testing.T) { each(t, testOpenSSHRuns) }

func testOpenSSHRuns(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	for name, c := range map[string]struct {
		stdin string
		args  []string
		out   string
		errs  string
		code  int
	}{
		"a command":         {args: []string{"127.0.0.1", "echo out; echo err >&2; exit 7"}, out: "out\n", errs: "err\n", code: 7},
		"standard input":    {stdin: "one\ntwo\n", args: []string{"127.0.0.1", "wc -l"}, out: "2\n"},
		"a signal":          {args: []string{"127.0.0.1", "kill -TERM $$"}, code: 255},
		"a terminal":        {args: []string{"-tt", "127.0.0.1", "tty >/dev/null && echo yes"}, out: "yes\r\n", errs: "Connection to 127.0.0.1 closed.\r\n"},
		"no terminal":       {args: []string{"-T", "127.0.0.1", "tty"}, out: "not a tty\n", code: 1},
		"compression":       {args: []string{"-C", "127.0.0.1", "seq 3"}, out: "1\n2\n3\n"},
		"a variable":        {args: []string{"-o", "SendEnv=LC_TEST", "127.0.0.1", "echo $LC_TEST"}, out: "from the client\n"},
		"a shell by stdin":  {stdin: "echo $((6*7))\nexit 3\n", args: []string{"-T", "127.0.0.1"}, out: "42\n", code: 3},
		"no input":          {stdin: "ignored", args: []string{"-n", "127.0.0.1", "cat"}},
		"a long-lived one":  {args: []string{"127.0.0.1", "sleep 0.3; echo late"}, out: "late\n"},
		"an unknown system": {args: []string{"-s", "127.0.0.1", "nothing"}, errs: "subsystem request failed on channel 0\r\n", code: 255},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := s.openssh(t, c.stdin, c.args...)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.out, out)
			if !strings.Contains(strings.Join(c.args, " "), "-tt") {
				assert.Equal(t, c.errs, errs)
			}
			// As against the server itself, but for the words about a connection.
			_, _ = errs, c.errs
		})
	}
}

func TestWhatRanIsNoted(t *testing.T) { each(t, testWhatRanIsNoted) }

func testWhatRanIsNoted(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	_, _, code := s.openssh(t, "", "-o", "SendEnv=LC_TEST", "127.0.0.1", "printf '\\033[2J'; exit 7")
	require.Equal(t, 7, code)
	all := s.ended(t, 1)
	variables := kinds(all, event.EvidenceVariable)
	assert.Contains(t, fmt.Sprint(variables), "")
	starts := kinds(all, event.EvidenceStart)
	require.Len(t, starts, 1)
	assert.Equal(t, event.Start{What: "exec", Command: "printf '\\033[2J'; exit 7"}, *starts[0].Start)
	exits := kinds(all, event.EvidenceExit)
	require.Len(t, exits, 1)
	assert.Equal(t, 7, exits[0].Exit.Status)
	assert.Equal(t, starts[0].Channel, exits[0].Channel)
	found := false
	for _, e := range variables {
		found = found || *e.Variable == event.Variable{Name: "LC_TEST", Value: "from the client"}
	}
	assert.True(t, found)
	s.forget(t)

	_, _, code = s.openssh(t, "whoami\nexit\n", "-tt", "127.0.0.1")
	require.Zero(t, code)
	all = s.ended(t, 1)
	starts = kinds(all, event.EvidenceStart)
	require.Len(t, starts, 1)
	assert.Equal(t, "shell", starts[0].Start.What)
	assert.True(t, starts[0].Start.Terminal())
	var lines []string
	for _, e := range kinds(all, event.EvidenceInput) {
		lines = append(lines, string(e.Input))
	}
	assert.Equal(t, []string{"whoami", "exit"}, lines)
	closed := kinds(all, event.EvidenceClosed)
	require.Len(t, closed, 1)
}

func TestControlMaster(t *testing.T) { each(t, testControlMaster) }

func testControlMaster(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	control := filepath.Join(t.TempDir(), "c")
	_, errs, code := s.openssh(t, "", "-M", "-S", control, "-f", "-N", "127.0.0.1")
	require.Zero(t, code, errs)
	for i := range 5 {
		out, errs, code := run(t, "", "ssh", "-S", control, "127.0.0.1", "echo", strconv.Itoa(i))
		require.Zero(t, code, errs)
		assert.Equal(t, strconv.Itoa(i)+"\n", out)
	}
	_, _, code = run(t, "", "ssh", "-S", control, "-O", "exit", "127.0.0.1")
	require.Zero(t, code)
	assert.Len(t, kinds(s.ended(t, 1), event.EvidenceStart), 5, "on one connection")
}

// web is a server in reach of the pot only; here everything is.
func web(t *testing.T) string {
	t.Helper()
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("inside")) }))
	t.Cleanup(w.Close)
	return strings.TrimPrefix(w.URL, "http://")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test's listener
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func TestForwarding(t *testing.T) { each(t, testForwarding) }

func testForwarding(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	target := web(t)
	_, targetPort, err := net.SplitHostPort(target)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		flags func(port string) []string
		curl  func(port string) []string
		what  string
	}{
		"-L": {
			func(port string) []string { return []string{"-L", port + ":" + target} },
			func(port string) []string { return []string{"http://127.0.0.1:" + port} }, "direct-tcpip",
		},
		"-D": {
			func(port string) []string { return []string{"-D", port} },
			func(port string) []string { return []string{"--socks5", "127.0.0.1:" + port, "http://" + target} }, "direct-tcpip",
		},
		"-R": {
			func(port string) []string { return []string{"-R", port + ":" + target} },
			func(port string) []string { return []string{"http://127.0.0.1:" + port} }, "tcpip-forward",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.forget(t)
			port, control := freePort(t), filepath.Join(t.TempDir(), "c")
			_, errs, code := s.openssh(t, "", append(c.flags(port), "-o", "ExitOnForwardFailure=yes", "-M", "-S", control, "-f", "-N", "127.0.0.1")...)
			require.Zero(t, code, errs)
			for range 3 {
				out, errs, code := run(t, "", "curl", append([]string{"-sS", "--max-time", "10"}, c.curl(port)...)...)
				require.Zero(t, code, errs)
				assert.Equal(t, "inside", out)
			}
			_, _, code = run(t, "", "ssh", "-S", control, "-O", "exit", "127.0.0.1")
			require.Zero(t, code)
			forwards := kinds(s.ended(t, 1), event.EvidenceForward)
			require.NotEmpty(t, forwards)
			assert.Equal(t, c.what, forwards[0].Forward.What)
			if c.what == "direct-tcpip" {
				assert.Equal(t, "127.0.0.1", string(forwards[0].Forward.Destination))
				assert.Equal(t, targetPort, strconv.Itoa(int(forwards[0].Forward.Port)))
				assert.Len(t, forwards, 3)
			}
		})
	}
}

func TestForwardingThatFailsIsTold(t *testing.T) { each(t, testForwardingThatFailsIsTold) }

func testForwardingThatFailsIsTold(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	c := s.dial(t)
	_, err := c.Dial("tcp", "127.0.0.1:1")
	require.ErrorContains(t, err, "Connection refused")
	require.NoError(t, c.Close())
	forwards := kinds(s.ended(t, 1), event.EvidenceForward)
	require.Len(t, forwards, 1)
	assert.True(t, forwards[0].Forward.Refused)
}

// something is a file that is worth checking.
func something(t *testing.T, size int) (path, sum string) {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	path = filepath.Join(t.TempDir(), "some thing")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	hash := sha256.Sum256(data)
	return path, hex.EncodeToString(hash[:])
}

// Each client brings a file and fetches it again.
func TestFilesByEveryClient(t *testing.T) { each(t, testFilesByEveryClient) }

func testFilesByEveryClient(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	port := strconv.Itoa(int(s.Addr.Port()))
	opts := strings.Join(s.options(), " ")
	pass := func(args ...string) []string { return append([]string{"sshpass", "-p", password}, args...) }
	hostKey := fingerprint(t, s)
	putty := func(program string, args ...string) []string {
		return append([]string{program, "-batch", "-P", port, "-l", account, "-pw", password, "-hostkey", hostKey}, args...)
	}
	for name, c := range map[string]struct {
		how   string
		stdin func(local, remote, back string) string
		up    func(local, remote string) []string
		down  func(remote, back string) []string
	}{
		"sftp": {
			how:   "sftp",
			stdin: func(l, r, b string) string { return fmt.Sprintf("put %q %q\nget %q %q\n", l, r, r, b) },
			up: func(_, _ string) []string {
				return pass(append([]string{"sftp", "-P", port}, s.options("127.0.0.1")...)...)
			},
		},
		"scp": {
			how: "sftp",
			up: func(l, r string) []string {
				return pass(append([]string{"scp", "-P", port}, s.options(l, "127.0.0.1:"+r)...)...)
			},
			down: func(r, b string) []string {
				return pass(append([]string{"scp", "-P", port}, s.options("127.0.0.1:"+r, b)...)...)
			},
		},
		"scp, the old protocol": {
			how: "scp",
			up: func(l, r string) []string {
				return pass(append([]string{"scp", "-O", "-P", port}, s.options(l, "127.0.0.1:"+r)...)...)
			},
			down: func(r, b string) []string {
				return pass(append([]string{"scp", "-O", "-P", port}, s.options("127.0.0.1:"+r, b)...)...)
			},
		},
		"rsync": {
			how:  "rsync",
			up:   func(l, r string) []string { return pass("rsync", "-e", "ssh -p "+port+" "+opts, l, "127.0.0.1:"+r) },
			down: func(r, b string) []string { return pass("rsync", "-e", "ssh -p "+port+" "+opts, "127.0.0.1:"+r, b) },
		},
		"psftp": {
			how: "sftp",
			stdin: func(l, r, b string) string {
				return fmt.Sprintf("put \"%s\" \"%s\"\nget \"%s\" \"%s\"\nquit\n", l, r, r, b)
			},
			up: func(_, _ string) []string { return putty("psftp", "127.0.0.1") },
		},
		"pscp": {
			how:  "sftp",
			up:   func(l, r string) []string { return putty("pscp", l, "127.0.0.1:"+r) },
			down: func(r, b string) []string { return putty("pscp", "127.0.0.1:"+r, b) },
		},
		"cat": {
			how: "stdin",
			up: func(l, r string) []string {
				return []string{"sh", "-c", "sshpass -p " + password + " ssh -p " + port + " " + opts + " 127.0.0.1 'cat > " + r + "' < '" + l + "'"}
			},
			down: func(r, b string) []string {
				return []string{"sh", "-c", "sshpass -p " + password + " ssh -p " + port + " " + opts + " 127.0.0.1 'cat " + r + "' > '" + b + "'"}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.forget(t)
			local, sum := something(t, 300_000)
			remote, back := filepath.Join(t.TempDir(), "brought"), filepath.Join(t.TempDir(), "back")
			stdin := ""
			if c.stdin != nil {
				stdin = c.stdin(local, remote, back)
			}
			up := c.up(local, remote)
			out, errs, code := run(t, stdin, up[0], up[1:]...)
			require.Zero(t, code, "%s %s", out, errs)
			if c.down != nil {
				down := c.down(remote, back)
				out, errs, code := run(t, "", down[0], down[1:]...)
				require.Zero(t, code, "%s %s", out, errs)
			}
			got, err := os.ReadFile(back)
			require.NoError(t, err)
			want, err := os.ReadFile(local)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, got))
			n := 1
			if c.down != nil {
				n = 2
			}
			files := kinds(s.ended(t, n), event.EvidenceFile)
			require.Len(t, files, 1)
			f := *files[0].File
			assert.Equal(t, c.how, f.How)
			assert.Equal(t, sum, f.SHA256)
			assert.Equal(t, int64(300_000), f.Size)
			assert.False(t, f.Partial || f.Truncated)
			if c.how != "stdin" {
				assert.Equal(t, remote, string(f.Path))
			}
			kept, _, err := s.vault.Read(f.SHA256, 0, 1<<20)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, kept))
		})
	}
}

// fingerprint is the front's host key, as PuTTY wants to be told.
func fingerprint(t *testing.T, s *site) string {
	t.Helper()
	out, _, _ := run(t, "", "sh", "-c", "ssh-keyscan -t ed25519 -p "+strconv.Itoa(int(s.Addr.Port()))+" 127.0.0.1 2>/dev/null | ssh-keygen -lf -")
	fields := strings.Fields(out)
	require.Greater(t, len(fields), 1)
	s.forget(t)
	return fields[1]
}

func TestOtherClientsRun(t *testing.T) { each(t, testOtherClientsRun) }

func testOtherClientsRun(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	port := strconv.Itoa(int(s.Addr.Port()))
	t.Run("plink", func(t *testing.T) {
		out, errs, code := run(t, "in\n", "plink", "-ssh", "-batch", "-P", port, "-l", account, "-pw", password, "-hostkey", fingerprint(t, s), "127.0.0.1", "cat; exit 4")
		assert.Equal(t, 4, code, errs)
		assert.Equal(t, "in\n", out)
	})
	t.Run("dropbear", func(t *testing.T) {
		out, errs, code := run(t, "", "env", "DROPBEAR_PASSWORD="+password, "dbclient", "-y", "-y", "-p", port, "-l", account, "127.0.0.1", "echo dropbear; exit 5")
		assert.Equal(t, 5, code, errs)
		assert.Equal(t, "dropbear\n", out)
	})
	t.Run("paramiko", func(t *testing.T) {
		local, sum := something(t, 100_000)
		remote := filepath.Join(t.TempDir(), "brought")
		s.forget(t)
		script := `
import sys, paramiko, time
port, password, local, remote = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect("127.0.0.1", port, "root", password, look_for_keys=False, allow_agent=False)
i, o, e = c.exec_command("cat; echo err >&2; exit 6")
i.write("through paramiko"); i.channel.shutdown_write()
print(o.read().decode(), e.read().decode().strip(), o.channel.recv_exit_status())
f = c.open_sftp(); f.put(local, remote); print(f.stat(remote).st_size); f.close()
sh = c.invoke_shell(width=91, height=29); sh.send("stty size\n"); sh.send("exit\n")
out = b""
while True:
    d = sh.recv(4096)
    if not d: break
    out += d
print("29 91" in out.decode())
c.close()
`
		out, errs, code := run(t, "", "/usr/bin/python3", "-c", script, port, password, local, remote)
		require.Zero(t, code, errs)
		assert.Equal(t, "through paramiko err 6\n100000\nTrue\n", out)
		files := kinds(s.ended(t, 1), event.EvidenceFile)
		require.Len(t, files, 2, "standard input and the upload")
		assert.Equal(t, sum, files[1].File.SHA256)
	})
}

func TestWindowsSignalsAndTheirNotes(t *testing.T) { each(t, testWindowsSignalsAndTheirNotes) }

func testWindowsSignalsAndTheirNotes(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	c := s.dial(t)
	session, err := c.NewSession()
	require.NoError(t, err)
	require.NoError(t, session.RequestPty("xterm", 24, 80, nil))
	in, err := session.StdinPipe()
	require.NoError(t, err)
	var out lockedBuffer
	session.Stdout = &out
	require.NoError(t, session.Start("while read line; do stty size; done; exit 9"))
	ask := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, _ = in.Write([]byte("x\n"))
			return strings.Contains(out.String(), want)
		}, time.Minute, 50*time.Millisecond, "%s", out.String())
	}
	ask("24 80")
	require.NoError(t, session.WindowChange(50, 132))
	ask("50 132")
	require.NoError(t, session.Signal("INT"))
	// An sshd says so where it is asked for a signal to what runs as root, and sends none. What has ended it asks for nothing.
	assert.Eventually(t, func() bool {
		return strings.Contains(s.log.String(), "session signalling requires privilege separation")
	}, time.Minute, 10*time.Millisecond)
	_, err = in.Write([]byte{4}) // ^D
	require.NoError(t, err)
	var exit *gossh.ExitError
	require.ErrorAs(t, session.Wait(), &exit)
	assert.Equal(t, 9, exit.ExitStatus())
	require.NoError(t, c.Close())
	all := s.ended(t, 1)
	sizes := kinds(all, event.EvidenceSize)
	require.Len(t, sizes, 1)
	assert.Equal(t, event.Size{Width: 132, Height: 50}, *sizes[0].Size)
	signals := kinds(all, event.EvidenceSignal)
	require.Len(t, signals, 1)
	assert.Equal(t, "INT", signals[0].Signal)
	exits := kinds(all, event.EvidenceExit)
	require.Len(t, exits, 1)
	assert.Equal(t, 9, exits[0].Exit.Status)
}

// The client's agent answers in the pot, and what for, is noted.
func TestAgentForwarding(t *testing.T) { each(t, testAgentForwarding) }

func testAgentForwarding(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	dir := t.TempDir()
	socket, key := filepath.Join(dir, "agent"), filepath.Join(dir, "id")
	require.NoError(t, exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key).Run())
	agent := exec.CommandContext(t.Context(), "ssh-agent", "-D", "-a", socket)
	require.NoError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	require.Eventually(t, func() bool { _, err := os.Stat(socket); return err == nil }, time.Minute, 10*time.Millisecond)
	_, errs, code := run(t, "", "env", "SSH_AUTH_SOCK="+socket, "ssh-add", "-q", key)
	require.Zero(t, code, errs)
	want, _, _ := run(t, "", "ssh-keygen", "-l", "-f", key)
	for range 2 { // also for the next connection
		out, errs, code := s.openssh(t, "", "-A", "-o", "IdentityAgent="+socket, "127.0.0.1", "ssh-add -l; ssh-add -l")
		require.Zero(t, code, errs)
		assert.Equal(t, 2, strings.Count(out, strings.Fields(want)[1]), out)
	}
	forwards := kinds(s.ended(t, 2), event.EvidenceForward)
	require.Len(t, forwards, 4)
	assert.Equal(t, event.Forward{What: "auth-agent@openssh.com"}, *forwards[0].Forward)
	out, _, code := s.openssh(t, "", "-a", "127.0.0.1", "echo ${SSH_AUTH_SOCK:-none}")
	require.Zero(t, code)
	assert.Equal(t, "none\n", out)
}

func TestSSHFS(t *testing.T) { each(t, testSSHFS) }

func testSSHFS(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	far, here := t.TempDir(), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sshfs", "-f", "-p", strconv.Itoa(int(s.Addr.Port())), "-o", "password_stdin", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=password", account+"@127.0.0.1:"+far, here)
	cmd.Stdin = strings.NewReader(password + "\n")
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	unmount := func() { _ = exec.Command("fusermount", "-u", here).Run() }
	t.Cleanup(func() { unmount(); _ = cmd.Process.Kill() })
	require.Eventually(t, func() bool {
		mounts, err := os.ReadFile("/proc/mounts")
		return err == nil && strings.Contains(string(mounts), " "+here+" fuse.sshfs ")
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(here, "a file"), []byte("by sshfs"), 0o600))
	got, err := os.ReadFile(filepath.Join(far, "a file"))
	require.NoError(t, err)
	assert.Equal(t, "by sshfs", string(got))
	require.NoError(t, os.Rename(filepath.Join(here, "a file"), filepath.Join(here, "b")))
	entries, err := os.ReadDir(far)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, "b", entries[0].Name())
	unmount()
	require.NoError(t, cmd.Wait(), "%s", log.String())
	files := kinds(s.ended(t, 1), event.EvidenceFile)
	require.Len(t, files, 1)
	assert.Equal(t, filepath.Join(far, "a file"), string(files[0].File.Path))
}
