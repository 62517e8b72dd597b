package main

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const dropbearPort = 24022

func (c *capture) dropbear() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := c.shell("mkdir -p /home/alice/.ssh; chmod 700 /home/alice/.ssh; printf '" + string(ssh.MarshalAuthorizedKey(key.PublicKey())) +
		"' > /home/alice/.ssh/authorized_keys; chown -R alice:alice /home/alice/.ssh\nrm -f /etc/dropbear_key; dropbearkey -t rsa -f /etc/dropbear_key >/dev/null 2>&1"); err != nil {
		return err
	}
	f, err := c.syslogFile()
	if err != nil {
		return err
	}
	if err := c.start(dropbearPort, "/usr/sbin/dropbear", "-F", "-r", "/etc/dropbear_key", "-p", address(local, dropbearPort), "-p", address(six, dropbearPort), "-P", ""); err != nil {
		return err
	}
	list := []scenario{
		{name: "password, known account", do: func(s *session) { s.ssh(dropbearPort, "root", s.guess(2, false)) }},
		{name: "password, unknown account", do: func(s *session) { s.ssh(dropbearPort, "admin", s.guess(1, false)) }},
		{name: "unknown account, three guesses, of which the log tells one", do: func(s *session) { s.ssh(dropbearPort, "admin", s.guess(3, false)); s.guesses = 1 }},
		{name: "account without a shell, three guesses", do: func(s *session) { s.ssh(dropbearPort, "shut", s.guess(3, false)) }},
		{name: "password over IPv6", source: six, do: func(s *session) { s.ssh(dropbearPort, "root", s.guess(2, false)) }},
		{name: "unknown account over IPv6", source: six, do: func(s *session) { s.ssh(dropbearPort, "admin", s.guess(1, false)) }},
		{name: "limit reached, known account", do: func(s *session) { s.ssh(dropbearPort, "root", s.guess(12, false)) }},
		{name: "success after a failure", do: func(s *session) { s.ssh(dropbearPort, "alice", s.guess(1, true)) }},
		{name: "success", do: func(s *session) { s.ssh(dropbearPort, "alice", s.guess(0, true)) }},
		{name: "keys refused, then a password", do: func(s *session) { s.ssh(dropbearPort, "alice", keys(2), s.guess(0, true)) }},
		{name: "keys refused until the limit", do: func(s *session) { s.ssh(dropbearPort, "root", keys(12)) }},
		{name: "key accepted", do: func(s *session) { s.ssh(dropbearPort, "alice", ssh.PublicKeys(key)) }},
		{name: "account without a shell", do: func(s *session) { s.ssh(dropbearPort, "shut", s.guess(1, false)) }},
		{name: "empty user name", do: func(s *session) { s.ssh(dropbearPort, "", s.guess(1, false)) }},
		{name: "closed before the banner", do: func(s *session) { s.raw(dropbearPort, "", false) }},
		{name: "other protocol", do: func(s *session) { s.raw(dropbearPort, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false) }},
		{name: "garbage after the banner", do: func(s *session) { s.raw(dropbearPort, "SSH-2.0-x\r\n"+strings.Repeat("A", 64), false) }},
		{name: "nothing in common", do: func(s *session) { s.nothingInCommon(dropbearPort) }},
		{name: "an address with a name", source: "127.9.9.9", do: func(s *session) { s.ssh(dropbearPort, "root", s.guess(1, false)) }},
	}
	for _, name := range hostileLogins() {
		if len(name) > 200 { // dropbear says nothing of a name that is too long
			continue
		}
		list = append(list, scenario{name: fmt.Sprintf("hostile user name %.40q", name), do: func(s *session) { s.ssh(dropbearPort, name, s.guess(1, false)) }})
	}
	c.play(list, f)
	return f.save()
}
