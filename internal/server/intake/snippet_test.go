package intake

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/deploy"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// snippet is what kokkuri rsyslog-config prints, for a server on this machine.
func snippet(t *testing.T, s deploy.Snippet) string {
	t.Helper()
	s.Server, s.ServerName = "127.0.0.1", pki.ServerName
	if s.Driver == "" {
		s.Driver = "gtls"
	}
	text, err := deploy.RsyslogConfig(s)
	require.NoError(t, err)
	return string(text)
}

// listening returns options that have an intake listen for TLS at a port that stays the same.
func (a *authority) listening(t *testing.T, port uint16) func(*Options) {
	t.Helper()
	tls := a.overTLS(t)
	return func(o *Options) {
		tls(o)
		o.ListenTLS = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
		o.StopTimeout = time.Second
	}
}

// read returns the events of the lines that came, and how many were forged.
func read(s *stream) (events []event.Event, forged int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		for _, l := range b.Lines {
			var p parse.Parser
			e, note := p.Read(l, b.Received)
			if note.Forged {
				forged++
			}
			if e.Kind != event.None {
				events = append(events, e)
			}
		}
	}
	return events, forged
}

// TestSnippetOverTLS: a stock rsyslogd with the snippet, by either of its TLS libraries, proves itself by its certificate,
// believes only in the server's, and says who wrote each line.
func TestSnippetOverTLS(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"gtls", "ossl"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			a, s := newAuthority(t), newStream()
			in, _ := launch(t, s, a.overTLS(t))
			port := in.TLSAddresses()[0].Port()
			d := annotating(t, snippet(t, deploy.Snippet{Host: "web", Port: port, Protocol: deploy.TLS, Driver: driver, Dir: a.certificate(t, pki.RoleSyslog, "web")}))
			d.say(t, "Failed password for root from 203.0.113.66 port 4022 ssh2")
			s.untilN(t, 1)
			got := s.lines()[0]
			require.True(t, strings.HasPrefix(got, "web/syslog-tls: 1 "), got)
			assert.Contains(t, got, fmt.Sprintf(` web sshd 4711 - [kokkuri@32473 uid="%d" exe="`, os.Getuid()))
			assert.True(t, strings.HasSuffix(got, `"]  Failed password for root from 203.0.113.66 port 4022 ssh2`), got)

			// A server whose certificate is of another authority gets nothing.
			other, elsewhere := newAuthority(t), newStream()
			tls := other.overTLS(t)
			wrong, _ := launch(t, elsewhere, func(o *Options) {
				tls(o)
				o.HandshakeTimeout = time.Second // some go without a word
			})
			annotating(t, snippet(t, deploy.Snippet{Port: wrong.TLSAddresses()[0].Port(), Protocol: deploy.TLS, Driver: driver, Dir: a.certificate(t, pki.RoleSyslog, "web")})).
				say(t, "Failed password for root from 203.0.113.66 port 4022 ssh2")
			eventually(t, "the client refuses", func() bool { return wrong.Stats().RefusedTLS > 0 })
			assert.Empty(t, elsewhere.lines())
		})
	}
}

// forger runs what a local user can to write log-ins that nobody tried. It calls itself nobody where it may.
func forger(t *testing.T, sock string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "logger", append([]string{"-u", sock, "-p", "auth.info"}, args...)...)
	if os.Getuid() == 0 {
		cmd = exec.CommandContext(t.Context(), "setpriv", append([]string{"--reuid=65534", "--clear-groups", "--"}, cmd.Args...)...)
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// TestForgersAreFound: beside a real sshd a local user writes what sshd would, in every form that logger knows. The
// real guesses count, the forged lines are counted as such, whatever they look like.
func TestForgersAreFound(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	tcp, _ := in.Addresses()
	d := annotating(t, snippet(t, deploy.Snippet{Host: "web", Port: tcp[0].Port(), Protocol: deploy.TCP}))
	require.NoError(t, os.Chmod(d.dir, 0o755))
	require.NoError(t, os.Chmod(d.sock, 0o666))
	server := sshd(t, d)

	const failed = "Failed password for root from 203.0.113.66 port 4022 ssh2"
	forger(t, d.sock, "-t", "sshd", failed)
	forger(t, d.sock, "-t", "sshd", "--id=4711", failed)
	forger(t, d.sock, "-t", "sshd[1]", failed)
	forger(t, d.sock, "-t", "sshd", "--rfc3164", failed)
	server.guess(t)
	forger(t, d.sock, "-t", `sshd[1][kokkuri@32473`, `uid="0"]: `+failed)
	forger(t, d.sock, "-t", `sshd - - [kokkuri@32473 uid="0"]`, failed)
	forger(t, d.sock, "-t", `sshd`, `[kokkuri@32473 uid="0"] `+failed)
	forger(t, d.sock, "-t", `sshd`, "--", `- - [kokkuri@32473 uid="0" exe="/usr/sbin/sshd"] `+failed)
	forger(t, d.sock, "-t", "sshd", "@cee: {\"uid\": 0, \"exe\": \"/usr/sbin/sshd\", \"msg\": \"x\"} "+failed)
	forger(t, d.sock, "-t", "sshd", "--rfc5424", "--sd-id", "kokkuri@32473", "--sd-param", `uid="0"`, "--sd-param", `exe="/usr/sbin/sshd"`, "--", failed)
	server.guess(t)
	forger(t, d.sock, "-t", "sshd", "--", "x\nNov 25 22:00:00 web sshd[1]: "+failed)
	forger(t, d.sock, "-t", "the-last", "--", "line")

	var events []event.Event
	var forged int
	s.wait(t, "the last line and both guesses", func() bool {
		events, forged = read(s)
		guesses := 0
		for _, e := range events {
			guesses += e.Attempts
		}
		return guesses == 2 && strings.Contains(strings.Join(s.lines(), "\n"), " the-last - - ")
	})
	for _, e := range events {
		if !e.Source.IsValid() && e.Kind == event.Context {
			continue // Server listening on …
		}
		assert.Equal(t, "127.0.0.1", e.Source.String(), "only sshd's own lines are events: %+v", e)
	}
	// The first three are perfect. Of the fourth rsyslogd takes the program for the host, and the others' texts are no statements.
	assert.GreaterOrEqual(t, forged, 3, "those that state something")
	for _, l := range s.lines() {
		_, l, _ = strings.Cut(l, ": ")
		assert.Contains(t, l, " [kokkuri@32473 uid=", l)
	}
}

// sshServer is a real sshd that logs to a daemon's socket.
type sshServer struct{ port uint16 }

// sshd starts one in a mount namespace of its own, where /dev/log is the daemon's socket.
func sshd(t *testing.T, d *daemon) sshServer {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	key := filepath.Join(dir, "key")
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	require.NoError(t, err, string(out))
	conf := filepath.Join(dir, "sshd_config")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "Port %d\nListenAddress 127.0.0.1\nHostKey %s\nUsePAM no\nPasswordAuthentication yes\nPermitRootLogin yes\nPidFile none\n", port, key), 0o600))
	script := fmt.Sprintf(`set -e
mkdir -p /run/sshd %[1]s/dev/pts
for n in null zero random urandom tty full; do : >%[1]s/dev/$n; mount --bind /dev/$n %[1]s/dev/$n; done
mount --bind /dev/pts %[1]s/dev/pts
ln -s pts/ptmx %[1]s/dev/ptmx
ln -s %[2]s %[1]s/dev/log
mount --rbind %[1]s/dev /dev
exec "$(command -v sshd || echo /usr/sbin/sshd)" -D -f %[3]s`, dir, d.sock, conf)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script)
	text, err := os.Create(filepath.Join(dir, "out"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = text, text
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if said, _ := os.ReadFile(text.Name()); t.Failed() {
			t.Logf("sshd said: %s", said)
		}
		_ = text.Close()
	})
	eventually(t, "sshd listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return sshServer{port}
}

// guess tries one wrong password.
func (s sshServer) guess(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sshpass", "-p", "wrong", "ssh", "-p", strconv.Itoa(int(s.port)), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "NumberOfPasswordPrompts=1", "-o", "PubkeyAuthentication=no", "root@127.0.0.1", "true")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Permission denied")
}

// TestNothingIsLostNothingIsDoubled: the server goes away, lines wait in rsyslog's files, rsyslogd is killed and restarted
// meanwhile, the server comes back: each line came once.
func TestNothingIsLostNothingIsDoubled(t *testing.T) {
	t.Parallel()
	a, s, port := newAuthority(t), newStream(), freePort(t)
	listen := a.listening(t, port)
	_, stop := launch(t, s, listen)
	dir, err := os.MkdirTemp("", "rsyslog") //nolint:usetesting // t.TempDir's paths are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conf := snippet(t, deploy.Snippet{Host: "web", Port: port, Protocol: deploy.TLS, Dir: a.certificate(t, pki.RoleSyslog, "web")})
	all := filepath.Join(dir, "all.log") // what has come as far as the queue
	conf += fmt.Sprintf("\naction(type=\"omfile\" file=%q flushOnTXEnd=\"on\")\n", all)
	d := start(t, conf, annotatedInput, dir)
	n := 0
	say := func(count int) {
		for range count {
			d.say(t, fmt.Sprint("line ", n))
			n++
		}
	}
	say(100)
	s.untilN(t, n)
	for range 2 {
		stop()
		say(1000)
		eventually(t, "lines on disk", func() bool {
			found, err := filepath.Glob(filepath.Join(dir, "kokkuri.0*"))
			return err == nil && len(found) > 0
		})
		queued := 0
		defer func() { t.Log("queued", queued, "of", n) }()
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(all)
			queued = strings.Count(string(text), "sshd[4711]: line ")
			return err == nil && queued >= n
		}, 60*time.Second, 20*time.Millisecond, "all lines in the queue")
		require.Equal(t, n, queued)
		require.NoError(t, d.cmd.Process.Kill())
		d.stop()
		d = start(t, conf, annotatedInput, dir)
		say(200)
		_, stop = launch(t, s, listen)
		defer func() {
			if t.Failed() {
				t.Logf("missing: %v", missing(s, n))
			}
		}()
		s.untilN(t, n)
	}
	say(1)
	s.untilN(t, n)
	got := make([]string, 0, n)
	seen := make(map[string]int)
	for _, l := range s.lines() {
		head, text, ok := strings.Cut(l, `"]  `)
		require.True(t, ok, l)
		require.Contains(t, head, " web sshd 4711 - [kokkuri@32473 uid=", "who wrote it survives the disk")
		got = append(got, text)
		seen[text]++
	}
	require.Len(t, got, n)
	for i := range n {
		require.Equal(t, 1, seen[fmt.Sprint("line ", i)], "line %d", i)
	}
}

// TestThroughARelay: a host's rsyslogd sends to another, and that to the server, with what the first saw of who wrote.
func TestThroughARelay(t *testing.T) {
	t.Parallel()
	for _, by := range []string{deploy.TCP, deploy.TLS} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			a, s := newAuthority(t), newStream()
			in, _ := launch(t, s, func(o *Options) {
				a.overTLS(t)(o)
				// Only by what the operator says of relays is this machine more than web.
				o.RelayNames, o.Relays = []string{"loghost"}, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			})
			tcp, _ := in.Addresses()
			port, between := tcp[0].Port(), freePort(t)
			if by == deploy.TLS {
				port = in.TLSAddresses()[0].Port()
			}
			annotating(t, fmt.Sprintf("module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"%d\" address=\"127.0.0.1\")\n", between)+
				snippet(t, deploy.Snippet{Host: "loghost", Relay: true, Port: port, Protocol: by, Dir: a.certificate(t, pki.RoleSyslog, "loghost")}))
			host := annotating(t, snippet(t, deploy.Snippet{Host: "web", Port: between, Protocol: deploy.TCP}))
			host.say(t, "Failed password for root from 203.0.113.66 port 4022 ssh2")
			s.untilN(t, 1)
			got := s.lines()[0]
			assert.True(t, strings.HasPrefix(got, "web/syslog-"+by+": "), got)
			assert.Contains(t, got, fmt.Sprintf(` web sshd 4711 - [kokkuri@32473 uid="%d"`, os.Getuid()))

			// Lines of hosts that nobody knows are put aside.
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", between))
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			send(t, conn, "<38>Nov 22 18:00:00 stranger sshd[1]: x\n<38>Nov 22 18:00:00 db sshd[1]: Accepted password for a from 203.0.113.20 port 1 ssh2\n")
			s.untilN(t, 2)
			assert.True(t, strings.HasPrefix(s.lines()[1], "db/"), s.lines()[1])
			eventually(t, "put aside", func() bool { return in.Stats().Quarantined[reasonUnknownHost] == 1 })
		})
	}
}

// TestSnippetOverUDP: the lines come, marked as what proves nothing, unless an operator vouches for the network.
func TestSnippetOverUDP(t *testing.T) {
	t.Parallel()
	for _, trusted := range []bool{false, true} {
		s := newStream()
		in, _ := launch(t, s, func(o *Options) {
			if trusted {
				o.TrustUDP = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		})
		_, udp := in.Addresses()
		d := annotating(t, snippet(t, deploy.Snippet{Host: "web", Port: udp[0].Port(), Protocol: deploy.UDP}))
		d.say(t, "Failed password for root from 203.0.113.66 port 4022 ssh2")
		s.untilN(t, 1)
		assert.True(t, strings.HasPrefix(s.lines()[0], "web/syslog-udp: 1 "), s.lines()[0])
		eventually(t, "counted", func() bool { return in.Stats().UDPLines == 1 })
		assert.Equal(t, map[bool]int64{false: 1, true: 0}[trusted], in.Stats().UDPUntrusted)
	}
}

// TestPrograms: beside auth and authpriv only what services write that Kokkuri reads is sent, under its whole name.
func TestPrograms(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	tcp, _ := in.Addresses()
	d := annotating(t, snippet(t, deploy.Snippet{Host: "web", Port: tcp[0].Port(), Protocol: deploy.TCP}))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unixgram", d.sock)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	for _, m := range []string{"<30>cron[1]: no", "<22>postfix/submission/smtpd[2]: yes", "<30>kernel: no", "<30>mariadbd[3]: yes", "<86>su[4]: yes", "<93>vsftpd[5]: yes"} {
		send(t, conn, m)
	}
	s.untilN(t, 4)
	got := strings.Join(s.lines(), "\n")
	for _, want := range []string{" web postfix/submission/smtpd 2 - [", " web mariadbd 3 - [", " web su 4 - [", " web vsftpd 5 - ["} {
		assert.Contains(t, got, want)
	}
	assert.NotContains(t, got, "no\n")
}

// missing are the lines "line 0" to "line n-1" that did not come.
func missing(s *stream, n int) (out []int) {
	text := strings.Join(s.lines(), "\n") + "\n"
	for i := range n {
		if !strings.Contains(text, fmt.Sprintf(" line %d\n", i)) {
			out = append(out, i)
		}
	}
	return out
}
