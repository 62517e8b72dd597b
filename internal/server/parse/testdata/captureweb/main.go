// Command captureweb attacks real web and FTP servers with hostile clients and keeps what they log: how the files of
// ../http and ../ftp were made. It needs root and, for each version, a Debian root file system with the servers in it
// (those of FTP conflict with each other: unpack vsftpd and pure-ftpd beside proftpd with dpkg --fsys-tarfile):
//
//	mmdebstrap --variant=apt --include=nginx-light,apache2,proftpd-core,libwrap0,libsodium23 trixie ROOT
//	go run ./internal/server/parse/testdata/captureweb ROOT debian13 internal/server/parse/testdata
//
// It listens on loopback only. Each section of the output names the source of all its connections and how many guesses,
// logins and probes were made, as the client knows it; each line is marked with the log that it came from.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const password = "correct horse"

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: captureweb ROOT NAME FOLDER [SERVER…]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// capture is one root with its logs.
type capture struct {
	root string
	logs []*logFile
	sys  chan string
	out  *os.File
	next int
	port int
}

// logFile is a file that a server writes; what was read of it so far.
type logFile struct {
	mark, path string
	offset     int64
}

// server is a program that is attacked.
type server struct {
	name, pkg string // of the output and of the package whose version it names
	folder    string // http or ftp
	set       string // what is special about the configuration
	files     map[string]string
	argv      []string
	logs      []*logFile
	port      int
	scenarios []scenario
}

func run(root, name, folder string, only []string) error {
	c := &capture{root: root, sys: make(chan string, 65536)}
	if err := c.prepare(); err != nil {
		return err
	}
	made := map[string]bool{}
	for _, s := range append(webServers(), ftpServers()...) {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		version, err := c.chroot("/usr/bin/dpkg-query", "-W", "-f", "${Version}", s.pkg).Output()
		if err != nil || len(version) == 0 {
			version, err = c.chroot("/bin/sh", "-c", "ls /tmp/"+s.pkg+"_*.deb | cut -d_ -f2").Output()
		}
		if err != nil {
			return err
		}
		upstream, _, _ := strings.Cut(strings.TrimSpace(string(version)), "-")
		upstream, _, _ = strings.Cut(upstream, "+")
		path := filepath.Join(folder, s.folder, name+"-"+s.name+"-"+upstream+".txt")
		flag := os.O_CREATE | os.O_WRONLY | os.O_APPEND
		if !made[path] {
			flag |= os.O_TRUNC
		}
		f, err := os.OpenFile(path, flag, 0o644)
		if err != nil {
			return err
		}
		c.out = f
		if !made[path] {
			fmt.Fprintf(f, "# %s %s (Debian)\n", s.pkg, strings.TrimSpace(string(version)))
			made[path] = true
		}
		err = c.serve(s)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (c *capture) chroot(argv ...string) *exec.Cmd {
	cmd := exec.Command("chroot", append([]string{c.root}, argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	return cmd
}

// prepare makes accounts, pages and the log socket.
func (c *capture) prepare() error {
	script := `id alice >/dev/null 2>&1 || useradd -m -s /bin/sh alice; id ftp >/dev/null 2>&1 || useradd -r -d /srv/ftp -s /usr/sbin/nologin ftp
printf 'root:%[1]s\nalice:%[1]s\n' | chpasswd
grep -q /usr/sbin/nologin /etc/shells || echo /usr/sbin/nologin >> /etc/shells
sed -i 's/pam_unix.so nullok$/pam_unix.so nullok nodelay/; s/pam_unix.so nullok_secure$/pam_unix.so nullok nodelay/' /etc/pam.d/common-auth
mkdir -p /srv/ftp; chown root:root /srv/ftp; mkdir -p /kk/www/private /kk/www/digest /kk/ftp /srv/ftp /run/vsftpd/empty /run/proftpd /etc/pure-ftpd/auth; rm -f /kk/*.log; chmod 755 /kk /kk/www
echo secret > /kk/www/private/index.html; echo secret > /kk/www/digest/index.html; echo form > /kk/www/wp-login.php; echo hello > /kk/www/index.html; echo x > /srv/ftp/file.txt
grep -q 127.0.9.9 /etc/hosts || echo '127.0.9.9 198.51.100.9' >> /etc/hosts
grep -q 127.0.9.8 /etc/hosts || echo '127.0.9.8 evil.example.org' >> /etc/hosts
printf 'alice:%%s\n' "$(openssl passwd -apr1 '%[1]s' 2>/dev/null || perl -e 'print crypt("%[1]s", "\$6\$abcdefgh")')" > /kk/htpasswd
printf 'alice:digest:%%s\n' "$(printf 'alice:digest:%[1]s' | md5sum | cut -d' ' -f1)" > /kk/htdigest`
	cmd := c.chroot("/bin/sh", "-ec", fmt.Sprintf(script, password))
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
			c.sys <- string(buf[:n])
		}
	}()
	return os.Chmod(socket, 0o666)
}

func (c *capture) serve(s server) error {
	for path, text := range s.files {
		if err := os.WriteFile(filepath.Join(c.root, path), []byte(text), 0o600); err != nil {
			return err
		}
	}
	c.logs, c.port = s.logs, s.port
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cmd := exec.CommandContext(ctx, "chroot", append([]string{c.root}, s.argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 3 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { stop(); _ = cmd.Wait() }()
	up := false
	for range 100 {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			_ = conn.Close()
			up = true
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !up {
		return errors.New("does not listen")
	}
	c.drain()
	fmt.Fprintf(c.out, "# %s\n", s.set)
	for _, sc := range s.scenarios {
		c.play(sc)
	}
	return nil
}

type scenario struct {
	name   string
	source string // empty: an address of its own; ::1 for IPv6
	do     func(s *session)
}

// session counts what a scenario really did.
type session struct {
	c                       *capture
	source                  string
	guesses, logins, probes int
}

func (c *capture) play(s scenario) {
	c.next++
	one := &session{c: c, source: s.source}
	if one.source == "" {
		one.source = fmt.Sprintf("127.0.%d.%d", 1+c.next/200, 1+c.next%200)
	}
	s.do(one)
	lines := c.drain()
	fmt.Fprintf(c.out, "## %s | source %s | guesses %d | logins %d | probes %d\n", s.name, one.source, one.guesses, one.logins, one.probes)
	for _, l := range lines {
		fmt.Fprintln(c.out, l)
	}
}

// drain returns the lines that came until nothing came for a while.
func (c *capture) drain() []string {
	var out []string
	for quiet := 0; quiet < 4; {
		more := c.read()
		if len(more) == 0 {
			quiet++
			time.Sleep(100 * time.Millisecond)
			continue
		}
		quiet = 0
		out = append(out, more...)
	}
	return out
}

func (c *capture) read() []string {
	var out []string
	for _, l := range c.logs {
		data, err := os.ReadFile(filepath.Join(c.root, l.path))
		if err != nil || int64(len(data)) <= l.offset {
			continue
		}
		data = data[l.offset:]
		end := bytes.LastIndexByte(data, '\n')
		if end < 0 {
			continue
		}
		l.offset += int64(end) + 1
		for line := range bytes.SplitSeq(data[:end], []byte{'\n'}) {
			out = append(out, l.mark+"|"+string(line))
		}
	}
	for {
		select {
		case l := <-c.sys:
			out = append(out, "syslog|"+asFile(l))
		default:
			return out
		}
	}
}

// asFile writes a datagram as rsyslog's traditional file format, with the host name added and control characters
// escaped as it does.
func asFile(l string) string {
	if i := strings.IndexByte(l, '>'); i > 0 {
		l = l[i+1:]
	}
	const stamp = len("Nov 22 18:00:00 ")
	if len(l) > stamp {
		rest := l[stamp:]
		if w, after, ok := strings.Cut(rest, " "); ok && !strings.HasSuffix(w, ":") {
			rest = after // the sender named a host
		}
		l = l[:stamp] + "web " + rest
	}
	var b strings.Builder
	for _, ch := range []byte(strings.TrimRight(l, "\n\x00")) {
		if ch < ' ' || ch == 127 {
			fmt.Fprintf(&b, "#%03o", ch)
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

func (s *session) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if strings.Contains(s.source, ":") {
		return d.Dial("tcp", fmt.Sprintf("[::1]:%d", s.c.port))
	}
	d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(s.source)}
	return d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.c.port))
}
