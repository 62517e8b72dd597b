package honeypot_test

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

// terminal is a shell with a terminal, as a person has it.
type terminal struct {
	t    *testing.T
	in   io.Writer
	grew chan struct{} // when there is more to see
	n    int
	mu   sync.Mutex
	seen string
}

// terminal logs in and waits for the prompt.
func (f *fixture) terminal(t *testing.T, l event.Lease) *terminal {
	t.Helper()
	c, err := f.login(t.Context(), l.Endpoint, "123456")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	s, err := c.NewSession()
	require.NoError(t, err)
	require.NoError(t, s.RequestPty("xterm", 50, 250, ssh.TerminalModes{ssh.ECHO: 0}))
	in, err := s.StdinPipe()
	require.NoError(t, err)
	out, err := s.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.Shell())
	term := &terminal{t: t, in: in, grew: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := out.Read(buf)
			term.mu.Lock()
			term.seen += string(buf[:n])
			term.mu.Unlock()
			select {
			case term.grew <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	term.await(`[#$] $`)
	term.say("bind 'set enable-bracketed-paste off'; PS1='# '; stty -echo; set +o emacs")
	return term
}

func (x *terminal) send(s string) {
	x.t.Helper()
	_, err := io.WriteString(x.in, s)
	require.NoError(x.t, err)
}

// await waits until what has been shown since the last await has an expression in it.
func (x *terminal) await(expression string) string {
	x.t.Helper()
	re := regexp.MustCompile(expression)
	late := time.After(30 * time.Second)
	for {
		x.mu.Lock()
		got := strings.ReplaceAll(x.seen, "\r", "")
		ok := re.MatchString(got)
		if ok {
			x.seen = ""
		}
		x.mu.Unlock()
		if ok {
			return got
		}
		select {
		case <-x.grew:
		case <-late:
			require.Fail(x.t, "not shown", "no %s in %q", expression, got)
		}
	}
}

// say runs a command and returns what it shows.
func (x *terminal) say(command string) string {
	x.t.Helper()
	x.n++
	x.send(fmt.Sprintf("%s\necho \"e\"nd-%d\n", command, x.n))
	got := x.await(fmt.Sprintf(`(?m)end-%d$`, x.n))
	got, _, _ = strings.Cut(got, fmt.Sprintf("end-%d", x.n))
	lines := strings.Split(got, "\n")
	for i := range lines {
		for strings.HasPrefix(lines[i], "# ") {
			lines[i] = lines[i][2:]
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
