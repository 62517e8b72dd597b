package intake

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// syslogNG makes a folder with Debian 12's syslog-ng in it. On one machine Debian lets it not be beside rsyslog.
func syslogNG(t *testing.T) (root string) {
	t.Helper()
	root, err := os.MkdirTemp("", "syslog-ng") //nolint:usetesting // t.TempDir's paths are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	out, err := exec.CommandContext(t.Context(), "mmdebstrap", "--quiet", "--variant=extract", "--include=syslog-ng-core", "bookworm", root).CombinedOutput()
	require.NoError(t, err, string(out))
	return root
}

// runSyslogNG runs one on a machine that is called web, with a destination, and returns the socket that is as /dev/log is.
func runSyslogNG(t *testing.T, root, name, destination string) (sock string) {
	t.Helper()
	dir := filepath.Join(root, name)
	require.NoError(t, os.Mkdir(dir, 0o700))
	conf := fmt.Sprintf("@version: 3.38\nsource s { unix-dgram(\"/%s/log\"); };\ndestination d { %s };\nlog { source(s); destination(d); };\n", name, destination)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	script := `hostname web && exec chroot "$0" /usr/sbin/syslog-ng --no-caps -F -f "/$1/conf" --persist-file="/$1/persist" --control="/$1/ctl" --pidfile="/$1/pid" --stderr`
	cmd := exec.Command("unshare", "--uts", "sh", "-c", script, root, name)
	said, err := os.Create(filepath.Join(dir, "said"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if text, _ := os.ReadFile(said.Name()); t.Failed() {
			t.Logf("syslog-ng said: %s", text)
		}
		_ = said.Close()
	})
	sock = filepath.Join(dir, "log")
	eventually(t, "syslog-ng listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unixgram", sock)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return sock
}

// TestSyslogNG: Debian's syslog-ng with its standard destinations, plain and over TLS.
func TestSyslogNG(t *testing.T) {
	t.Parallel()
	root := syslogNG(t)
	a := newAuthority(t)
	dir := a.certificate(t, pki.RoleSyslog, "web")
	for _, file := range []string{"key.pem", "cert.pem", "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(root, file), text, 0o600))
	}
	const tls = `transport("tls") tls(ca-file("/ca.pem") key-file("/key.pem") cert-file("/cert.pem") peer-verify(required-trusted))`
	for name, c := range map[string]struct {
		destination string
		road        event.Road
	}{
		"network":     {`network("127.0.0.1" port(%d) transport("tcp"));`, event.RoadSyslogTCP},
		"syslog":      {`syslog("127.0.0.1" port(%d) transport("tcp"));`, event.RoadSyslogTCP},
		"network-tls": {`network("127.0.0.1" port(%d) ` + tls + `);`, event.RoadSyslogTLS},
		"syslog-tls":  {`syslog("127.0.0.1" port(%d) ` + tls + `);`, event.RoadSyslogTLS},
		"network-udp": {`network("127.0.0.1" port(%d) transport("udp"));`, event.RoadSyslogUDP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStream()
			in, _ := launch(t, s, a.overTLS(t))
			tcp, udp := in.Addresses()
			port := map[event.Road]uint16{event.RoadSyslogTCP: tcp[0].Port(), event.RoadSyslogTLS: in.TLSAddresses()[0].Port(), event.RoadSyslogUDP: udp[0].Port()}[c.road]
			d := &daemon{sock: runSyslogNG(t, root, name, fmt.Sprintf(c.destination, port))}
			d.say(t, "Failed password for root from 203.0.113.66 port 4022 ssh2", "Failed password for invalid user a b from 203.0.113.67 port 4023 ssh2")
			s.untilN(t, 2)
			var sources []string
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, b := range s.batches {
				assert.Equal(t, "web", b.Host)
				assert.Equal(t, c.road, b.Road)
				for _, l := range b.Lines {
					e := parse.Line(l, b.Received)
					assert.Equal(t, event.AuthFailed, e.Kind, string(l))
					assert.WithinDuration(t, b.Received, e.Time, 5e9)
					sources = append(sources, e.Source.String())
				}
			}
			assert.Equal(t, "203.0.113.66 203.0.113.67", strings.Join(sources, " "))
		})
	}
}
