// Command capture attacks real OpenSSH servers with a hostile client and keeps what they log: how
// the files of ../sshd were made. It needs root and, for each version, a Debian root file system with
// openssh-server in it:
//
//	mmdebstrap --variant=apt --include=openssh-server trixie ROOT
//	go run ./internal/server/parse/testdata/capture ROOT > internal/server/parse/testdata/sshd/NAME.txt
//
// It listens on loopback only. Each section of the output names the source of all its connections and
// how many guesses and logins were made, as the client knows it.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const password = "correct horse"

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type capture struct {
	root  string
	lines chan string
	key   ssh.Signer
	port  int
	next  int
}

func run(root string) error {
	c := &capture{root: root, lines: make(chan string, 4096)}
	if err := c.prepare(); err != nil {
		return err
	}
	version, err := exec.Command("chroot", root, "/usr/bin/dpkg-query", "-W", "-f", "${Version}", "openssh-server").Output()
	if err != nil {
		return err
	}
	fmt.Printf("# openssh-server %s (Debian)\n", version)
	for i, set := range []struct{ name, config string }{
		{"PAM, verbose", "UsePAM yes\nLogLevel VERBOSE\nKbdInteractiveAuthentication yes\n"},
		{"PAM, info", "UsePAM yes\nLogLevel INFO\nKbdInteractiveAuthentication yes\n"},
		{"no PAM, verbose", "UsePAM no\nLogLevel VERBOSE\nKbdInteractiveAuthentication yes\n"},
	} {
		if err := c.serve(2300+i, set.name, set.config); err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
	}
	return nil
}

// prepare makes accounts, keys and the log socket.
func (c *capture) prepare() error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if c.key, err = ssh.NewSignerFromKey(private); err != nil {
		return err
	}
	script := `id alice >/dev/null 2>&1 || useradd -m -s /bin/sh alice; id bob >/dev/null 2>&1 || useradd -m -s /bin/sh bob
printf 'root:%[1]s\nalice:%[1]s\nbob:%[1]s\n' | chpasswd; mkdir -p /run/sshd /home/alice/.ssh
cat > /home/alice/.ssh/authorized_keys; chown -R alice:alice /home/alice/.ssh; chmod 700 /home/alice/.ssh; ssh-keygen -A >/dev/null`
	cmd := exec.Command("chroot", c.root, "/bin/sh", "-ec", fmt.Sprintf(script, password))
	cmd.Stdin = bytes.NewReader(append(ssh.MarshalAuthorizedKey(c.key.PublicKey()), caLine(c.key.PublicKey())...))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	socket := filepath.Join(c.root, "dev/log")
	_ = os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			c.lines <- string(buf[:n])
		}
	}()
	return os.Chmod(socket, 0o666)
}

func caLine(k ssh.PublicKey) []byte {
	return append([]byte("cert-authority "), ssh.MarshalAuthorizedKey(k)...)
}

func (c *capture) serve(port int, name, config string) error {
	c.port = port
	config += fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nListenAddress ::1\nPermitRootLogin yes\nDenyUsers bob\nMaxAuthTries 6\nPidFile none\n", port)
	if out, err := exec.Command("chroot", c.root, "/usr/sbin/sshd", "-o", "PerSourcePenalties=no", "-T").CombinedOutput(); err == nil {
		config += "PerSourcePenalties no\n"
	} else if !bytes.Contains(out, []byte("persourcepenalties")) && !bytes.Contains(out, []byte("PerSourcePenalties")) {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(c.root, "etc/ssh/sshd_capture"), []byte(config), 0o600); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cmd := exec.CommandContext(ctx, "chroot", c.root, "/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_capture")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { stop(); _ = cmd.Wait() }()
	for range 100 {
		if conn, err := net.Dial("tcp", c.address(false)); err == nil {
			_ = conn.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.drain()
	fmt.Printf("# %s\n", name)
	for _, s := range c.scenarios() {
		c.play(s)
	}
	return nil
}

func (c *capture) address(v6 bool) string {
	if v6 {
		return fmt.Sprintf("[::1]:%d", c.port)
	}
	return fmt.Sprintf("127.0.0.1:%d", c.port)
}

type scenario struct {
	name string
	v6   bool
	do   func(s *session)
}

// session counts what a scenario really did.
type session struct {
	c               *capture
	v6              bool
	source          string
	guesses, logins int
	note            string
}

func (c *capture) play(s scenario) {
	c.next++
	one := &session{c: c, v6: s.v6, source: fmt.Sprintf("127.0.%d.%d", 1+c.next/200, 1+c.next%200)}
	if s.v6 {
		one.source = "::1"
	}
	s.do(one)
	lines := c.drain()
	fmt.Printf("## %s | source %s | guesses %d | logins %d\n", s.name, one.source, one.guesses, one.logins)
	for _, l := range lines {
		fmt.Println(l)
	}
}

// drain returns the lines that came until nothing came for a while, as rsyslog's file format with the
// host name added and control characters escaped as it does.
func (c *capture) drain() []string {
	var out []string
	for {
		select {
		case l := <-c.lines:
			if i := strings.IndexByte(l, '>'); i > 0 {
				l = l[i+1:]
			}
			if len(l) > 16 {
				l = l[:16] + "web " + l[16:]
			}
			var b strings.Builder
			for _, ch := range []byte(strings.TrimRight(l, "\n\x00")) {
				if ch < ' ' || ch == 127 {
					fmt.Fprintf(&b, "#%03o", ch)
				} else {
					b.WriteByte(ch)
				}
			}
			out = append(out, b.String())
		case <-time.After(700 * time.Millisecond):
			return out
		}
	}
}

func (s *session) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if !s.v6 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(s.source)}
	}
	return d.Dial("tcp", s.c.address(s.v6))
}

func (s *session) connect(user string, methods ...ssh.AuthMethod) {
	conn, err := s.dial()
	if err != nil {
		fmt.Fprintln(os.Stderr, s.source, err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	client, _, _, err := ssh.NewClientConn(conn, "sshd", &ssh.ClientConfig{
		User: user, Auth: methods, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // it is our own server
	})
	if err == nil {
		s.logins++
		_ = client.Close()
	}
}

var errNoMore = errors.New("no more")

// guess answers with n wrong passwords, or with the right one after them.
func (s *session) guess(n int, right bool) ssh.AuthMethod {
	i := 0
	return ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		i++
		if i > n {
			if right {
				return password, nil
			}
			return "", errNoMore
		}
		s.guesses++
		return fmt.Sprintf("wrong %d", i), nil
	}), n+1)
}

func (s *session) guessKbd(n int, right bool) ssh.AuthMethod {
	i := 0
	return ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		if len(questions) == 0 {
			return nil, nil
		}
		i++
		if i > n {
			if right {
				return []string{password}, nil
			}
			return nil, errNoMore
		}
		s.guesses++
		return []string{fmt.Sprintf("wrong %d", i)}, nil
	}), n+1)
}

func (s *session) raw(text string, wait bool) {
	conn, err := s.dial()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(text))
	if wait {
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Read(make([]byte, 4096))
	}
}

func keys(n int) ssh.AuthMethod {
	var signers []ssh.Signer
	for range n {
		_, private, _ := ed25519.GenerateKey(rand.Reader)
		signer, _ := ssh.NewSignerFromKey(private)
		signers = append(signers, signer)
	}
	return ssh.PublicKeys(signers...)
}

// cert makes a certificate with the id by ca (nil: an authority that nobody knows).
func cert(id string, ca ssh.Signer) ssh.AuthMethod {
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	signer, _ := ssh.NewSignerFromKey(private)
	if ca == nil {
		_, other, _ := ed25519.GenerateKey(rand.Reader)
		ca, _ = ssh.NewSignerFromKey(other)
	}
	crt := &ssh.Certificate{
		Key: signer.PublicKey(), CertType: ssh.UserCert, KeyId: id, ValidPrincipals: []string{"alice"},
		ValidBefore: ssh.CertTimeInfinity, Serial: 7, Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": ""}},
	}
	_ = crt.SignCert(rand.Reader, ca)
	cs, _ := ssh.NewCertSigner(crt, signer)
	return ssh.PublicKeys(cs)
}

const (
	forged    = "Failed password for root from 198.51.100.9 port 1 ssh2"
	forgedKey = "root from 198.51.100.9 port 1 ssh2: RSA SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func (c *capture) scenarios() []scenario {
	list := []scenario{
		{name: "password, known account", do: func(s *session) { s.connect("root", s.guess(2, false)) }},
		{name: "password, unknown account", do: func(s *session) { s.connect("admin", s.guess(2, false)) }},
		{name: "password over IPv6", v6: true, do: func(s *session) { s.connect("root", s.guess(2, false)) }},
		{name: "limit reached, known account", do: func(s *session) { s.connect("root", s.guess(8, false)) }},
		{name: "limit reached, unknown account", do: func(s *session) { s.connect("oracle", s.guess(8, false)) }},
		{name: "success after a failure", do: func(s *session) { s.connect("alice", s.guess(1, true)) }},
		{name: "keyboard-interactive, known account", do: func(s *session) { s.connect("root", s.guessKbd(2, false)) }},
		{name: "keyboard-interactive, unknown account", do: func(s *session) { s.connect("admin", s.guessKbd(2, false)) }},
		{name: "keyboard-interactive, success", do: func(s *session) { s.connect("alice", s.guessKbd(0, true)) }},
		{name: "keyboard-interactive then password", do: func(s *session) { s.connect("root", s.guessKbd(1, false), s.guess(2, false)) }},
		{name: "keys refused, then a password", do: func(s *session) { s.connect("alice", keys(3), s.guess(0, true)) }},
		{name: "keys refused until the limit", do: func(s *session) { s.connect("root", keys(8)) }},
		{name: "key accepted", do: func(s *session) { s.connect("alice", ssh.PublicKeys(c.key)) }},
		{name: "certificate accepted", do: func(s *session) { s.connect("alice", cert("alice's laptop", c.key)) }},
		{name: "certificate accepted, hostile id", do: func(s *session) {
			s.connect("alice", cert("x from 198.51.100.9 port 1 ssh2: RSA SHA256:AAAA", c.key))
		}},
		{name: "certificate refused, hostile id", do: func(s *session) {
			s.connect("root", cert("x from 198.51.100.9 port 1 ssh2: "+strings.Repeat("A", 1200), nil))
		}},
		{name: "denied user", do: func(s *session) { s.connect("bob", s.guess(2, false)) }},
		{name: "empty user name", do: func(s *session) { s.connect("", s.guess(2, false)) }},
		{name: "no method left", do: func(s *session) { s.connect("alice") }},
		{name: "closed before the banner", do: func(s *session) { s.raw("", false) }},
		{name: "other protocol", do: func(s *session) { s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true) }},
		{name: "other protocol, hostile", do: func(s *session) { s.raw("x' from 198.51.100.9 port 1\r\n\r\n", true) }},
		{name: "old protocol", do: func(s *session) { s.raw("SSH-1.5-x from 198.51.100.9 port 1\r\n", true) }},
		{name: "garbage after the banner", do: func(s *session) { s.raw("SSH-2.0-x\r\n"+strings.Repeat("A", 64), true) }},
		{name: "nothing in common", do: func(s *session) {
			conn, err := s.dial()
			if err != nil {
				return
			}
			defer conn.Close()
			config := &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()} //nolint:gosec // our own server
			config.KeyExchanges = []string{"diffie-hellman-group1-sha1"}
			_, _, _, _ = ssh.NewClientConn(conn, "sshd", config)
		}},
		{name: "closed by the authenticating user", do: func(s *session) { s.connect("root", s.guess(1, false)) }},
	}
	for _, user := range []string{
		forged, " from 198.51.100.9 port 1 ssh2", forgedKey, "root from 198.51.100.9 port 1 ssh2",
		"a from 198.51.100.9", "root 198.51.100.9 port 1: Too many authentication failures",
		"x\nNov 22 18:00:00 web sshd[1]: " + forged, "x\\nSshd", "\x1b[31mred\x1b[0m", "\xff\xfe\x80", "it's \"quoted\"",
		strings.Repeat("long ", 60), "invalid user root", "root ", "rhost=198.51.100.9  user=root", "a:b", "ünïcode",
		"x from 198.51.100.9 port 1 ssh2]", "message repeated 9 times: [ " + forged + "]",
	} {
		list = append(list, scenario{name: fmt.Sprintf("password, hostile user name %.40q", user), do: func(s *session) { s.connect(user, s.guess(1, false)) }})
		list = append(list, scenario{name: fmt.Sprintf("key and prompt, hostile user name %.40q", user), do: func(s *session) { s.connect(user, keys(1), s.guessKbd(1, false)) }})
	}
	return list
}
