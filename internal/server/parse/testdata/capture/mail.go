package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	smtpPort       = 24025
	submissionPort = 24587
	imapPort       = 24143
	pop3Port       = 24110
)

// dovecotAlone plays at Dovecot.
func (c *capture) dovecotAlone() error {
	f, err := c.syslogFile()
	if err != nil {
		return err
	}
	if err := c.dovecot(); err != nil {
		return err
	}
	c.play(imapScenarios(), f)
	return f.save()
}

// dovecot starts Dovecot.
func (c *capture) dovecot() error {
	config := `protocols = imap pop3
listen = 127.0.0.1, ::1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_verbose = no
passdb {
  driver = pam
}
userdb {
  driver = passwd
}
mail_location = maildir:~/Maildir
`
	if c.suite == "debian13" {
		config = `dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap pop3
listen = 127.0.0.1, ::1
ssl = no
auth_allow_cleartext = yes
auth_mechanisms = plain login
passdb pam {
}
userdb passwd {
}
mail_driver = maildir
mail_path = ~/Maildir
`
	}
	config += fmt.Sprintf(`service imap-login {
  inet_listener imap {
    port = %d
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %d
  }
  inet_listener pop3s {
    port = 0
  }
}
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0666
  }
}
`, imapPort, pop3Port)
	if err := c.shell("mkdir -p /var/spool/postfix/private; ! id postfix >/dev/null 2>&1 || chown postfix /var/spool/postfix/private"); err != nil {
		return err
	}
	if err := c.write("etc/dovecot/dovecot.conf", config); err != nil {
		return err
	}
	return c.start(imapPort, "/usr/sbin/dovecot", "-F")
}

func imapScenarios() []scenario {
	imap := func(user string, n int, right bool) func(*session) {
		return func(s *session) { s.imap(user, n, right) }
	}
	list := []scenario{
		{name: "imap, known account", do: imap("alice", 2, false)},
		{name: "imap, unknown account", do: imap("admin", 3, false)},
		{name: "imap over IPv6", source: six, do: imap("alice", 1, false)},
		{name: "imap, hangs up", do: imap("alice", -1, false)},
		{name: "imap, success", do: imap("alice", 0, true)},
		{name: "imap, closed at once", do: func(s *session) { s.raw(imapPort, "", false) }},
		{name: "imap, logs out", do: func(s *session) { s.raw(imapPort, "a LOGOUT\r\n", false) }},
		{name: "imap, other protocol", do: func(s *session) { s.raw(imapPort, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false) }},
		{name: "imap, an address with a name", source: "127.9.9.9", do: imap("alice", 1, false)},
		{name: "pop3, known account", do: func(s *session) { s.pop3("alice", 2, false) }},
		{name: "pop3, unknown account", do: func(s *session) { s.pop3("admin", 1, false) }},
		{name: "pop3, success", do: func(s *session) { s.pop3("alice", 0, true) }},
	}
	for _, name := range hostileLogins() {
		list = append(list, scenario{name: fmt.Sprintf("imap, hostile user name %.40q", name), do: imap(name, 1, false)})
	}
	return list
}

// conversation speaks in lines.
type conversation struct {
	conn net.Conn
	in   *bufio.Reader
}

func (s *session) talk(port int) (*conversation, error) {
	conn, err := s.dial(port)
	if err != nil {
		return nil, err
	}
	return &conversation{conn, bufio.NewReader(conn)}, nil
}

func (c *conversation) send(text string) { _, _ = c.conn.Write([]byte(text + "\r\n")) }

// reply reads up to the line that begins with one of the prefixes.
func (c *conversation) reply(prefixes ...string) (string, error) {
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				return line, nil
			}
		}
	}
}

func plain(user, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + secret))
}

// imap tries n wrong passwords, then the right one or none, and logs out; with -n it hangs up after n.
func (s *session) imap(user string, n int, right bool) {
	c, err := s.talk(imapPort)
	if err != nil {
		return
	}
	defer c.conn.Close()
	if _, err := c.reply("* OK"); err != nil {
		return
	}
	hangUp := n < 0
	for i := range max(n, -n) {
		c.send(fmt.Sprintf("a%d AUTHENTICATE PLAIN", i))
		if _, err := c.reply("+"); err != nil {
			return
		}
		c.send(plain(user, fmt.Sprintf("wrong %d", i)))
		s.guesses++
		if _, err := c.reply(fmt.Sprintf("a%d ", i)); err != nil {
			return
		}
	}
	if hangUp {
		return
	}
	if right {
		c.send(`b LOGIN ` + user + ` "` + password + `"`)
		if line, err := c.reply("b "); err == nil && strings.HasPrefix(line, "b OK") {
			s.logins++
		}
	}
	c.send("z LOGOUT")
	_, _ = c.reply("z ")
}

func (s *session) pop3(user string, n int, right bool) {
	c, err := s.talk(pop3Port)
	if err != nil {
		return
	}
	defer c.conn.Close()
	if _, err := c.reply("+OK"); err != nil {
		return
	}
	try := func(secret string) bool {
		c.send("USER " + user)
		if _, err := c.reply("+OK", "-ERR"); err != nil {
			return false
		}
		c.send("PASS " + secret)
		line, err := c.reply("+OK", "-ERR")
		return err == nil && strings.HasPrefix(line, "+OK")
	}
	for i := range n {
		s.guesses++
		try(fmt.Sprintf("wrong %d", i))
	}
	if right && try(password) {
		s.logins++
	}
	c.send("QUIT")
	_, _ = c.reply("+OK", "-ERR")
}

// postfix plays at Postfix, which asks Dovecot about passwords, or saslauthd.
func (c *capture) postfix() error {
	f, err := c.syslogFile()
	if err != nil {
		return err
	}
	if err := c.dovecot(); err != nil {
		return err
	}
	err = c.shell(fmt.Sprintf(`mkdir -p /run/saslauthd /etc/postfix/sasl
printf 'pwcheck_method: saslauthd\nmech_list: PLAIN LOGIN\nsaslauthd_path: /run/saslauthd/mux\n' > /etc/postfix/sasl/smtpd.conf
printf 'auth required pam_unix.so\naccount required pam_unix.so\n' > /etc/pam.d/smtp
cat > /etc/postfix/main.cf <<'END'
compatibility_level = 3.5
myhostname = web.example
mydestination =
inet_interfaces = all
inet_protocols = all
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_client_restrictions =
maillog_file =
END
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
sed -i '/^smtp  *inet/d' /etc/postfix/master.cf
cat >> /etc/postfix/master.cf <<'END'
127.0.0.1:%[1]d inet n - n - - smtpd
[::1]:%[1]d inet n - n - - smtpd
127.0.0.1:%[2]d inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_sasl_type=cyrus
  -o smtpd_sasl_path=smtpd
END
usermod -a -G sasl postfix; newaliases || true`, smtpPort, submissionPort))
	if err != nil {
		return err
	}
	if err := c.start(0, "/usr/sbin/saslauthd", "-d", "-a", "pam", "-m", "/run/saslauthd"); err != nil {
		return err
	}
	if err := c.start(smtpPort, "/usr/sbin/postfix", "start-fg"); err != nil {
		return err
	}
	c.play(smtpScenarios(), f)
	return f.save()
}

func smtpScenarios() []scenario {
	smtp := func(port int, method, user string, n int, right bool) func(*session) {
		return func(s *session) { s.smtp(port, method, user, n, right) }
	}
	var list []scenario
	for _, one := range []struct {
		name string
		port int
	}{{"dovecot's answers", smtpPort}, {"saslauthd's answers, submission", submissionPort}} {
		list = append(list,
			scenario{name: one.name + ", LOGIN, known account", do: smtp(one.port, "LOGIN", "alice", 2, false)},
			scenario{name: one.name + ", PLAIN, unknown account", do: smtp(one.port, "PLAIN", "admin", 2, false)},
			scenario{name: one.name + ", success after a failure", do: smtp(one.port, "PLAIN", "alice", 1, true)},
			scenario{name: one.name + ", unknown method", do: smtp(one.port, "NONESUCH", "alice", 0, false)},
			scenario{name: one.name + ", cancelled", do: func(s *session) { s.cancelled(one.port) }},
			scenario{name: one.name + ", hangs up within", do: func(s *session) { s.raw(one.port, "EHLO x\r\nAUTH LOGIN\r\n", false) }},
			scenario{name: one.name + ", closed at once", do: func(s *session) { s.raw(one.port, "", false) }},
			scenario{name: one.name + ", other protocol", do: func(s *session) { s.raw(one.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false) }},
			scenario{name: one.name + ", an address with a name", source: "127.9.9.9", do: smtp(one.port, "LOGIN", "alice", 1, false)},
		)
		for _, name := range hostileLogins() {
			list = append(list, scenario{name: fmt.Sprintf("%s, hostile user name %.40q", one.name, name), do: smtp(one.port, "LOGIN", name, 1, false)})
		}
	}
	list = append(list, scenario{name: "over IPv6", source: six, do: smtp(smtpPort, "LOGIN", "alice", 1, false)})
	return list
}

func (s *session) smtp(port int, method, user string, n int, right bool) {
	c, err := s.talk(port)
	if err != nil {
		return
	}
	defer c.conn.Close()
	if _, err := c.reply("220 "); err != nil {
		return
	}
	c.send("EHLO x")
	if _, err := c.reply("250 "); err != nil {
		return
	}
	if method == "NONESUCH" {
		c.send("AUTH NONESUCH")
		_, _ = c.reply("5", "3")
	}
	for i := range n {
		s.guesses++
		if _, err := c.auth(method, user, fmt.Sprintf("wrong %d", i)); err != nil {
			return
		}
	}
	if right {
		line, err := c.auth(method, user, password)
		switch {
		case err == nil && !strings.HasPrefix(line, "235"):
			s.guesses++ // trixie's saslauthd refuses this one too
		case err == nil:
			s.logins++
			// Only with a sender's address does postfix say who it is.
			c.send("MAIL FROM:<alice@web.example>")
			_, _ = c.reply("2", "4", "5")
			c.send("RCPT TO:<bob@other.example>")
			_, _ = c.reply("2", "4", "5")
		}
	}
	c.send("QUIT")
	_, _ = c.reply("221", "421")
	time.Sleep(100 * time.Millisecond)
}

func (c *conversation) auth(method, user, secret string) (string, error) {
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	if method == "PLAIN" {
		c.send("AUTH PLAIN " + plain(user, secret))
		return c.reply("2", "4", "5")
	}
	c.send("AUTH LOGIN")
	if _, err := c.reply("334"); err != nil {
		return "", err
	}
	c.send(b64(user))
	// Dovecot refuses some names at once.
	if line, err := c.reply("334", "4", "5"); err != nil || line[0] != '3' {
		return line, err
	}
	c.send(b64(secret))
	return c.reply("2", "4", "5")
}

func (s *session) cancelled(port int) {
	c, err := s.talk(port)
	if err != nil {
		return
	}
	defer c.conn.Close()
	_, _ = c.reply("220 ")
	c.send("EHLO x")
	_, _ = c.reply("250 ")
	c.send("AUTH LOGIN")
	_, _ = c.reply("334")
	c.send("*")
	_, _ = c.reply("5", "4")
	c.send("QUIT")
	_, _ = c.reply("221")
}
