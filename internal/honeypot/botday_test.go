package honeypot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// lineTime is what a line may take; most take a few milliseconds.
const lineTime = 2 * time.Minute

// What bots run does the same in a pot as on a host, but for what the table of docs/fidelity.md explains; and what they
// did is evidence.
func TestADayInAPot(t *testing.T) {
	day := botDay(t)
	t.Run("is told in the documentation", func(t *testing.T) {
		text, err := os.ReadFile("../../docs/fidelity.md")
		require.NoError(t, err)
		assert.Contains(t, string(text), "\n\n"+table(day), "docs/fidelity.md is to say this")
	})
	f := withDoor(t)
	host := newRealHost(t, pottest.Engine(t, f.opts.Name), "www1")
	f.bus.learn(thisMachine(t))
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	onHost, inPot := host.login(t, "123456"), f.pot(t, l, "123456")
	var said strings.Builder
	for _, script := range day {
		t.Run(script.Name, func(t *testing.T) {
			for _, line := range script.Lines {
				var onHostSaid, inPotSaid string
				asked := make(chan struct{})
				go func() { defer close(asked); onHostSaid = line.on(t, onHost) }()
				inPotSaid = line.on(t, inPot)
				<-asked
				said.WriteString(onHostSaid)
				assert.NoError(t, line.compare(line.same(onHostSaid), line.same(inPotSaid)), "%s", line)
			}
		})
	}
	for _, v := range variations() {
		assert.Regexp(t, v.what, said.String(), "nothing of the day needs that %s is not compared", v.why)
	}
	t.Run("what opens after the password was changed", func(t *testing.T) {
		host.login(t, "Zx81Spectrum48k")
		for password, opens := range map[string]bool{"Zx81Spectrum48k": false, "123456": true} {
			c, err := f.login(t.Context(), l.Endpoint, password)
			assert.Equal(t, opens, err == nil, "docs/fidelity.md says that a pot has one password")
			if c != nil {
				assert.NoError(t, c.Close())
			}
		}
	})
	require.NoError(t, inPot.Close())
	stop() // all is told
	for _, script := range day {
		t.Run("evidence of "+script.Name, func(t *testing.T) { f.check(t, script) })
	}
}

// thisMachine is a persona like the host of the test: of this machine's kernel, memory and time.
func thisMachine(t *testing.T) event.Persona {
	t.Helper()
	var u unix.Utsname
	require.NoError(t, unix.Uname(&u))
	text := func(b []byte) string { return unix.ByteSliceToString(b) }
	return event.Persona{
		Hostname: "www1", TimeZone: "Etc/UTC",
		OS:      event.OSRelease{ID: "debian", VersionID: "12", VersionCodename: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)"},
		Kernel:  event.Kernel{Name: text(u.Sysname[:]), Release: text(u.Release[:]), Version: text(u.Version[:]), Machine: text(u.Machine[:])},
		Machine: event.Hardware{Memory: memory(t)},
	}
}

// pot logs in to the attacker's pot.
func (f *fixture) pot(t *testing.T, l event.Lease, password string) *ssh.Client {
	t.Helper()
	conn, err := f.dial(t.Context(), l.Endpoint)
	require.NoError(t, err)
	c, chans, reqs, err := ssh.NewClientConn(conn, "web:22", &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{guesses(decoy, password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	require.NoError(t, err)
	client := ssh.NewClient(c, chans, reqs)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// on runs the line as bots do, and returns what it says and how it ends.
func (l botLine) on(t *testing.T, c *ssh.Client) string {
	t.Helper()
	s, err := c.NewSession()
	if !assert.NoError(t, err, "%s", l) { //nolint:testifylint // not in the test's goroutine
		return ""
	}
	defer s.Close() //nolint:errcheck // a test's session
	late := time.AfterFunc(lineTime, func() { _ = s.Close() })
	defer late.Stop()
	// What goes to both is told apart: each has a pipe of its own, and which comes first is chance.
	var out, said bytes.Buffer
	s.Stdout, s.Stderr = &out, &said
	if l.Type != "" {
		s.Stdin = strings.NewReader(l.Type)
		if err = s.Shell(); err == nil {
			err = s.Wait()
		}
	} else {
		err = s.Run(l.Run)
	}
	end := "exit 0"
	if ended := (*ssh.ExitError)(nil); errors.As(err, &ended) {
		if end = fmt.Sprintf("exit %d", ended.ExitStatus()); ended.Signal() != "" {
			end = "killed by " + ended.Signal()
		}
	} else {
		assert.NoError(t, err, "%s has no end", l)
	}
	return strings.ReplaceAll(out.String()+said.String()+end, "\r", "\n")
}

// check looks for what bots did in the evidence.
func (f *fixture) check(t *testing.T, script botScript) {
	t.Helper()
	f.bus.mu.Lock()
	var left []event.Evidence
	for _, some := range f.bus.evidence {
		left = append(left, some...)
	}
	f.bus.mu.Unlock()
	for _, ran := range script.Evidence.Ran {
		assert.True(t, slices.ContainsFunc(left, func(e event.Evidence) bool { return e.Execution != nil && arguments(e.Execution) == ran }), "nobody ran %s", ran)
	}
	for _, url := range script.Evidence.Asked {
		assert.True(t, slices.ContainsFunc(left, func(e event.Evidence) bool { return e.Egress != nil && request(url)(*e.Egress) }), "nobody asked for %s", url)
	}
	for path, has := range script.Evidence.Wrote {
		assert.True(t, slices.ContainsFunc(left, func(e event.Evidence) bool {
			if e.Write == nil || string(e.Write.Path) != path || e.Write.File == nil || e.Write.File.SHA256 == "" {
				return false
			}
			reply := f.bus.serveEvidence(context.Background(), event.EvidenceRequest{SHA256: e.Write.File.SHA256})
			return reply.Error == "" && strings.Contains(string(reply.Data), has)
		}), "nobody wrote %q into %s", has, path)
	}
}

// arguments are a program's with spaces between.
func arguments(x *event.Execution) string {
	var args []string
	for _, a := range x.Args {
		args = append(args, string(a))
	}
	return strings.Join(args, " ")
}
