package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrRefused says that the server let none of the passwords in.
var ErrRefused = errors.New("no password was accepted")

// Login is one connection to an SSH server and the passwords to try on it, one after another.
type Login struct {
	From      netip.Addr     // source address; any of the machine's own where invalid
	To        netip.AddrPort // the real sshd of web, in From's family, where invalid
	Account   string
	Passwords []string
}

func (g Login) target() netip.AddrPort {
	switch {
	case g.To.IsValid():
		return g.To
	case g.From.Is6():
		return WebSSH6()
	default:
		return WebSSH()
	}
}

// Shell is a connection that was let in.
type Shell struct {
	Local   netip.AddrPort // the client's end
	HostKey string         // fingerprint of the host key, SHA-256
	Banner  string         // the server's version line

	client *ssh.Client
}

const loginPatience = 20 * time.Second

// Login connects from the machine and tries the passwords. It returns ErrRefused where none was
// accepted, other errors where the connection failed or was cut.
func (m *Machine) Login(ctx context.Context, g Login) (*Shell, error) {
	shell, _, err := m.login(ctx, g)
	return shell, err
}

// Guess makes one guess for each password, all on one connection, and tells how many were refused.
func (m *Machine) Guess(ctx context.Context, from netip.Addr, account string, passwords ...string) (refused int, err error) {
	shell, tried, err := m.login(ctx, Login{From: from, Account: account, Passwords: passwords})
	if err == nil {
		return tried - 1, shell.Close()
	}
	return tried, err
}

func (m *Machine) login(ctx context.Context, g Login) (shell *Shell, tried int, err error) {
	conn, err := m.Dial(ctx, g.From, g.target())
	if err != nil {
		return nil, 0, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // that's what ends the handshake
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(loginPatience)); err != nil {
		return nil, 0, fmt.Errorf("set a deadline: %w", err)
	}
	shell = &Shell{}
	if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		shell.Local = tcp.AddrPort()
	}
	next := func() (string, error) {
		if tried == len(g.Passwords) {
			return "", ErrRefused
		}
		tried++
		return g.Passwords[tried-1], nil
	}
	config := &ssh.ClientConfig{
		User:          g.Account,
		Auth:          []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(next), len(g.Passwords)+1)},
		ClientVersion: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			shell.HostKey = ssh.FingerprintSHA256(key)
			return nil
		},
	}
	sc, chans, reqs, err := ssh.NewClientConn(conn, g.target().String(), config)
	if err != nil {
		conn.Close() //nolint:errcheck // the handshake's error says more
		if errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "unable to authenticate") {
			return nil, tried, fmt.Errorf("%s on %s from %s: %w", g.Account, g.target(), shell.Local, ErrRefused)
		}
		return nil, tried, fmt.Errorf("%s on %s from %s: %w", g.Account, g.target(), shell.Local, err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, tried, errors.Join(fmt.Errorf("clear the deadline: %w", err), sc.Close())
	}
	shell.Banner = string(sc.ServerVersion())
	shell.client = ssh.NewClient(sc, chans, reqs)
	return shell, tried, nil
}

// Run runs a command in the shell and returns what it wrote to both outputs.
func (s *Shell) Run(ctx context.Context, command string) (string, error) {
	session, err := s.client.NewSession()
	if err != nil {
		return "", fmt.Errorf("open a session for %q: %w", command, err)
	}
	defer session.Close()                                       //nolint:errcheck // its end was seen
	stop := context.AfterFunc(ctx, func() { s.client.Close() }) //nolint:errcheck // that's what ends the command
	defer stop()
	out, err := session.CombinedOutput(command)
	if err != nil {
		return string(out), fmt.Errorf("run %q: %w", command, errors.Join(ctx.Err(), err))
	}
	return string(out), nil
}

// Real tells whether the shell is on the real host: whether it sees the file that only that one has.
func (s *Shell) Real(ctx context.Context) (bool, error) {
	out, err := s.Run(ctx, "cat "+realMarker+" 2>/dev/null || echo no")
	if err != nil {
		return false, err
	}
	return strings.TrimSpace(out) == "the real host", nil
}

// Wait blocks until the connection has ended.
func (s *Shell) Wait() error { return s.client.Wait() } //nolint:wrapcheck // the end's own reason

// Close ends the connection.
func (s *Shell) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the connection from %s: %w", s.Local, err)
	}
	return nil
}

// HostKey tells the fingerprint of the host key that the machine sees, without logging in; of one of these algorithms
// where some are given.
func (m *Machine) HostKey(ctx context.Context, from netip.Addr, to netip.AddrPort, algorithms ...string) (string, error) {
	conn, err := m.Dial(ctx, from, to)
	if err != nil {
		return "", err
	}
	defer conn.Close()                                      //nolint:errcheck // the key is all that is wanted
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // that's what ends the handshake
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(loginPatience)); err != nil {
		return "", fmt.Errorf("set a deadline: %w", err)
	}
	seen := ""
	_, _, _, err = ssh.NewClientConn(conn, to.String(), &ssh.ClientConfig{
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = ssh.FingerprintSHA256(key)
			return errEnough
		},
	})
	if seen == "" {
		return "", fmt.Errorf("host key of %s as seen from %s: %w", to, from, err)
	}
	return seen, nil
}

var errEnough = errors.New("the host key is known")

// webReady waits until web's sshd answers the user over IPv4 and IPv6.
func (l *Lab) webReady(ctx context.Context) error {
	for _, target := range []netip.AddrPort{WebSSH(), WebSSH6()} {
		var last error
		err := wait(ctx, 30*time.Second, func() (bool, error) {
			_, last = l.User.HostKey(ctx, netip.Addr{}, target)
			return last == nil, nil
		})
		if err != nil {
			return fmt.Errorf("sshd of web does not answer: %w: %w", err, last)
		}
	}
	return nil
}
