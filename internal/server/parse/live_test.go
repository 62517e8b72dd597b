package parse_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// liveServer is a real server of this machine, run by nobody in a directory of its own.
type liveServer struct {
	dir  string
	port string
}

const (
	nobody       = 65534
	livePatience = time.Minute
	livePassword = "correct horse"
)

func newLiveServer(t *testing.T) liveServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "kokkuri-live") //nolint:usetesting // t.TempDir's parents are not nobody's to enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nobody came
	return liveServer{dir, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
}

func (s liveServer) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + s.dir, "LANG=C.UTF-8", "TZ=UTC", "PGSSLMODE=disable", "PGPASSWORD=wrong"}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// must runs what prepares a server.
func (s liveServer) must(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := s.command(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// try runs a client, whose failure is what the test is about.
func (s liveServer) try(t *testing.T, program string, args ...string) {
	t.Helper()
	if err := s.command(t.Context(), program, args...).Run(); err != nil && !strings.Contains(err.Error(), "exit status") {
		t.Fatal(err)
	}
}

// start runs the server until the test ends, and waits until it listens.
func (s liveServer) start(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := s.command(context.WithoutCancel(t.Context()), program, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(livePatience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	})
	s.await(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+s.port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, func() string { return program + " does not listen: " + said.String() })
}

// await waits until a condition holds.
func (s liveServer) await(t *testing.T, holds func() bool, why func() string) {
	t.Helper()
	deadline := time.After(livePatience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(why())
		}
	}
}

// totals is what a log says.
type totals struct{ guesses, sourced, logins int }

// read reads a log of a format from its beginning, as the agent does, and through syslog, as the server does.
func (s liveServer) read(t *testing.T, file, format string) totals {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		return totals{}
	}
	f, ok := native.Find(format)
	if !ok {
		t.Fatal(format)
	}
	r := f.New()
	var records [][]byte
	take := func(list []native.Record) {
		for _, rec := range list {
			records = append(records, native.Encode(rec, "web", f.App))
		}
	}
	for l := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		take(r.Line(l, time.Now().UTC()))
	}
	take(r.Flush())
	return totalsOf(t, records)
}

func totalsOf(t *testing.T, lines [][]byte) (sum totals) {
	t.Helper()
	var p parse.Parser
	for _, l := range lines {
		e := p.Line(l, time.Now())
		if e.Source.IsValid() && e.Source != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("blames %s: %q", e.Source, l)
		}
		switch e.Kind { //nolint:exhaustive // the others are no attempts
		case event.AuthFailed:
			sum.guesses += e.Attempts
			if e.Source.IsValid() {
				sum.sourced += e.Attempts
			}
			if age := time.Since(e.Time); age < -time.Minute || age > time.Hour {
				t.Errorf("%s is %s ago: %q", e.Time, age, l)
			}
		case event.AuthOK:
			sum.logins++
		}
	}
	return sum
}

func TestLiveMariaDB(t *testing.T) {
	t.Parallel()
	s := newLiveServer(t)
	s.must(t, "mariadb-install-db", "--no-defaults", "--datadir="+s.dir+"/data", "--auth-root-authentication-method=normal", "--skip-test-db")
	s.start(t, "mariadbd", "--no-defaults", "--datadir="+s.dir+"/data", "--socket="+s.dir+"/sock", "--port="+s.port, "--bind-address=127.0.0.1",
		"--skip-name-resolve", "--log-error="+s.dir+"/error.log", "--pid-file="+s.dir+"/pid", "--innodb-buffer-pool-size=8M")
	s.must(t, "mariadb", "--no-defaults", "-S", s.dir+"/sock", "-u", "root", "-e", "create user alice@'%' identified by '"+livePassword+"'")
	login := func(user, password string) {
		s.try(t, "mariadb", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-P"+s.port, "-u", user, "-p"+password, "-e", "select 1")
	}
	for range 5 {
		login("alice", "wrong")
	}
	login("alice", livePassword)
	login("x'@'198.51.100.9' (using password: YES)", "wrong")
	login("a'@'198.51.100.9'\n2026-11-22 18:00:00 31 [Note] x", "wrong")
	login("nobody", "wrong")
	var got totals
	s.await(t, func() bool { got = s.read(t, "error.log", native.MySQLError); return got.guesses >= 8 }, func() string { return fmt.Sprint(got) })
	// The first guess of a source, and the one before a name of two lines, can't be sure of theirs.
	if got.guesses != 8 || got.sourced < 4 {
		t.Errorf("read %+v of 8 guesses", got)
	}
}

func TestLivePostgres(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		t.Fatalf("no PostgreSQL here (scripts/deps.sh test installs it): %v", err)
	}
	bin := filepath.Dir(found[len(found)-1])
	s := newLiveServer(t)
	s.must(t, bin+"/initdb", "-D", s.dir+"/data", "-U", "boss", "-A", "scram-sha-256", "--auth-local=trust", "--pwfile=/proc/version")
	s.start(t, bin+"/postgres", "-D", s.dir+"/data", "-p", s.port, "-k", s.dir, "-c", "listen_addresses=127.0.0.1", "-c", "log_connections=on", "-c",
		"log_destination=stderr,csvlog,jsonlog", "-c", "logging_collector=on", "-c", "log_directory="+s.dir, "-c", "log_filename=pg.log",
		"-c", "log_line_prefix=%m [%p] %q%u@%d ")
	// It takes connections some time before it answers them otherwise than by "the database system is starting up".
	s.await(t, func() bool {
		state, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
		return err == nil && strings.HasSuffix(strings.TrimRight(string(state), " \n"), "\nready")
	}, func() string { return "PostgreSQL does not become ready" })
	s.must(t, "psql", "-q", "-h", s.dir, "-p", s.port, "-U", "boss", "-d", "postgres", "-c", "create role alice login password 'wrong'")
	login := func(user string) {
		s.try(t, "psql", "-w", "-h", "127.0.0.1", "-p", s.port, "-U", user, "-d", "postgres", "-c", "select 1")
	}
	login("alice")
	for range 5 {
		login("boss")
	}
	login("x\n2026-11-22 18:00:00.000 UTC [1] r@y FATAL:")
	login("198.51.100.9")
	for file, format := range map[string]string{"pg.log": native.PostgresStderr, "pg.csv": native.PostgresCSV, "pg.json": native.PostgresJSON} {
		sourced := 7
		if format == native.PostgresStderr {
			sourced = 6 // who names himself in two lines has none
		}
		var got totals
		s.await(t, func() bool { got = s.read(t, file, format); return got.guesses >= 7 }, func() string { return file + fmt.Sprint(got) })
		if got.guesses != 7 || got.sourced != sourced || got.logins != 2 {
			t.Errorf("%s: read %+v of 7 guesses and 2 logins", file, got)
		}
	}
}

func TestLiveRedis(t *testing.T) {
	t.Parallel()
	s := newLiveServer(t)
	s.start(t, "redis-server", "--port", s.port, "--bind", "127.0.0.1", "--requirepass", livePassword, "--save", "", "--dir", s.dir, "--logfile", s.dir+"/log")
	cli := func(args ...string) { s.try(t, "redis-cli", append([]string{"-p", s.port}, args...)...) }
	for range 3 {
		cli("AUTH", "wrong")
	}
	cli("AUTH", "alice", "wrong")
	cli("AUTH", "x\" source=\"198.51.100.9\"] id=1 addr=198.51.100.9:1\n", "wrong")
	cli("AUTH", livePassword)
	entries := aclEntries(t, s.must(t, "redis-cli", "--no-raw", "--no-auth-warning", "-a", livePassword, "-p", s.port, "ACL", "LOG"))
	var lines [][]byte
	for _, e := range entries {
		for _, r := range e.Records(e.Count, time.Now()) {
			lines = append(lines, native.Encode(r, "web", native.RedisACLApp))
		}
	}
	// Redis folds the three of one user into one entry, of which only the last is surely the last client's.
	if got := totalsOf(t, lines); got != (totals{guesses: 5, sourced: 3}) {
		t.Errorf("read %+v of 5 guesses in %d entries: %s", got, len(entries), bytes.Join(lines, []byte("\n")))
	}
	data, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if got := totalsOf(t, bytes.Split(data, []byte("\n"))); got != (totals{}) {
		t.Errorf("Redis's own log states %+v", got)
	}
}

// aclEntries reads what redis-cli prints of ACL LOG.
func aclEntries(t *testing.T, text string) []native.ACLEntry {
	t.Helper()
	var list []native.ACLEntry
	name := ""
	for l := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		i := strings.LastIndex(l[:min(len(l), 10)], ") ")
		if i < 0 {
			continue
		}
		if strings.HasPrefix(strings.TrimLeft(l, "0123456789"), ") ") {
			list = append(list, native.ACLEntry{})
		}
		value := strings.TrimPrefix(l[i+2:], "(integer) ")
		if s, err := strconv.Unquote(value); err == nil {
			value = s
		}
		if name == "" {
			name = value
			continue
		}
		if err := list[len(list)-1].Set(name, value); err != nil {
			t.Fatal(err)
		}
		name = ""
	}
	return list
}
