package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	password = "correct horse"
	// patience is how long a service that answers a wrong password late may take.
	patience = 90 * time.Second
)

// capture is one root file system in which servers are captured.
type capture struct {
	root, suite, folder string
	pkg                 string // whose version the files name
	sys                 *sysLog
	next                int // numbers the sources
	daemons             []*exec.Cmd
}

// prepare makes accounts, names and the log socket. Two addresses have names: one that begins like an address, and one
// that is hostile in no way; two more for servers that read /etc/hosts have one that is an address, and a common one.
func (c *capture) prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ kind, where string }{{"proc", "proc"}, {"devpts", "dev/pts"}} {
		if err := syscall.Mount(m.kind, filepath.Join(c.root, m.where), m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	if err := syscall.Sethostname([]byte("web")); err != nil {
		return fmt.Errorf("name the host: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	if err := c.shell(fmt.Sprintf(`id alice >/dev/null 2>&1 || useradd -m -s /bin/sh alice; id bob >/dev/null 2>&1 || useradd -m -s /bin/sh bob
id shut >/dev/null 2>&1 || useradd -m -s /bin/nonesuch shut
rm -f /dev/ptmx; ln -s pts/ptmx /dev/ptmx; chmod 666 /dev/pts/ptmx
printf '127.0.0.1 localhost web\n::1 localhost web\n127.9.9.9 198.51.100.9.evil.example\n127.9.9.8 client.example\n127.0.9.9 198.51.100.9\n127.0.9.8 evil.example.org\n' > /etc/hosts
mkdir -p /run /kk; rm -rf /kk/*; chmod 755 /kk
printf 'root:%[1]s\nalice:%[1]s\nbob:%[1]s\nshut:%[1]s\n' | chpasswd`, password)); err != nil {
		return err
	}
	var err error
	c.sys, err = listenSyslog(filepath.Join(c.root, "dev/log"))
	return err
}

func (c *capture) close() error {
	c.stop()
	return c.sys.conn.Close()
}

func (c *capture) chroot(args ...string) *exec.Cmd {
	cmd := exec.Command("chroot", append([]string{c.root}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	return cmd
}

// shell runs a script in the root.
func (c *capture) shell(script string) error {
	if out, err := c.chroot("/bin/bash", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// in runs a client; failures are what we are here for.
func (c *capture) in(env []string, args ...string) string {
	cmd := c.chroot(args...)
	cmd.Env = append(cmd.Env, env...)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// write writes a file of the root.
func (c *capture) write(path, text string) error {
	return os.WriteFile(filepath.Join(c.root, path), []byte(text), 0o644)
}

// start runs a daemon in the foreground until stop, and waits until it listens on the port where one is given.
func (c *capture) start(port int, args ...string) error {
	cmd := c.chroot(args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.daemons = append(c.daemons, cmd)
	if port == 0 {
		return nil
	}
	for range 600 {
		if conn, err := net.Dial("tcp", address("127.0.0.1", port)); err == nil {
			_ = conn.Close()
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%v does not listen on port %d", args, port)
}

// stop ends the daemons.
func (c *capture) stop() {
	for _, d := range c.daemons {
		_ = syscall.Kill(-d.Process.Pid, syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { _ = syscall.Kill(-d.Process.Pid, syscall.SIGKILL) })
		_ = d.Wait()
		timer.Stop()
	}
	c.daemons = nil
}

func (c *capture) version(pkg string) (string, error) {
	out, err := c.chroot("dpkg-query", "-W", "-f", "${Version}", pkg).Output()
	if err != nil || len(out) == 0 {
		return "", fmt.Errorf("version of %s: %w", pkg, errors.Join(err, errors.New("not installed; remove "+c.root+" to have it made anew")))
	}
	return strings.TrimSpace(string(out)), nil
}

// upstream is a version without what Debian adds.
func upstream(version string) string {
	_, rest, ok := strings.Cut(version, ":")
	if !ok {
		rest = version
	}
	rest, _, _ = strings.Cut(rest, "-")
	rest, _, _ = strings.Cut(rest, "+")
	return rest
}

func address(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
