package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// mariadb is a real MariaDB with its plugin server_audit, and what it logs on its way to a server. Clients come from 127.0.0.N;
// the server reads 192.0.2.N, for loopback is nobody's.
type mariadb struct {
	t      *testing.T
	dir    string
	port   int
	logged *native.Format
	reader native.Reader
	read   int // bytes of the error log

	mu    sync.Mutex
	audit [][]byte
}

const mariadbPatience = 60 * time.Second

func newMariaDB(t *testing.T) *mariadb {
	t.Helper()
	dir, err := os.MkdirTemp("", "kokkuri-mariadb") //nolint:usetesting // its path must be short enough for sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	f, ok := native.Find(native.MySQLError)
	require.True(t, ok)
	m := &mariadb{t: t, dir: dir, logged: &f, reader: f.New(), port: freePort(t)}
	m.run("mariadb-install-db", "--no-defaults", "--user=nobody", "--datadir="+dir+"/data", "--auth-root-authentication-method=normal", "--skip-test-db")
	m.listen()
	m.start()
	return m
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // nobody came
	return l.Addr().(*net.TCPAddr).Port
}

func (m *mariadb) run(program string, args ...string) {
	m.t.Helper()
	out, err := m.command(m.t.Context(), program, args...).CombinedOutput()
	require.NoError(m.t, err, "%s %v: %s", program, args, out)
}

func (m *mariadb) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + m.dir, "LANG=C.UTF-8", "TZ=UTC"}
	return cmd
}

// listen is the host's journal: it takes messages from /dev/log with who wrote them, as the kernel says.
func (m *mariadb) listen() {
	m.t.Helper()
	require.NoError(m.t, os.Mkdir(filepath.Join(m.dir, "dev"), 0o755))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.dir, "dev", "log"), Net: "unixgram"})
	require.NoError(m.t, err)
	require.NoError(m.t, os.Chmod(filepath.Join(m.dir, "dev", "log"), 0o666))
	raw, err := conn.SyscallConn()
	require.NoError(m.t, err)
	require.NoError(m.t, raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1) }))
	require.NoError(m.t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		text, control := make([]byte, 65536), make([]byte, 256)
		for {
			n, c, _, _, err := conn.ReadMsgUnix(text, control)
			if err != nil {
				return
			}
			m.take(text[:n], control[:c])
		}
	}()
	m.t.Cleanup(func() { _ = conn.Close(); <-ended })
}

// take makes a line of a message as the agent makes one of the journal's.
func (m *mariadb) take(text, control []byte) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return
	}
	who, err := syscall.ParseUnixCredentials(&messages[0])
	if err != nil {
		return
	}
	exe, _ := os.Readlink("/proc/" + strconv.Itoa(int(who.Pid)) + "/exe")
	_, rest, _ := bytes.Cut(text, []byte(">"))
	tag, msg, _ := bytes.Cut(rest[min(len(rest), len("Nov 22 18:00:00 ")):], []byte(": "))
	line := native.Encode(native.Record{
		Time: time.Now(), PID: strconv.Itoa(int(who.Pid)), Text: m.addressed(bytes.TrimRight(msg, "\n")),
		Params: []native.Param{{Name: native.ParamUID, Value: strconv.Itoa(int(who.Uid))}, {Name: native.ParamExe, Value: exe}},
	}, "web", string(tag))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audit = append(m.audit, line)
}

func (*mariadb) addressed(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte("127.0.0."), []byte("192.0.2."))
}

// start runs the server with a /dev of its own, in which the log socket is ours.
func (m *mariadb) start() {
	m.t.Helper()
	const script = `for n in null zero random urandom; do touch "$0/dev/$n"; mount --bind "/dev/$n" "$0/dev/$n"; done; mount --rbind "$0/dev" /dev; exec "$@"`
	cmd := m.command(context.WithoutCancel(m.t.Context()), "unshare", "--mount", "--propagation", "private", "sh", "-ec", script, m.dir,
		"mariadbd", "--no-defaults", "--user=nobody", "--datadir="+m.dir+"/data", "--socket="+m.dir+"/data/sock", "--port="+strconv.Itoa(m.port),
		"--bind-address=127.0.0.1", "--skip-name-resolve", "--log-error="+m.dir+"/data/error.log", "--pid-file="+m.dir+"/data/pid", "--innodb-buffer-pool-size=8M",
		// What doctor advises.
		"--plugin-load-add=server_audit", "--server-audit-logging=ON", "--server-audit-events=CONNECT", "--server-audit-output-type=syslog")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(m.t, cmd.Start())
	m.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(mariadbPatience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
		if m.t.Failed() {
			m.t.Log("mariadbd said:", said.String()) // not before its end: it is written to until then
		}
	})
	require.EventuallyWithT(m.t, func(c *assert.CollectT) {
		conn, err := new(net.Dialer).DialContext(m.t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(m.port))
		if assert.NoError(c, err) {
			_ = conn.Close()
		}
	}, mariadbPatience, 50*time.Millisecond)
}

func (m *mariadb) administer(sql string) {
	m.t.Helper()
	m.run("mariadb", "--no-defaults", "-S", m.dir+"/data/sock", "-u", "root", "-e", sql)
}

// login logs in from 127.0.0.last with the real client, and says whether it got in.
func (m *mariadb) login(last int, user, password string) bool {
	m.t.Helper()
	l, err := new(net.ListenConfig).Listen(m.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(m.t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.relay(l, last)
	}()
	defer func() { _ = l.Close(); <-ended }()
	cmd := m.command(m.t.Context(), "mariadb", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-P"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port),
		"-u", user, "-p"+password, "-e", "select 1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.Contains(m.t, string(out), "Access denied")
	}
	return err == nil
}

// relay gives the client's one connection its address, which the client itself can't be told.
func (m *mariadb) relay(l net.Listener, last int) {
	in, err := l.Accept()
	if err != nil {
		return
	}
	defer in.Close() //nolint:errcheck // it is over
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(last))}}
	out, err := d.DialContext(m.t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(m.port))
	if err != nil {
		return
	}
	defer out.Close() //nolint:errcheck // it is over
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].(*net.TCPConn).CloseWrite()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

// send sends what was logged since the last time, each log by its own road, once it says a number of things.
func (m *mariadb) send(s *site, denied, connected int) {
	m.t.Helper()
	var lines, audit [][]byte
	require.EventuallyWithT(m.t, func(c *assert.CollectT) {
		data, err := os.ReadFile(filepath.Join(m.dir, "data", "error.log"))
		require.NoError(c, err)
		m.mu.Lock()
		defer m.mu.Unlock()
		assert.Equal(c, denied, bytes.Count(data[m.read:], []byte("Access denied")))
		assert.Equal(c, connected, bytes.Count(bytes.Join(m.audit, nil), []byte(",CONNECT,")))
		lines, audit = bytes.Split(bytes.TrimSpace(data[m.read:]), []byte("\n")), m.audit
	}, mariadbPatience, 10*time.Millisecond)
	errors := event.Batch{Host: "web", Road: event.RoadAgent, Origin: "/var/log/mysql/error.log", Received: time.Now(), ID: fmt.Sprint("errors-", m.read)}
	for _, l := range lines {
		for _, r := range m.reader.Line(m.addressed(l), time.Now().UTC()) {
			errors.Lines = append(errors.Lines, native.Encode(r, "web", m.logged.App))
		}
		m.read += len(l) + 1
	}
	require.NoError(m.t, s.host.PublishBatch(m.t.Context(), errors))
	if len(audit) > 0 {
		require.NoError(m.t, s.host.PublishBatch(m.t.Context(), event.Batch{
			Host: "web", Road: event.RoadJournal, Origin: "journal", Received: time.Now(), ID: fmt.Sprint("audit-", m.read), Lines: audit,
		}))
		m.mu.Lock()
		m.audit = nil
		m.mu.Unlock()
	}
	s.evaluated()
}

// TestRotatedPasswordOfMariaDB is decision 11 with a real MariaDB and redirecting turned on: an application server that logged in
// before its password was rotated fails as often as a stranger does, and only the stranger is redirected.
func TestRotatedPasswordOfMariaDB(t *testing.T) {
	t.Parallel()
	const app, stranger, times = 80, 66, 30
	s := newSite(t)
	rules := 0
	for _, r := range s.server.pipeline.rules.Rules {
		if strings.HasPrefix(r.Name, "mysql-") {
			_, err := s.api.SetRule(t.Context(), r.Name, api.SetRule{Redirect: true})
			require.NoError(t, err)
			rules++
		}
	}
	require.NotZero(t, rules)
	m := newMariaDB(t)
	m.administer("create user shop@'%' identified by 'old'")
	require.True(t, m.login(app, "shop", "old"))
	require.True(t, m.login(app, "shop", "old"))
	m.send(s, 0, 3) // and the administrator's
	// The error log's times are whole seconds: a failure in the second of the login is not surely after it.
	second := time.Now().Unix()
	require.Eventually(t, func() bool { return time.Now().Unix() > second }, time.Minute, time.Millisecond)
	m.administer("alter user shop@'%' identified by 'new'")
	for range times {
		require.False(t, m.login(app, "shop", "old"))
	}
	for i := range times {
		require.False(t, m.login(stranger, "shop", fmt.Sprint("guess ", i)))
	}
	m.send(s, 2*times, 1)
	outcomes := map[netip.Prefix][]string{}
	offences, err := api.List[event.Offence](t.Context(), s.api, api.PathOffences, api.Filter{})
	require.NoError(t, err)
	for _, o := range offences {
		if !strings.HasPrefix(o.Rule, "mysql-") {
			require.Equal(t, "alert", o.Outcome, o.Rule) // as shipped
			continue
		}
		outcomes[o.Source] = append(outcomes[o.Source], o.Outcome)
	}
	appPrefix, strangerPrefix := netip.MustParsePrefix("192.0.2.80/32"), netip.MustParsePrefix("192.0.2.66/32")
	require.NotEmpty(t, outcomes[appPrefix], "it is told of all the same")
	for _, o := range outcomes[appPrefix] {
		require.Contains(t, o, "exempt: it logged in to web at ")
	}
	require.Contains(t, outcomes[strangerPrefix], "redirected")
	live := s.server.decider.Board().Live(nil)
	require.NotEmpty(t, live)
	for _, r := range live {
		require.Equal(t, strangerPrefix, r.Source)
	}
}
