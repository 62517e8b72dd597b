package intake

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// daemon is a real rsyslogd of its own, with a socket as /dev/log is.
type daemon struct {
	dir  string
	sock string
	cmd  *exec.Cmd
	stop func() // as a service manager does, and waits
}

// rsyslogd starts Debian's rsyslogd with rules; it calls itself web and ends with the test.
func rsyslogd(t *testing.T, rules string) *daemon {
	t.Helper()
	return start(t, rules, `module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket=%q RateLimit.Interval="0")
`, "")
}

// annotating starts one as rsyslogd does, whose system socket is set up as the snippet asks for.
func annotating(t *testing.T, rules string) *daemon {
	t.Helper()
	return start(t, rules, annotatedInput, "")
}

// annotatedInput is the system socket as the snippet asks for it. What the program probe writes stays here (see ready).
const annotatedInput = `module(load="imuxsock" SysSock.Name=%q SysSock.Annotate="on" SysSock.ParseTrusted="on" SysSock.RateLimit.Interval="0")
template(name="Probe" type="string" string="%%$!uid%%\n")
if $programname == "probe" then { action(type="omfile" file=%q template="Probe") stop }
`

// ready waits until the daemon sees who writes: the socket is there a moment before the kernel is told to say it, and what
// is written in between seems to be of nobody.
func (d *daemon) ready(t *testing.T) {
	t.Helper()
	eventually(t, "rsyslogd sees who writes", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unixgram", d.sock)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write([]byte("<14>Nov 25 22:00:00 probe: x"))
		text, _ := os.ReadFile(filepath.Join(d.dir, "probe"))
		return strings.HasSuffix(string(text), fmt.Sprintf("%d\n", os.Getuid()))
	})
}

// start starts one with an input for its socket; it works in dir, where one is given.
func start(t *testing.T, rules, input, dir string) *daemon {
	t.Helper()
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		program = "/usr/sbin/rsyslogd"
	}
	if dir == "" {
		dir, err = os.MkdirTemp("", "rsyslog") //nolint:usetesting // t.TempDir's paths are too long for a socket
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	d := &daemon{dir: dir, sock: filepath.Join(dir, "log")}
	values := []any{dir, d.sock}
	if input == annotatedInput {
		values = append(values, filepath.Join(dir, "probe"))
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "probe")))
	}
	conf := fmt.Sprintf("global(workDirectory=%q localHostname=\"web\")\n"+input, values...) + rules + "\n"
	path := filepath.Join(dir, "rsyslog.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
	d.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, "-n", "-f", path, "-i", filepath.Join(dir, "pid"))
	var out bytes.Buffer
	d.cmd.Stdout, d.cmd.Stderr = &out, &out
	require.NoError(t, d.cmd.Start(), "rsyslogd is needed: apt-get install rsyslog")
	d.stop = sync.OnceFunc(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(60*time.Second, func() { _ = d.cmd.Process.Kill() })
		_ = d.cmd.Wait()
		kill.Stop()
		if t.Failed() {
			t.Logf("rsyslogd said: %s", out.String())
		}
	})
	t.Cleanup(d.stop)
	eventually(t, "rsyslogd listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unixgram", d.sock)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if input == annotatedInput {
		d.ready(t)
	}
	return d
}

// say logs messages as sshd would.
func (d *daemon) say(t *testing.T, messages ...string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unixgram", d.sock)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	for _, m := range messages {
		send(t, conn, fmt.Sprintf("<38>%s sshd[4711]: %s", time.Now().Format(time.Stamp), m))
	}
}

// logger logs a message with util-linux's logger.
func (d *daemon) logger(t *testing.T, message string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "logger", "-u", d.sock, "-p", "auth.info", "-t", "sshd", "--id=4711", "--", message).CombinedOutput()
	require.NoError(t, err, string(out))
}

// tails returns what follows the tag in lines of web by road.
func tails(t *testing.T, s *stream, road string) []string {
	t.Helper()
	var out []string
	for _, l := range s.lines() {
		rest, ok := strings.CutPrefix(l, "web/"+road+": ")
		require.True(t, ok, l)
		_, msg, ok := strings.Cut(rest, "sshd[4711]: ")
		if !ok {
			_, msg, ok = strings.Cut(rest, "sshd 4711 - - ")
		}
		require.True(t, ok, l)
		out = append(out, strings.TrimPrefix(msg, " "))
	}
	return out
}

// TestRsyslogForwards: a stock rsyslogd in every form it knows.
func TestRsyslogForwards(t *testing.T) {
	t.Parallel()
	messages := []string{
		"Failed password for root from 203.0.113.66 port 4022 ssh2",
		"Failed password for invalid user <38>Nov 22 18:00:00 db sshd[1]: x from 203.0.113.66 port 4023 ssh2",
		"ends in spaces  ",
		"with\nnewline",
		strings.Repeat("long ", 1000),
	}
	for _, framing := range []string{"traditional", "octet-counted"} {
		for _, template := range []string{"RSYSLOG_SyslogProtocol23Format", "RSYSLOG_ForwardFormat", "RSYSLOG_TraditionalForwardFormat"} {
			t.Run(framing+"/"+template, func(t *testing.T) {
				t.Parallel()
				s := newStream()
				in, _ := launch(t, s, nil)
				tcp, _ := in.Addresses()
				d := rsyslogd(t, fmt.Sprintf(`auth,authpriv.* action(type="omfwd" protocol="tcp" target="127.0.0.1" port="%d" TCP_Framing=%q template=%q)`,
					tcp[0].Port(), framing, template))
				d.logger(t, "from logger")
				s.untilN(t, 1)
				d.say(t, messages...)
				s.untilN(t, 1+len(messages))
				got := tails(t, s, "syslog-tcp")
				want := append([]string{"from logger"}, messages...)
				want[4] = "with#012newline"
				for i := range want {
					assert.Equal(t, want[i], got[i])
				}
				assert.Empty(t, in.Stats().Quarantine)
			})
		}
	}
}

func TestRsyslogOverUDP(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	_, udp := in.Addresses()
	d := rsyslogd(t, fmt.Sprintf(`auth.* action(type="omfwd" protocol="udp" target="127.0.0.1" port="%d")`, udp[0].Port()))
	d.say(t, "one")
	s.untilN(t, 1)
	assert.Equal(t, []string{"one"}, tails(t, s, "syslog-udp"))
}

// shipped reads a file of deploy/rsyslog and puts a test's own values into the places of its own.
func shipped(t *testing.T, name string, replace map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../deploy/rsyslog", name))
	require.NoError(t, err)
	text := string(b)
	for from, to := range replace {
		require.Contains(t, text, from)
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// TestShippedSnippet: deploy/rsyslog/kokkuri.conf delivers each line before there is another, and what is logged while the server is away comes later.
func TestShippedSnippet(t *testing.T) {
	t.Parallel()
	s, port := newStream(), freePort(t)
	listen := func(o *Options) {
		o.ListenTCP = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
	}
	_, stop := launch(t, s, listen)
	d := rsyslogd(t, shipped(t, "kokkuri.conf", map[string]string{"kokkuri.example.net": "127.0.0.1", `port="10514"`: fmt.Sprintf(`port="%d"`, port)}))
	took := make([]time.Duration, 0, 100)
	for i := range cap(took) {
		begun := time.Now()
		d.say(t, fmt.Sprint("line ", i))
		s.untilN(t, i+1)
		s.mu.Lock()
		took = append(took, s.at[len(s.at)-1].Sub(begun))
		s.mu.Unlock()
	}
	slices.Sort(took)
	t.Logf("from syslog(3) through rsyslogd to the hand-over: median %v, 95th percentile %v", took[50], took[95])

	stop()
	for i := range 500 {
		d.say(t, fmt.Sprint("line ", 100+i))
	}
	launch(t, s, listen)
	s.untilN(t, 600)
	for i, m := range tails(t, s, "syslog-tcp") {
		require.Equal(t, fmt.Sprint("line ", i), m)
	}
}

// TestCentralServer: a host's rsyslogd sends to a central one, which writes a file for each host and day as
// deploy/rsyslog/kokkuri-central.conf has it; the file is followed, also when it is rotated by name and a HUP.
func TestCentralServer(t *testing.T) {
	t.Parallel()
	s, port, dir := newStream(), freePort(t), t.TempDir()
	in, _ := launch(t, s, func(o *Options) {
		o.Files = []FileSource{{Pattern: filepath.Join(dir, "%HOST%/auth-%Y-%m-%d.log")}}
	})
	central := rsyslogd(t, shipped(t, "kokkuri-central.conf", map[string]string{"/var/log/hosts": dir, `port="514"`: fmt.Sprintf(`port="%d" address="127.0.0.1"`, port)}))
	d := rsyslogd(t, shipped(t, "kokkuri.conf", map[string]string{"kokkuri.example.net": "127.0.0.1", `port="10514"`: fmt.Sprintf(`port="%d"`, port)}))
	eventually(t, "files are followed", func() bool {
		found, err := filepath.Glob(filepath.Join(in.o.StateDir, "cursors", "*", "set.json"))
		return err == nil && len(found) == 1
	})
	n := 0
	say := func(count int) {
		for range count {
			d.say(t, fmt.Sprint("line ", n))
			n++
		}
	}
	say(1)
	s.untilN(t, 1)
	for round := range 3 {
		say(20)
		logs, err := filepath.Glob(filepath.Join(dir, "127.0.0.1", "auth-*.log"))
		require.NoError(t, err)
		require.NotEmpty(t, logs)
		log := logs[len(logs)-1]
		require.NoError(t, os.Rename(log, fmt.Sprintf("%s.%d", log, 9-round)))
		say(20) // rsyslogd still writes to the renamed file
		require.NoError(t, central.cmd.Process.Signal(syscall.SIGHUP))
		say(20)
		s.untilN(t, n)
		eventually(t, "new file", func() bool { _, err := os.Stat(log); say(1); return err == nil })
	}
	s.untilN(t, n)
	got := tails(t, s, "file")
	require.Len(t, got, n)
	for i, m := range got {
		require.Equal(t, fmt.Sprint("line ", i), m)
	}
}
