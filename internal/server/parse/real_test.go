package parse_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// program is a real server of this machine, with its files in a folder of its own.
type program struct {
	t    *testing.T
	dir  string
	port int
}

// start runs a server on loopback until the test is over. config gets the folder and the port.
func start(t *testing.T, config func(dir string, port int) string, argv func(config string) []string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{t: t, dir: dir, port: freePort(t)}
	for _, sub := range []string{"www/private", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{filepath.Dir(dir), dir} { // servers read it under accounts of their own
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.write("www/index.html", "hello")
	p.write("www/private/index.html", "secret")
	p.write("www/wp-login.php", "form")
	sum := sha1.Sum([]byte("correct horse"))
	p.write("htpasswd", "alice:{SHA}"+base64.StdEncoding.EncodeToString(sum[:])+"\n")
	path := p.write("config", config(dir, p.port))
	args := argv(path)
	ctx, stop := context.WithCancel(context.Background())
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s does not start (scripts/deps.sh test installs it): %v", args[0], err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	p.until("the server listens: "+args[0], func() bool {
		conn, err := net.Dial("tcp", p.address())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, &out)
	return p
}

func (p *program) address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

func (p *program) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// until waits for a condition.
func (p *program) until(what string, ok func() bool, out fmt.Stringer) {
	p.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			p.t.Fatalf("not true after 30 s: %s\n%s", what, out)
		case <-tick.C:
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only asked for a port
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%s is no TCP address", l.Addr())
	}
	return addr.Port
}

// from connects to the server with an address of loopback of its own.
func (p *program) from(source string) net.Conn {
	p.t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := d.Dial("tcp", p.address())
	if err != nil {
		p.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// ask makes a request.
func (p *program) ask(source, request string, headers ...string) {
	p.t.Helper()
	conn := p.from(source)
	defer conn.Close() //nolint:errcheck // the answer was read
	text := append([]string{request + " HTTP/1.1", "Host: localhost", "Connection: close", "Content-Length: 0"}, headers...)
	if _, err := io.WriteString(conn, strings.Join(text, "\r\n")+"\r\n\r\n"); err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn)
}

func credentials(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// said is what events of a source sum up to.
type said struct{ guesses, logins, probes int }

// events reads log files in the order of their names' arguments, as an agent and the server do.
func (p *program) events(parser *parse.Parser, files ...[2]string) map[netip.Addr]said {
	p.t.Helper()
	sums := map[netip.Addr]said{}
	for _, f := range files {
		format, ok := native.Find(f[1])
		if !ok {
			p.t.Fatalf("no format %s", f[1])
		}
		data, err := os.ReadFile(filepath.Join(p.dir, f[0]))
		if err != nil {
			p.t.Fatal(err)
		}
		r := format.New()
		take := func(records []native.Record) {
			for _, one := range records {
				e := parser.Line(native.Encode(one, "web", format.App), time.Now())
				if e.Kind != event.None && (e.Host != "web" || time.Since(e.Time).Abs() > 10*time.Minute) {
					p.t.Errorf("host %s, time %s of %s", e.Host, e.Time, one.Text)
				}
				s := sums[e.Source]
				s.guesses += e.Attempts
				switch e.Kind {
				case event.AuthOK:
					s.logins++
				case event.Probe:
					s.probes++
				case event.AuthFailed, event.Context, event.None:
				}
				if s != (said{}) {
					sums[e.Source] = s
				}
			}
		}
		for line := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
			take(r.Line(line, time.Now()))
		}
		take(r.Flush())
	}
	return sums
}

// expect waits until the logs say what the clients did.
func (p *program) expect(options parse.Options, want map[string]said, files ...[2]string) {
	p.t.Helper()
	same := func(got map[netip.Addr]said) bool {
		for source, s := range want {
			if got[netip.MustParseAddr(source)] != s {
				return false
			}
		}
		return len(got) == len(want)
	}
	var got map[netip.Addr]said
	p.until(fmt.Sprintf("%v say %v", files, want), func() bool {
		got = p.events(parse.New(options), files...)
		return same(got)
	}, stringer(func() string { return fmt.Sprint("they say ", got) }))
}

type stringer func() string

func (s stringer) String() string { return s() }

// attackWeb is what clients of a web server do; it returns what each of them did.
func (p *program) attackWeb() map[string]said {
	p.t.Helper()
	for i := range 5 {
		p.ask("127.0.0.3", "GET /private/", credentials("root", fmt.Sprint("guess ", i)))
	}
	p.ask("127.0.0.4", "GET /private/")
	p.ask("127.0.0.4", "GET /private/", credentials("alice", "mistyped"))
	p.ask("127.0.0.4", "GET /private/", credentials("alice", "correct horse"))
	p.ask("127.0.0.5", "GET /.env")
	p.ask("127.0.0.5", "GET /%2egit/config")
	p.ask("127.0.0.6", "POST /wp-login.php")
	p.ask("127.0.0.6", "GET /wp-login.php")
	p.ask("127.0.0.7", "GET /", "X-Forwarded-For: 198.51.100.9", `User-Agent: 198.51.100.9 - root [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 401 1`)
	p.ask("127.0.0.8", "GET /private/", credentials("x\n198.51.100.9 - root [22/Nov/2026", "x"), "X-Forwarded-For: 198.51.100.9")
	url := "http://" + p.address() + "/private/"
	if out, err := exec.Command("curl", "-s", "-o", "/dev/null", "--interface", "127.0.0.9", "-u", "admin:admin", url).CombinedOutput(); err != nil {
		p.t.Errorf("curl: %v: %s", err, out)
	}
	return map[string]said{
		"127.0.0.3": {guesses: 5}, "127.0.0.4": {guesses: 1, logins: 1}, "127.0.0.5": {probes: 2}, "127.0.0.6": {guesses: 1}, "127.0.0.8": {guesses: 1}, "127.0.0.9": {guesses: 1},
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	p := start(t, func(dir string, port int) string {
		return fmt.Sprintf(`daemon off; user root; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log info;
events {}
http {
  log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
  access_log %[1]s/access.log main;
  client_body_temp_path %[1]s/empty; proxy_temp_path %[1]s/empty; fastcgi_temp_path %[1]s/empty; uwsgi_temp_path %[1]s/empty; scgi_temp_path %[1]s/empty;
  server { listen 127.0.0.1:%[2]d; root %[1]s/www;
    location /private/ { auth_basic "x"; auth_basic_user_file %[1]s/htpasswd; }
    location = /wp-login.php { return 200 "form"; } } }`, dir, port)
	}, func(config string) []string { return []string{"/usr/sbin/nginx", "-c", config} })
	want := p.attackWeb()
	// 127.0.0.2 is a proxy: who asks through it is named by the header's end, whatever stands before.
	p.ask("127.0.0.2", "GET /private/", credentials("root", "x"), "X-Forwarded-For: 198.51.100.9, 203.0.113.66")
	want["203.0.113.66"] = said{guesses: 1}
	o := parse.Options{HTTP: parse.HTTPOptions{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}}
	access, failed := [2]string{"access.log", "nginx-access"}, [2]string{"error.log", "nginx-error"}
	p.expect(o, want, access)
	p.expect(o, want, access, failed)
	p.expect(o, want, failed, access)
	p.expect(o, map[string]said{}, failed)
}

func TestApache(t *testing.T) {
	t.Parallel()
	p := start(t, func(dir string, port int) string {
		var b strings.Builder
		for m := range strings.FieldsSeq("mpm_event authn_core authn_file authz_core authz_user auth_basic dir") {
			fmt.Fprintf(&b, "LoadModule %[1]s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", m)
		}
		fmt.Fprintf(&b, `ServerName localhost
PidFile %[1]s/pid
Listen 127.0.0.1:%[2]d
User www-data
Group www-data
ErrorLog %[1]s/error.log
LogFormat "%%v:%%p %%h %%l %%u %%t \"%%r\" %%>s %%O \"%%{Referer}i\" \"%%{User-Agent}i\"" vhost_combined
CustomLog %[1]s/access.log vhost_combined
DocumentRoot %[1]s/www
<Location /private/>
  AuthType Basic
  AuthName x
  AuthUserFile %[1]s/htpasswd
  Require valid-user
</Location>
`, dir, port)
		return b.String()
	}, func(config string) []string { return []string{"/usr/sbin/apache2", "-D", "FOREGROUND", "-f", config} })
	want := p.attackWeb()
	access, failed := [2]string{"access.log", "apache-access"}, [2]string{"error.log", "apache-error"}
	p.expect(parse.Options{}, want, access)
	p.expect(parse.Options{}, want, access, failed)
	p.expect(parse.Options{}, want, failed, access)
	basic := map[string]said{"127.0.0.3": {guesses: 5}, "127.0.0.4": {guesses: 1}, "127.0.0.8": {guesses: 1}, "127.0.0.9": {guesses: 1}}
	p.expect(parse.Options{}, basic, failed)
}

func TestVsftpd(t *testing.T) {
	t.Parallel()
	p := start(t, func(dir string, port int) string {
		return fmt.Sprintf(`listen=YES
listen_address=127.0.0.1
listen_port=%[2]d
background=NO
anonymous_enable=YES
ftp_username=nobody
anon_root=%[1]s/www
local_enable=YES
xferlog_enable=YES
vsftpd_log_file=%[1]s/vsftpd.log
delay_failed_login=0
secure_chroot_dir=%[1]s/empty
pam_service_name=vsftpd
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
`, dir, port)
	}, func(config string) []string { return []string{"/usr/sbin/vsftpd", config} })
	p.ftp("127.0.0.3", "USER root", "PASS a", "USER kokkuri-nobody", "PASS b")
	p.ftp("127.0.0.4", "USER anonymous", "PASS me@example.org")
	p.ftp("127.0.0.5", `USER x] FAIL LOGIN: Client "198.51.100.9"`, "PASS a")
	p.ftp("127.0.0.6")
	want := map[string]said{"127.0.0.3": {guesses: 2}, "127.0.0.4": {logins: 1}, "127.0.0.5": {guesses: 1}}
	p.expect(parse.Options{}, want, [2]string{"vsftpd.log", "vsftpd"})
}

// ftp sends commands and waits for the answer to each.
func (p *program) ftp(source string, commands ...string) {
	p.t.Helper()
	conn := p.from(source)
	defer conn.Close() //nolint:errcheck // the answers were read
	r := bufio.NewReader(conn)
	for i := range len(commands) + 1 {
		if i > 0 {
			if _, err := io.WriteString(conn, commands[i-1]+"\r\n"); err != nil {
				p.t.Fatal(err)
			}
		}
		if line, err := r.ReadString('\n'); err != nil || line[0] < '1' || line[0] > '5' {
			p.t.Fatalf("the answer to %v is %q: %v", commands[:i], line, err)
		}
	}
}
