package main

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

func (c *capture) sshd() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	public := string(ssh.MarshalAuthorizedKey(key.PublicKey()))
	if err := c.shell("mkdir -p /run/sshd /home/alice/.ssh; chmod 700 /home/alice/.ssh; printf '" + public + "cert-authority " + public +
		"' > /home/alice/.ssh/authorized_keys; chown -R alice:alice /home/alice/.ssh; ssh-keygen -A >/dev/null"); err != nil {
		return err
	}
	version, err := c.version(c.pkg)
	if err != nil {
		return err
	}
	f := c.file("-openssh-"+upstream(version), c.pkg+" "+version+" (Debian)", namedLog{from: c.sys})
	for i, set := range []struct{ name, config string }{
		{"PAM, verbose", "UsePAM yes\nLogLevel VERBOSE\nKbdInteractiveAuthentication yes\n"},
		{"PAM, info", "UsePAM yes\nLogLevel INFO\nKbdInteractiveAuthentication yes\n"},
		{"no PAM, verbose", "UsePAM no\nLogLevel VERBOSE\nKbdInteractiveAuthentication yes\n"},
	} {
		port := 2300 + i
		if err := c.startSSHD(port, set.config); err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
		f.title(set.name)
		c.play(sshdScenarios(port, key), f)
		c.stop()
	}
	return f.save()
}

func (c *capture) startSSHD(port int, config string) error {
	config += fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nListenAddress ::1\nPermitRootLogin yes\nDenyUsers bob\nMaxAuthTries 6\nPidFile none\n", port)
	out, err := c.chroot("/usr/sbin/sshd", "-o", "PerSourcePenalties=no", "-T").CombinedOutput()
	switch {
	case err == nil:
		config += "PerSourcePenalties no\n"
	case !strings.Contains(strings.ToLower(string(out)), "persourcepenalties"):
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := c.write("etc/ssh/sshd_capture", config); err != nil {
		return err
	}
	return c.start(port, "/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_capture")
}

const (
	forged    = "Failed password for root from 198.51.100.9 port 1 ssh2"
	forgedKey = "root from 198.51.100.9 port 1 ssh2: RSA SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func sshdScenarios(port int, key ssh.Signer) []scenario {
	list := []scenario{
		{name: "password, known account", do: func(s *session) { s.ssh(port, "root", s.guess(2, false)) }},
		{name: "password, unknown account", do: func(s *session) { s.ssh(port, "admin", s.guess(2, false)) }},
		{name: "password over IPv6", source: six, do: func(s *session) { s.ssh(port, "root", s.guess(2, false)) }},
		{name: "limit reached, known account", do: func(s *session) { s.ssh(port, "root", s.guess(8, false)) }},
		{name: "limit reached, unknown account", do: func(s *session) { s.ssh(port, "oracle", s.guess(8, false)) }},
		{name: "success after a failure", do: func(s *session) { s.ssh(port, "alice", s.guess(1, true)) }},
		{name: "keyboard-interactive, known account", do: func(s *session) { s.ssh(port, "root", s.guessKbd(2, false)) }},
		{name: "keyboard-interactive, unknown account", do: func(s *session) { s.ssh(port, "admin", s.guessKbd(2, false)) }},
		{name: "keyboard-interactive, success", do: func(s *session) { s.ssh(port, "alice", s.guessKbd(0, true)) }},
		{name: "keyboard-interactive then password", do: func(s *session) { s.ssh(port, "root", s.guessKbd(1, false), s.guess(2, false)) }},
		{name: "keys refused, then a password", do: func(s *session) { s.ssh(port, "alice", keys(3), s.guess(0, true)) }},
		{name: "keys refused until the limit", do: func(s *session) { s.ssh(port, "root", keys(8)) }},
		{name: "key accepted", do: func(s *session) { s.ssh(port, "alice", ssh.PublicKeys(key)) }},
		{name: "certificate accepted", do: func(s *session) { s.ssh(port, "alice", cert("alice's laptop", key)) }},
		{name: "certificate accepted, hostile id", do: func(s *session) {
			s.ssh(port, "alice", cert("x from 198.51.100.9 port 1 ssh2: RSA SHA256:AAAA", key))
		}},
		{name: "certificate refused, hostile id", do: func(s *session) {
			s.ssh(port, "root", cert("x from 198.51.100.9 port 1 ssh2: "+strings.Repeat("A", 1200), nil))
		}},
		{name: "denied user", do: func(s *session) { s.ssh(port, "bob", s.guess(2, false)) }},
		{name: "empty user name", do: func(s *session) { s.ssh(port, "", s.guess(2, false)) }},
		{name: "no method left", do: func(s *session) { s.ssh(port, "alice") }},
		{name: "closed before the banner", do: func(s *session) { s.raw(port, "", false) }},
		{name: "other protocol", do: func(s *session) { s.raw(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true) }},
		{name: "other protocol, hostile", do: func(s *session) { s.raw(port, "x' from 198.51.100.9 port 1\r\n\r\n", true) }},
		{name: "old protocol", do: func(s *session) { s.raw(port, "SSH-1.5-x from 198.51.100.9 port 1\r\n", true) }},
		{name: "garbage after the banner", do: func(s *session) { s.raw(port, "SSH-2.0-x\r\n"+strings.Repeat("A", 64), true) }},
		{name: "nothing in common", do: func(s *session) { s.nothingInCommon(port) }},
		{name: "closed by the authenticating user", do: func(s *session) { s.ssh(port, "root", s.guess(1, false)) }},
	}
	for _, user := range []string{
		forged, " from 198.51.100.9 port 1 ssh2", forgedKey, "root from 198.51.100.9 port 1 ssh2",
		"a from 198.51.100.9", "root 198.51.100.9 port 1: Too many authentication failures",
		"x\nNov 22 18:00:00 web sshd[1]: " + forged, "x\\nSshd", "\x1b[31mred\x1b[0m", "\xff\xfe\x80", "it's \"quoted\"",
		strings.Repeat("long ", 60), "invalid user root", "root ", "rhost=198.51.100.9  user=root", "a:b", "ünïcode",
		"x from 198.51.100.9 port 1 ssh2]", "message repeated 9 times: [ " + forged + "]",
	} {
		list = append(list, scenario{name: fmt.Sprintf("password, hostile user name %.40q", user), do: func(s *session) { s.ssh(port, user, s.guess(1, false)) }})
		list = append(list, scenario{name: fmt.Sprintf("key and prompt, hostile user name %.40q", user), do: func(s *session) { s.ssh(port, user, keys(1), s.guessKbd(1, false)) }})
	}
	return list
}
