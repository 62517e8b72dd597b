package ftp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/ftp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a real vsftpd that lets nobody in but anonymous: its accounts are this machine's. Those of pots are asked in the tests of pots.
func server(t testing.TB, settings ...string) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "pub"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "empty"), 0o755))
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) { // the server's user enters them
		require.NoError(t, os.Chmod(d, 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "pub", "a file"), []byte("content\n"), 0o644))
	address, port := fronttest.FreeAddress(t)
	config := filepath.Join(dir, "vsftpd.conf")
	require.NoError(t, os.WriteFile(config, []byte(strings.Join(append([]string{
		"listen=YES", "listen_address=127.0.0.1", "listen_port=" + port, "background=NO", "anonymous_enable=YES", "no_anon_password=NO", "anon_root=" + root,
		"secure_chroot_dir=" + filepath.Join(dir, "empty"), "local_enable=YES", "pam_service_name=kokkuri-none", "write_enable=YES", "xferlog_enable=NO", "max_per_ip=0",
		"seccomp_sandbox=NO", "max_login_fails=10",
	}, settings...), "\n")+"\n"), 0o600))
	fronttest.Start(t, address, exec.Command("vsftpd", config))
	return address
}

// open starts a front before a server; whom it would give an account is written to made.
func open(t testing.TB, address string, made *[]string, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return fronttest.New(t, event.FTP, ftp.New(front.Guard{
		Reach: front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) {
			return fronttest.Stay{ID: "pot", Address: address}, nil
		}},
		Policy: fronttest.Policy(t, event.FTP), Hash: fronttest.Hash,
		Admit: func(_ front.Stay, account, password string) error {
			*made = append(*made, account+" "+password)
			return nil
		},
	}), options...)
}

// line is a client that sends lines.
type line struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func connect(t *testing.T, conn net.Conn) *line {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	l := &line{t, conn, bufio.NewReader(conn)}
	require.Contains(t, l.answer(), "220 ")
	return l
}

// answer reads a reply, of whichever many lines.
func (l *line) answer() string {
	l.t.Helper()
	var all strings.Builder
	for {
		text, err := l.r.ReadString('\n')
		all.WriteString(text)
		if err != nil {
			return all.String() + err.Error()
		}
		if len(text) > 3 && text[3] == ' ' && !strings.HasPrefix(text, " ") {
			return all.String()
		}
	}
}

func (l *line) ask(text string) string {
	l.t.Helper()
	_, err := io.WriteString(l.conn, text+"\r\n")
	require.NoError(l.t, err)
	return l.answer()
}

// Guesses reach the server as they are only once one is accepted, and its account is made.
func TestWhoseGuessesReachTheServer(t *testing.T) {
	var said []string
	stay := fronttest.Pot(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220-hello\r\n220 (vsFTPd 3.0.3)\r\n")
		for r := bufio.NewReader(c); ; {
			text, err := r.ReadString('\n')
			if err != nil {
				return
			}
			said = append(said, strings.TrimSpace(text))
			_, _ = io.WriteString(c, map[bool]string{true: "331 Please specify the password.\r\n", false: "530 Login incorrect.\r\n"}[strings.HasPrefix(text, "USER")])
		}
	})
	var made []string
	s := open(t, stay.(fronttest.Stay).Address, &made) //nolint:forcetypeassert // it is one
	c := connect(t, s.Dial(t))
	for range 3 { // a client whose password is stale gets in never
		c.ask("USER web")
		assert.Contains(t, c.ask("PASS stale"), "530 Login incorrect")
	}
	c.ask("user root") // whom no server of FTP lets in
	c.ask("pass whatever")
	c.ask("USER web")
	c.ask("PASS right")
	c.ask("PASS another") // from here on it is the server's to decide
	require.NoError(t, c.conn.Close())
	session := s.Ended(t, 1)[0]
	assert.Equal(t, []string{"web right"}, made)
	var passwords []string
	for _, text := range said {
		if verb, password, _ := strings.Cut(text, " "); strings.EqualFold(verb, "PASS") {
			passwords = append(passwords, password)
		}
	}
	require.Len(t, passwords, 6)
	for i, p := range passwords[:4] {
		assert.NotContains(t, []string{"stale", "whatever", ""}, p, i)
	}
	assert.Equal(t, []string{"right", "another"}, passwords[4:])
	var guesses []string
	for _, e := range session.Evidence {
		if e.Login != nil {
			guesses = append(guesses, fmt.Sprintf("%s:%s %t", e.Login.Account, e.Login.Password, e.Login.Success))
		}
	}
	assert.Equal(t, []string{"web:stale false", "web:stale false", "web:stale false", "root:whatever false", "web:right false", "web:another false"}, guesses)
}

func TestCommandsAreEvidence(t *testing.T) {
	var made []string
	s := open(t, server(t), &made)
	c := connect(t, s.Dial(t))
	c.ask("USER anonymous")
	require.Contains(t, c.ask("PASS me@example.com"), "230 ")
	require.Contains(t, c.ask("FEAT"), "211 End")
	_, err := io.WriteString(c.conn, "CWD pub\r\nSIZE a file\r\nDELE ../../etc/\x1b[31mpasswd\r\n") // at once
	require.NoError(t, err)
	for range 3 {
		c.answer()
	}
	c.ask("QUIT")
	require.NoError(t, c.conn.Close())
	var got []string
	for _, e := range s.Ended(t, 1)[0].Evidence {
		if r := e.Request; r != nil {
			got = append(got, fmt.Sprintf("%q %.3s %t", r.Args, r.Answer, r.Failed))
		}
	}
	assert.Equal(t, []string{
		`["USER" "anonymous"] 331 false`, `["FEAT"] 211 false`, `["CWD" "pub"] 250 false`, `["SIZE" "a file"] 213 false`,
		`["DELE" "../../etc/\\x1b[31mpasswd"] 550 true`, `["QUIT"] 221 false`,
	}, got)
}

// TestAnswersAreTheServers sends the same commands to the server and through the front, and compares every byte.
func TestAnswersAreTheServers(t *testing.T) {
	var made []string
	address := server(t)
	s := open(t, address, &made)
	straight, through := connect(t, s.DialTo(t, address)), connect(t, s.Dial(t))
	for _, c := range []*line{straight, through} {
		c.ask("USER anonymous")
		require.Contains(t, c.ask("PASS x"), "230 ")
	}
	verbs := []string{"PWD", "CWD", "CDUP", "SIZE", "MDTM", "NOOP", "SYST", "TYPE", "MODE", "STRU", "SITE", "MKD", "RMD", "DELE", "RNFR", "RNTO", "OPTS", "REST", "ALLO", "ACCT", "xyz", "USER", "EPRT", "REIN", "PBSZ", "AUTH"}
	arguments := []string{"", "pub", "..", "/", "a file", "pub/a file", "HELP", "I", "A", "S", "UTF8 ON", "12", strings.Repeat("x", 3000), "\x00", "\xff\xf4", "TLS", "anonymous"}
	for _, text := range []string{"HELP", "FEAT", "STAT pub"} { // of many lines, which are sent slowly
		require.Equal(t, straight.ask(text), through.ask(text), "%q", text)
	}
	const requests = 10_000
	for range requests {
		text := strings.TrimSpace(verbs[rand.IntN(len(verbs))] + " " + arguments[rand.IntN(len(arguments))])
		require.Equal(t, straight.ask(text), through.ask(text), "%q", text)
	}
}

// No password of somebody who may be honest is kept.
func TestPasswordsOfTheHonest(t *testing.T) {
	var made []string
	s := open(t, server(t), &made, fronttest.Known)
	c := connect(t, s.Dial(t))
	c.ask("USER me")
	c.ask("PASS do-not-keep-me")
	require.NoError(t, c.conn.Close())
	session := s.Ended(t, 1)[0]
	data, err := os.ReadFile(session.Recording)
	require.NoError(t, err)
	assert.NotContains(t, string(data), "do-not-keep-me")
	assert.Contains(t, string(data), fronttest.Hashed)
}

func TestTenThousandGarbageConnections(t *testing.T) {
	stay := fronttest.Pot(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 hello\r\n")
		_, _ = io.Copy(c, c) // whatever it is
	})
	var made []string
	fronttest.Garbage(t, open(t, stay.(fronttest.Stay).Address, &made), //nolint:forcetypeassert // it is one
		"USER root\r\nPASS x\r\n", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n", "AUTH TLS\r\n", "PASS", "\xff\xf4\xff\xf2ABOR\r\n", "\x00")
}
