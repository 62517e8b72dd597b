package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

const telnetPort = 24023

// telnet plays inetd: each connection gets a telnetd of its own, which calls login -h.
func (c *capture) login() error {
	f, err := c.syslogFile()
	if err != nil {
		return err
	}
	if err := c.shell(`sed -i '/^auth.*pam_securetty/d' /etc/pam.d/login
[ -e /etc/pam.d/remote ] || cp /etc/pam.d/login /etc/pam.d/remote`); err != nil {
		return err
	}
	for _, host := range []string{local, six} {
		l, err := net.Listen("tcp", address(host, telnetPort))
		if err != nil {
			return err
		}
		defer l.Close()
		go c.inetd(l)
	}
	c.play(telnetScenarios(), f)
	return f.save()
}

func (c *capture) inetd(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			f, err := conn.(*net.TCPConn).File()
			_ = conn.Close()
			if err != nil {
				return
			}
			defer f.Close()
			cmd := c.chroot("/usr/sbin/telnetd")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, f
			if err := cmd.Run(); err != nil {
				fmt.Fprintln(os.Stderr, "telnetd:", err)
			}
		}()
	}
}

func telnetScenarios() []scenario {
	list := []scenario{
		{name: "known account", do: func(s *session) { s.telnet("root", 2, false) }},
		{name: "unknown account", do: func(s *session) { s.telnet("admin", 2, false) }},
		{name: "over IPv6", source: six, do: func(s *session) { s.telnet("root", 1, false) }},
		{name: "limit reached", do: func(s *session) { s.telnet("root", 9, false) }},
		{name: "success after a failure", do: func(s *session) { s.telnet("alice", 1, true) }},
		{name: "root gets in", do: func(s *session) { s.telnet("root", 0, true) }},
		{name: "closed at once", do: func(s *session) { s.raw(telnetPort, "", false) }},
		{name: "no telnet", do: func(s *session) { s.raw(telnetPort, "GET / HTTP/1.1\r\n\r\n", false) }},
	}
	for _, name := range hostileLogins() {
		if bytes.ContainsAny([]byte(name), "\n\xff") || len(name) > 200 { // ends the line, or is telnet's own
			continue
		}
		list = append(list, scenario{name: fmt.Sprintf("hostile user name %.40q", name), do: func(s *session) { s.telnet(name, 1, false) }})
	}
	return append(list,
		scenario{name: "no address: it has a name", source: "127.9.9.8", do: func(s *session) { s.telnet("root", 2, false) }},
		scenario{name: "no address: a name that begins like one", source: "127.9.9.9", do: func(s *session) { s.telnet("root", 1, false) }},
	)
}

// telnet tries n wrong passwords, then the right one or none.
func (s *session) telnet(user string, n int, right bool) {
	conn, err := s.dial(telnetPort)
	if err != nil {
		return
	}
	defer conn.Close()
	t := &terminal{conn: conn}
	for i := 0; ; i++ {
		if t.until("login: ") != nil {
			return
		}
		if i == n && !right {
			return
		}
		t.line(user)
		if t.until("assword: ") != nil {
			return
		}
		if i == n {
			t.line(password)
			if t.until("$ ", "# ") == nil {
				s.logins++
				t.line("exit")
				_ = t.until("never")
			}
			return
		}
		t.line(fmt.Sprintf("wrong %d", i))
		s.guesses++
		time.Sleep(200 * time.Millisecond)
	}
}

// terminal is a telnet client that refuses every option.
type terminal struct {
	conn net.Conn
	seen []byte
}

var errEnd = errors.New("the other side is done")

func (t *terminal) line(text string) { _, _ = t.conn.Write([]byte(text + "\r\n")) }

// until reads until one of the texts came.
func (t *terminal) until(texts ...string) error {
	buf := make([]byte, 4096)
	var raw []byte
	for {
		for _, text := range texts {
			if i := bytes.Index(t.seen, []byte(text)); i >= 0 {
				t.seen = t.seen[i+len(text):]
				return nil
			}
		}
		n, err := t.conn.Read(buf)
		if err != nil {
			return errEnd
		}
		raw = append(raw, buf[:n]...)
		raw = t.options(raw)
	}
}

// options answers what is telnet's own (RFC 854) and keeps the rest.
func (t *terminal) options(raw []byte) []byte {
	const (
		iac, dont, do, wont, will, sb, se = 255, 254, 253, 252, 251, 250, 240
	)
	for len(raw) > 0 {
		if raw[0] != iac {
			t.seen = append(t.seen, raw[0])
			raw = raw[1:]
			continue
		}
		if len(raw) < 3 {
			return raw
		}
		switch raw[1] {
		case do:
			_, _ = t.conn.Write([]byte{iac, wont, raw[2]})
		case will:
			_, _ = t.conn.Write([]byte{iac, dont, raw[2]})
		case sb:
			end := bytes.Index(raw, []byte{iac, se})
			if end < 0 {
				return raw
			}
			raw = raw[end+2:]
			continue
		case iac:
			t.seen = append(t.seen, iac)
			raw = raw[2:]
			continue
		}
		raw = raw[3:]
	}
	return nil
}
