package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

const dropbearPort = 24022

func (c *capture) dropbear() error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	if err := c.shell(`mkdir -p /home/alice/.ssh; chown alice:alice /home/alice/.ssh; chmod 700 /home/alice/.ssh
rm -f /etc/dropbear_key; dropbearkey -t rsa -f /etc/dropbear_key >/dev/null 2>&1`); err != nil {
		return err
	}
	file := filepath.Join(c.root, "home/alice/.ssh/authorized_keys")
	if err := os.WriteFile(file, ssh.MarshalAuthorizedKey(key.PublicKey()), 0o644); err != nil {
		return err
	}
	if err := c.start("/usr/sbin/dropbear", "-F", "-r", "/etc/dropbear_key", "-p", fmt.Sprintf("127.0.0.1:%d", dropbearPort), "-p", fmt.Sprintf("[::1]:%d", dropbearPort), "-P", ""); err != nil {
		return err
	}
	defer c.stop()
	if err := reachable(fmt.Sprintf("127.0.0.1:%d", dropbearPort)); err != nil {
		return err
	}
	list := []scenario{
		{name: "password, known account", do: func(s *session) { s.ssh("root", s.guess(2, false)) }},
		{name: "password, unknown account", do: func(s *session) { s.ssh("admin", s.guess(1, false)) }},
		{name: "unknown account, three guesses, of which the log tells one", do: func(s *session) { s.ssh("admin", s.guess(3, false)); s.guesses = 1 }},
		{name: "account without a shell, three guesses", do: func(s *session) { s.ssh("shut", s.guess(3, false)) }},
		{name: "password over IPv6", v6: true, do: func(s *session) { s.ssh("root", s.guess(2, false)) }},
		{name: "unknown account over IPv6", v6: true, do: func(s *session) { s.ssh("admin", s.guess(1, false)) }},
		{name: "limit reached, known account", do: func(s *session) { s.ssh("root", s.guess(12, false)) }},
		{name: "success after a failure", do: func(s *session) { s.ssh("alice", s.guess(1, true)) }},
		{name: "success", do: func(s *session) { s.ssh("alice", s.guess(0, true)) }},
		{name: "keys refused, then a password", do: func(s *session) { s.ssh("alice", sshKeys(2), s.guess(0, true)) }},
		{name: "keys refused until the limit", do: func(s *session) { s.ssh("root", sshKeys(12)) }},
		{name: "key accepted", do: func(s *session) { s.ssh("alice", ssh.PublicKeys(key)) }},
		{name: "account without a shell", do: func(s *session) { s.ssh("shut", s.guess(1, false)) }},
		{name: "empty user name", do: func(s *session) { s.ssh("", s.guess(1, false)) }},
		{name: "closed before the banner", do: func(s *session) { s.raw(dropbearPort, "") }},
		{name: "other protocol", do: func(s *session) { s.raw(dropbearPort, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }},
		{name: "garbage after the banner", do: func(s *session) { s.raw(dropbearPort, "SSH-2.0-x\r\n"+string(bytes.Repeat([]byte{'A'}, 64))) }},
		{name: "nothing in common", do: func(s *session) {
			conn, err := s.dial(dropbearPort)
			if err != nil {
				return
			}
			defer conn.Close()
			config := &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()} //nolint:gosec // our own server
			config.KeyExchanges = []string{"diffie-hellman-group1-sha1"}
			_, _, _, _ = ssh.NewClientConn(conn, "dropbear", config)
		}},
		{name: "an address with a name", source: "127.9.9.9", do: func(s *session) { s.ssh("root", s.guess(1, false)) }},
	}
	for _, name := range hostile() {
		if len(name) > 200 { // dropbear says nothing of a name that is too long
			continue
		}
		list = append(list, scenario{name: fmt.Sprintf("hostile user name %.40q", name), do: func(s *session) { s.ssh(name, s.guess(1, false)) }})
	}
	c.play(list)
	return nil
}

func (s *session) ssh(user string, methods ...ssh.AuthMethod) {
	conn, err := s.dial(dropbearPort)
	if err != nil {
		return
	}
	defer conn.Close()
	client, _, _, err := ssh.NewClientConn(conn, "dropbear", &ssh.ClientConfig{
		User: user, Auth: methods, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // it is our own server
	})
	if err == nil {
		s.logins++
		_ = client.Close()
	}
}

var errNoMore = errors.New("no more")

// guess answers with n wrong passwords, or with the right one after them.
func (s *session) guess(n int, right bool) ssh.AuthMethod {
	i := 0
	return ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		i++
		if i > n {
			if right {
				return password, nil
			}
			return "", errNoMore
		}
		s.guesses++
		return fmt.Sprintf("wrong %d", i), nil
	}), n+1)
}

func (s *session) raw(port int, text string) {
	conn, err := s.dial(port)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(text))
}

func sshKeys(n int) ssh.AuthMethod {
	var signers []ssh.Signer
	for range n {
		_, private, _ := ed25519.GenerateKey(rand.Reader)
		signer, _ := ssh.NewSignerFromKey(private)
		signers = append(signers, signer)
	}
	return ssh.PublicKeys(signers...)
}
