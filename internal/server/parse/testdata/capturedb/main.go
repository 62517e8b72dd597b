// Command capturedb fails and succeeds at logins of real database servers with their real clients and keeps what the servers
// log: how the files of ../mysql, ../postgres and ../redis were made. It needs root and, for each version of
// Debian, a root file system with the servers in it:
//
//	mmdebstrap --variant=apt --include=mariadb-server,postgresql,redis-server,passwd trixie ROOT
//	go run ./internal/server/parse/testdata/capturedb ROOT NAME internal/server/parse/testdata [mysql|redis|postgres…]
//
// The servers listen on loopback only. Each section of a file names the source of all its connections and how many
// guesses and logins were made, as the clients were told to make them.
package main

import (
	"bytes"
	"context"
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
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root, name, into string, only []string) error {
	c := &capture{root: root, name: name, into: into, port: 33000 + 50*int(name[len(name)-1]-'0')}
	for _, server := range []struct {
		name string
		run  func() error
	}{{"mysql", c.mysql}, {"redis", c.redis}, {"postgres", c.postgres}} {
		if len(only) > 0 && !slices.Contains(only, server.name) {
			continue
		}
		if err := server.run(); err != nil {
			return err
		}
	}
	return nil
}

type capture struct {
	root, name, into string
	port             int // the first of thirty
}

// scenario is something that a client does, with the guesses and logins that it makes.
type scenario struct {
	name            string
	guesses, logins int
	v6              bool
	do              func()
}

func (s scenario) title() string {
	source := "127.0.0.1"
	if s.v6 {
		source = "::1"
	}
	return fmt.Sprintf("## %s | source %s | guesses %d | logins %d\n", s.name, source, s.guesses, s.logins)
}

// in runs a program in the root file system; clients' failures are what we are here for.
func (c *capture) in(env []string, args ...string) string {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "chroot", append([]string{c.root}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}, env...)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func (c *capture) shell(script string) error {
	cmd := exec.Command("chroot", c.root, "/bin/bash", "-ec", script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// serve starts a daemon in the root file system, in the foreground, and returns how it is stopped.
func (c *capture) serve(address string, args ...string) (stop func(), err error) {
	cmd := exec.Command("chroot", append([]string{c.root}, args...)...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }
	for range 300 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			time.Sleep(time.Second)
			return stop, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("%v does not listen on %s", args, address)
}

// log is a file that a server writes and what of it goes where.
type log struct {
	path string
	out  *bytes.Buffer
	at   int
}

func (c *capture) open(path, title string) *log {
	l := &log{path: filepath.Join(c.root, path), out: &bytes.Buffer{}}
	_ = l.grown()
	fmt.Fprintf(l.out, "# %s\n", title)
	return l
}

// grown returns what was written since the last call, once nothing more comes.
func (l *log) grown() []byte {
	size := -1
	var data []byte
	for len(data) != size {
		size = len(data)
		time.Sleep(120 * time.Millisecond)
		data, _ = os.ReadFile(l.path)
	}
	text := data[min(l.at, len(data)):]
	l.at = len(data)
	return text
}

func (l *log) section(s scenario) {
	l.out.WriteString(s.title())
	text := l.grown()
	l.out.Write(text)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		l.out.WriteByte('\n')
	}
}

func (c *capture) keep(service, suffix string, logs ...*log) error {
	var all []byte
	for _, l := range logs {
		all = append(all, l.out.Bytes()...)
	}
	dir := filepath.Join(c.into, service)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, c.name+suffix+".txt"), all, 0o644)
}

func (c *capture) version(pkg string) string {
	return pkg + " " + strings.TrimSpace(c.in(nil, "dpkg-query", "-W", "-f", "${Version}\n", pkg)) + " (Debian)"
}

// raw sends bytes that are no protocol of anybody's.
func raw(address, text string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = conn.Write([]byte(text))
	if text != "" {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Read(make([]byte, 4096))
	}
}

// hostile are names that want to be somebody else's.
func hostile(lines ...string) []string {
	return append([]string{
		"it's \"quoted\"", "\x1b[31mred\x1b[0m", "\xff\xfe", "ünïcode", strings.Repeat("long ", 400), "x y", "", "198.51.100.9", "a@198.51.100.9",
		"x' from 198.51.100.9", "two\nlines", "\nfirst", "last\n", "\n", "a\n\nb", "\r\n\tx", "#012", "x%sx%n",
	}, lines...)
}
