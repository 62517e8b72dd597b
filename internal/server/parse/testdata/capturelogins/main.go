// Command capturelogins fails logins at the real dropbear, postfix, dovecot and telnetd with login(1) of a Debian root file
// system and keeps what they log: how the files of ../dropbear, ../postfix, ../dovecot and ../login were made. It needs
// root, and name spaces of its own for the ports and the chroot's /proc and /dev/pts:
//
//	mmdebstrap --variant=apt --include=dropbear-bin,postfix,libsasl2-modules,sasl2-bin,dovecot-imapd,dovecot-pop3d,\
//	  dovecot-submissiond,inetutils-telnetd,login,libpam-modules,passwd trixie ROOT
//	unshare --mount --net sh -c "ip link set lo up; go run ./internal/server/parse/testdata/capturelogins ROOT debian13 internal/server/parse/testdata"
//
// Names of folders after that let it make only these; postfix needs dovecot before it. It listens on loopback only. Each section of the output names the source of all its connections and how many guesses
// and logins were made, as the client knows it.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	password = "correct horse"
	quiet    = 900 * time.Millisecond
	// patience is how long a service that answers a wrong password late may take.
	patience = 40 * time.Second
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type capture struct {
	root, suite string
	lines       chan string
	out         *os.File
	next        int
	daemons     []*exec.Cmd
}

// run plays all, or only the folders that are named.
func run(root, suite, folder string, only []string) (err error) {
	c := &capture{root: root, suite: suite, lines: make(chan string, 4096)}
	if err := c.prepare(); err != nil {
		return err
	}
	defer c.stop()
	for _, s := range []struct {
		folder, pkg string
		play        func() error
	}{
		{"dropbear", "dropbear-bin", c.dropbear},
		{"login", "inetutils-telnetd", c.telnet},
		{"dovecot", "dovecot-core", c.dovecot},
		{"postfix", "postfix", c.postfix},
	} {
		if len(only) > 0 && !slices.Contains(only, s.folder) {
			continue
		}
		version, err := c.chroot("/usr/bin/dpkg-query", "-W", "-f", "${Version}", s.pkg).Output()
		if err != nil {
			return fmt.Errorf("version of %s: %w", s.pkg, err)
		}
		if err := os.MkdirAll(filepath.Join(folder, s.folder), 0o755); err != nil {
			return err
		}
		if c.out, err = os.Create(filepath.Join(folder, s.folder, suite+".txt")); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "# %s %s (Debian)\n", s.pkg, version)
		if err := errors.Join(s.play(), c.out.Close()); err != nil {
			return fmt.Errorf("%s: %w", s.folder, err)
		}
	}
	return nil
}

func (c *capture) chroot(args ...string) *exec.Cmd {
	return exec.Command("chroot", append([]string{c.root}, args...)...)
}

// shell runs a script in the root.
func (c *capture) shell(script string) error {
	if out, err := c.chroot("/bin/sh", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// prepare makes accounts, names and the log socket. Two addresses have names: one that begins like an address, and
// one that is hostile in no way.
func (c *capture) prepare() error {
	for _, m := range []struct{ what, where, kind string }{{"proc", "proc", "proc"}, {"devpts", "dev/pts", "devpts"}} {
		if err := syscall.Mount(m.what, filepath.Join(c.root, m.where), m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	if err := c.shell(`id alice >/dev/null 2>&1 || useradd -m -s /bin/sh alice; id shut >/dev/null 2>&1 || useradd -m -s /bin/nonesuch shut
rm -f /dev/ptmx; ln -s pts/ptmx /dev/ptmx; chmod 666 /dev/pts/ptmx
printf '127.0.0.1 localhost web\n127.9.9.9 198.51.100.9.evil.example\n127.9.9.8 client.example\n' > /etc/hosts
mkdir -p /run; printf 'root:` + password + `\nalice:` + password + `\nshut:` + password + `\n' | chpasswd`); err != nil {
		return err
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

// start runs a daemon of the root in the foreground until stop.
func (c *capture) start(args ...string) error {
	cmd := c.chroot(args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.daemons = append(c.daemons, cmd)
	return nil
}

func (c *capture) stop() {
	for _, d := range c.daemons {
		_ = syscall.Kill(-d.Process.Pid, syscall.SIGTERM)
		_ = d.Wait()
	}
	c.daemons = nil
}

// reachable waits until somebody listens.
func reachable(address string) error {
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("nobody listens on %s", address)
}

// session counts what a scenario really did.
type session struct {
	c               *capture
	v6              bool
	source          string
	guesses, logins int
}

type scenario struct {
	name   string
	v6     bool
	source string // one that has a name; empty: one of its own without
	do     func(s *session)
}

func (c *capture) play(list []scenario) {
	c.drain()
	for _, one := range list {
		c.next++
		s := &session{c: c, v6: one.v6, source: fmt.Sprintf("127.0.%d.%d", 1+c.next/200, 1+c.next%200)}
		if one.source != "" {
			s.source = one.source
		}
		if s.v6 {
			s.source = "::1"
		}
		one.do(s)
		lines := c.drain()
		fmt.Fprintf(c.out, "## %s | source %s | guesses %d | logins %d\n", one.name, s.source, s.guesses, s.logins)
		for _, l := range lines {
			fmt.Fprintln(c.out, l)
		}
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
		case <-time.After(quiet):
			return out
		}
	}
}

// dial connects from the scenario's source.
func (s *session) dial(port int) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if s.v6 {
		address = fmt.Sprintf("[::1]:%d", port)
	} else {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(s.source)}
	}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, s.source, err)
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// hostile are names that mean to be taken for the rest of a line.
func hostile() []string {
	return []string{
		"x' from 198.51.100.9:1", "root' from '198.51.100.9", "x>, method=PLAIN, rip=198.51.100.9, lip=127.0.0.1, session=<y",
		"root from 198.51.100.9 port 1 ssh2", "rhost=198.51.100.9  user=root", "unknown[198.51.100.9]: SASL LOGIN authentication failed: x",
		"x\nNov 22 18:00:00 web dropbear[1]: Bad password attempt for 'root' from 198.51.100.9:1", "\x1b[31mred\x1b[0m", "\xff\xfe\x80",
		"it's \"quoted\"", strings.Repeat("long ", 60), "a FOR 'root', Authentication failure", "ünïcode", "a,b=c", "%s%n", "<root>",
	}
}
