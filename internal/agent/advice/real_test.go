package advice

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/native"
)

// TestRealOptionFiles holds what is read of option files, by way of the real my_print_defaults, against what the real server
// makes of the same file.
func TestRealOptionFiles(t *testing.T) {
	t.Parallel()
	version, err := exec.CommandContext(t.Context(), "mariadbd", "--version").Output()
	require.NoError(t, err, "scripts/deps.sh test installs it")
	_, rest, _ := strings.Cut(string(version), "Ver ")
	parts := strings.SplitN(rest, ".", 3)
	require.Len(t, parts, 3)
	versioned := "[mariadbd-" + parts[0] + "." + parts[1] + "]\n"
	for _, text := range []string{
		"", "[mysqld]\nlog_warnings = 1\n", "[mysqld]\nlog-warnings=4\n[server]\nlog_warnings=1\n", versioned + "log-warnings=0\n", "[galera]\nlog_warnings=1\n",
		"[mysqld]\nlog_warnings\n", "[mysqld]\nlog-warn=1\nskip_name\n", "[mysqld]\nskip-log-warnings\nskip-name-resolve=off\n", "[mariadb]\ndisable-log-warnings\n",
		"[mysqld]\nlog_warnings=\"1\"\nloose-log-warnings=0\n", "[mysqld]\nenable-skip-name-resolve # comment\n", "[mysqld]\nskip-name-resolve=1\nskip-skip-name-resolve\n",
		"[client]\nlog_warnings=1\n[mariadbd]\nskip_name_resolve = TRUE\n", "[mysqld]\nmaximum-log-warnings=1\n", "[mysqld_safe]\nskip-name-resolve\n",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "my.cnf")
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			printed, looked, err := PrintDefaults(t.Context(), file)
			require.NoError(t, err)
			require.Contains(t, looked, "my_print_defaults --mysqld")
			set := mysqlOptions(strings.Split(string(printed), "\n"))
			help, err := exec.CommandContext(t.Context(), "mariadbd", "--defaults-file="+file, "--user=nobody", "--verbose", "--help").Output()
			require.NoError(t, err)
			warnings, ok := number(set, "log_warnings")
			if !ok {
				warnings = 2
			}
			require.Equal(t, variable(string(help), "log-warnings"), strconv.Itoa(warnings))
			v, ok := set["skip_name_resolve"]
			require.Equal(t, variable(string(help), "skip-name-resolve") == "TRUE", ok && !off(v))
		})
	}
}

// variable is the value of one in what --verbose --help prints.
func variable(help, name string) string {
	for line := range strings.Lines(help) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// TestOldPrintDefaults is MySQL's my_print_defaults, which does not know --mysqld: here it is what calls the real one without it.
func TestOldPrintDefaults(t *testing.T) {
	program, err := exec.LookPath("my_print_defaults")
	require.NoError(t, err)
	dir := t.TempDir()
	script := "#!/bin/sh\ncase \" $* \" in *' --mysqld '*) echo \"$0: unknown option '--mysqld'\" >&2; exit 2;; esac\nexec " + program + " \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "my_print_defaults"), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	file := filepath.Join(dir, "my.cnf")
	require.NoError(t, os.WriteFile(file, []byte("[mysqld-8.0]\nlog_error_verbosity=3\n[mysqld]\nskip-name-resolve\n"), 0o600))
	printed, looked, err := PrintDefaults(t.Context(), file)
	require.NoError(t, err)
	require.Contains(t, looked, "my_print_defaults mysqld server mysqld-5.7")
	set := mysqlOptions(strings.Split(string(printed), "\n"))
	require.Equal(t, "3", set["log_error_verbosity"])
	require.Equal(t, "1", set["skip_name_resolve"])
	t.Setenv("PATH", dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "my_print_defaults")))
	_, _, err = PrintDefaults(t.Context(), file)
	require.ErrorContains(t, err, "my_print_defaults")
}

// postgresServer is a real PostgreSQL, run by nobody.
type postgresServer struct {
	t         *testing.T
	dir, port string
	bin       string
}

const serverPatience = time.Minute

func newPostgres(t *testing.T) *postgresServer {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	require.NoError(t, err)
	require.NotEmpty(t, found, "no PostgreSQL here (scripts/deps.sh test installs it)")
	dir, err := os.MkdirTemp("", "kokkuri-advice") //nolint:usetesting // t.TempDir's parents are not nobody's to enter
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chown(dir, nobody, nobody))
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // nobody came
	p := &postgresServer{t: t, dir: dir, bin: filepath.Dir(found[len(found)-1]), port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	p.run(p.bin+"/initdb", "-D", p.data(), "-U", "boss", "-A", "scram-sha-256", "--auth-local=trust", "--pwfile=/proc/version")
	return p
}

const nobody = 65534

func (p *postgresServer) data(names ...string) string {
	return filepath.Join(append([]string{p.dir, "data"}, names...)...)
}

func (p *postgresServer) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LANG=C.UTF-8", "TZ=UTC", "PGSSLMODE=disable", "PGPASSWORD=wrong"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func (p *postgresServer) run(program string, args ...string) string {
	p.t.Helper()
	out, err := p.command(p.t.Context(), program, args...).Output()
	require.NoError(p.t, err, "%s %v: %s", program, args, out)
	return strings.TrimSuffix(string(out), "\n")
}

func (p *postgresServer) write(name, text string) {
	p.t.Helper()
	require.NoError(p.t, os.MkdirAll(filepath.Dir(p.data(name)), 0o755))
	require.NoError(p.t, os.WriteFile(p.data(name), []byte(text), 0o644))
	require.NoError(p.t, exec.CommandContext(p.t.Context(), "chown", "-R", "nobody", p.data()).Run())
}

// TestRealPostgresConfiguration holds what is read of configuration files against what the real server reads of them.
func TestRealPostgresConfiguration(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	for _, c := range []struct {
		name, conf string
		files      map[string]string
	}{
		{name: "defaults"},
		{name: "quoted", conf: `log_line_prefix = '%m [%p] it''s \'%h\' '` + "\n"},
		{name: "escapes", conf: `log_line_prefix = '%m\t[%p]\x\101\n'` + "\n"},
		{name: "no equals sign, comment", conf: "log_connections yes # always\nLog_Line_Prefix '%h # %p' # so\n"},
		{name: "no spaces, units", conf: "shared_buffers=16MB\nlog_connections=1\nlog_rotation_age = 1d\nlog_line_prefix='%r'\n"},
		{name: "twice", conf: "log_line_prefix = 'a'\nlog_line_prefix = 'b'\n"},
		{name: "cut short", conf: "log_connections = tr\nlog_hostname = of\n"},
		{name: "empty", conf: "log_line_prefix = ''\nlog_connections = 'no'\n"},
		{name: "included", conf: "log_line_prefix = 'a'\ninclude 'more.conf'\nlog_connections = off\n", files: map[string]string{"more.conf": "log_line_prefix = 'b %h'\nlog_connections = on\n"}},
		{name: "included from there", conf: "include 'x/more.conf'\n", files: map[string]string{"x/more.conf": "include_if_exists 'none'\ninclude = 'last.conf'\n", "x/last.conf": "log_line_prefix = 'last '\n"}},
		{name: "folders", conf: "include_dir 'conf.d'\n", files: map[string]string{
			"conf.d/10.conf": "log_line_prefix = '10 '\n", "conf.d/20.conf": "log_line_prefix = '20 '\n", "conf.d/.30.conf": "log_line_prefix = '30 '\n", "conf.d/40.conf~": "log_line_prefix = '40 '\n",
		}},
		{name: "ALTER SYSTEM", conf: "log_line_prefix = 'a'\n", files: map[string]string{"postgresql.auto.conf": "# Do not edit\nlog_line_prefix = '%m [%p] %h '\nlog_hostname = 'on'\n"}},
	} {
		require.NoError(t, os.RemoveAll(p.data("conf.d")))
		p.write("postgresql.auto.conf", "")
		p.write("postgresql.conf", c.conf)
		for name, text := range c.files {
			p.write(name, text)
		}
		set := Options{}.postgresSettings(cluster{file: p.data("postgresql.conf")})
		prefix, given := set["log_line_prefix"]
		if !given {
			prefix = "%m [%p] "
		}
		require.Equal(t, p.run(p.bin+"/postgres", "-C", "log_line_prefix", "-D", p.data()), prefix, c.name)
		require.Equal(t, p.run(p.bin+"/postgres", "-C", "log_connections", "-D", p.data()) == "on", logsConnections(set["log_connections"]), c.name)
		require.Equal(t, p.run(p.bin+"/postgres", "-C", "log_hostname", "-D", p.data()) == "on", on(set["log_hostname"]), c.name)
	}
}

// TestRealPrefixes has a real server with many a log_line_prefix refuse logins: the agent knows from where just where advice is
// silent.
func TestRealPrefixes(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	cmd := p.command(context.WithoutCancel(t.Context()), p.bin+"/postgres", "-D", p.data(), "-p", p.port, "-k", p.dir, "-c", "listen_addresses=127.0.0.1",
		"-c", "logging_collector=on", "-c", "log_directory="+p.dir, "-c", "log_filename=pg.log", "-c", "log_file_mode=0644")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		kill := time.AfterFunc(serverPatience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool { return p.asked("select 1") == "1" }, serverPatience, 50*time.Millisecond)
	for prefix, tells := range map[string][2]bool{ // without log_connections, and with
		"%m [%p] ": {false, true}, "%m [%p] %q%u@%d ": {false, true}, "%m [%p] %h %q%u@%d ": {true, true}, "%t:%r:%u@%d:[%p]:": {true, true},
		"%t [%p]: user=%u,db=%d,app=%a,client=%h ": {true, true}, "%m [%p] %u@%d %h ": {false, true}, "%m %p ": {false, false}, "%m %c ": {false, false},
		"%m [%p] %%h ": {false, true}, "%m [%p] %-20h|": {true, true}, "%n [%p] %q%u@%d ": {false, true}, "< %m > %r %q%u ": {true, true}, "%m [%p] %15r %u ": {true, true},
	} {
		for i, connections := range []string{"off", "on"} {
			require.Equal(t, tells[i], tellsSource(prefix, i == 1), "advice about %q, log_connections %s", prefix, connections)
			p.write("postgresql.auto.conf", "log_line_prefix = '"+prefix+"'\nlog_connections = "+connections+"\n")
			require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
			require.Eventually(t, func() bool {
				return p.asked("show log_line_prefix") == prefix && p.asked("show log_connections") == connections
			}, serverPatience, 20*time.Millisecond)
			require.Equal(t, tells[i], p.fails(), "a server with %q, log_connections %s", prefix, connections)
		}
	}
}

func (p *postgresServer) asked(sql string) string {
	out, _ := p.command(p.t.Context(), "psql", "-qAt", "-h", p.dir, "-p", p.port, "-U", "boss", "-d", "postgres", "-c", sql).Output()
	return strings.TrimSuffix(string(out), "\n")
}

// fails has a login fail, and says whether its log says from where, in the line itself or in one of the same process.
func (p *postgresServer) fails() bool {
	p.t.Helper()
	file := filepath.Join(p.dir, "pg.log")
	before, err := os.ReadFile(file)
	require.NoError(p.t, err)
	_ = p.command(p.t.Context(), "psql", "-w", "-h", "127.0.0.1", "-p", p.port, "-U", "boss", "-d", "postgres", "-c", "select 1").Run()
	var text string
	require.EventuallyWithT(p.t, func(c *assert.CollectT) {
		after, err := os.ReadFile(file)
		require.NoError(c, err)
		text = string(after[len(before):])
		assert.Contains(c, text, "password authentication failed")
		assert.True(c, strings.HasSuffix(text, "\n"))
	}, serverPatience, 10*time.Millisecond)
	f, ok := native.Find(native.PostgresStderr)
	require.True(p.t, ok)
	r := f.New()
	var records []native.Record
	for line := range strings.Lines(text) {
		for _, rec := range r.Line([]byte(strings.TrimSuffix(line, "\n")), time.Now()) {
			records = append(records, kept(rec))
		}
	}
	for _, rec := range r.Flush() {
		records = append(records, kept(rec))
	}
	opened := map[string]bool{}
	for _, rec := range records {
		switch {
		case strings.Contains(string(rec.Text), "connection received: host=127.0.0.1") && rec.PID != "":
			opened[rec.PID] = true
		case strings.Contains(string(rec.Text), "password authentication failed"):
			for _, param := range rec.Params {
				if param.Name == native.ParamSource {
					require.Equal(p.t, "127.0.0.1", param.Value)
					return true
				}
			}
			return opened[rec.PID]
		}
	}
	p.t.Fatal("no failed login in " + text)
	return false
}
