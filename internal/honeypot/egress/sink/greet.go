package sink

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

const maxLines = 200

// greeter speaks the beginning of a protocol in which the server speaks first, or answers lines.
type greeter struct {
	protocol string
	greeting func(host string) string
	// answer returns what to say to a line, and whether that was the last word.
	answer func(d *dialogue, line string) (say string, end bool)
}

// dialogue is what a greeter remembers.
type dialogue struct {
	host string
	data bool // within a message
	nick string
	step int
}

func greeterOf(port uint16) *greeter {
	switch port {
	case 21:
		return &greeter{"ftp", func(string) string { return "220 (vsFTPd 3.0.5)\r\n" }, ftp}
	case 22, 2222:
		return &greeter{"ssh", func(string) string { return "SSH-2.0-OpenSSH_8.9p1 Ubuntu-3ubuntu0.10\r\n" }, nil}
	case 23, 2323:
		return &greeter{"telnet", func(string) string { return "\xff\xfd\x18\xff\xfd\x20\xff\xfb\x01\r\nlogin: " }, telnet}
	case 25, 587, 2525:
		return &greeter{"smtp", func(h string) string { return "220 " + h + " ESMTP Postfix\r\n" }, smtp}
	case 110:
		return &greeter{"pop3", func(string) string { return "+OK Dovecot ready.\r\n" }, pop3}
	case 143:
		return &greeter{"imap", func(string) string { return "* OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] Dovecot ready.\r\n" }, imap}
	case 6660, 6661, 6662, 6663, 6664, 6665, 6666, 6667, 6668, 6669, 7000:
		return &greeter{"irc", func(h string) string { return ":" + h + " NOTICE * :*** Looking up your hostname...\r\n" }, irc}
	}
	return nil
}

// speak holds a dialogue, and tells what the client said in it.
func (c *call) speak(g *greeter) {
	host, _ := c.s.nameOf(c.pot, c.to.Addr())
	if host == "" {
		host = c.to.Addr().String()
	}
	said := append([]byte{}, c.buf...)
	defer func() {
		c.tell(event.Egress{
			What: "connect", Protocol: g.protocol, Data: event.Bytes(said[:min(len(said), keptData)]), Bytes: c.in,
		})
	}()
	d := &dialogue{host: host}
	if c.write([]byte(g.greeting(host))) != nil {
		return
	}
	for range maxLines {
		line, rest, ok := bytes.Cut(c.buf, []byte("\n"))
		if !ok || g.answer == nil {
			before := len(c.buf)
			if c.more(silence) != nil {
				return
			}
			if room := keptData - len(said); room > 0 {
				fresh := c.buf[before:]
				said = append(said, fresh[:min(len(fresh), room)]...)
			}
			if g.answer == nil {
				c.buf = c.buf[:0]
			}
			continue
		}
		c.buf = rest
		say, end := g.answer(d, strings.TrimRight(string(line), "\r"))
		if say != "" && c.write([]byte(say)) != nil || end {
			return
		}
	}
}

// word returns a line's first word in upper case, and the rest.
func word(line string) (first, rest string) {
	first, rest, _ = strings.Cut(strings.TrimSpace(line), " ")
	return strings.ToUpper(first), rest
}

func smtp(d *dialogue, line string) (string, bool) {
	if d.data {
		if line == "." {
			d.data = false
			return "250 2.0.0 Ok: queued as 4XqL2k1zVbz9s7\r\n", false
		}
		return "", false
	}
	switch w, _ := word(line); w {
	case "EHLO":
		return "250-" + d.host + "\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n", false
	case "HELO":
		return "250 " + d.host + "\r\n", false
	case "MAIL":
		return "250 2.1.0 Ok\r\n", false
	case "RCPT":
		return "250 2.1.5 Ok\r\n", false
	case "DATA":
		d.data = true
		return "354 End data with <CR><LF>.<CR><LF>\r\n", false
	case "AUTH":
		return "535 5.7.8 Error: authentication failed\r\n", false
	case "RSET", "NOOP":
		return "250 2.0.0 Ok\r\n", false
	case "QUIT":
		return "221 2.0.0 Bye\r\n", true
	}
	return "502 5.5.2 Error: command not recognized\r\n", false
}

func ftp(_ *dialogue, line string) (string, bool) {
	switch w, _ := word(line); w {
	case "USER":
		return "331 Please specify the password.\r\n", false
	case "PASS":
		return "230 Login successful.\r\n", false
	case "SYST":
		return "215 UNIX Type: L8\r\n", false
	case "PWD":
		return "257 \"/\" is the current directory\r\n", false
	case "TYPE":
		return "200 Switching to Binary mode.\r\n", false
	case "CWD":
		return "250 Directory successfully changed.\r\n", false
	case "SIZE", "RETR", "MDTM":
		return "550 Failed to open file.\r\n", false
	case "PASV", "EPSV", "PORT", "EPRT":
		return "425 Failed to establish connection.\r\n", false
	case "QUIT":
		return "221 Goodbye.\r\n", true
	}
	return "500 Unknown command.\r\n", false
}

func pop3(_ *dialogue, line string) (string, bool) {
	switch w, _ := word(line); w {
	case "CAPA":
		return "+OK\r\nCAPA\r\nUIDL\r\nUSER\r\n.\r\n", false
	case "USER":
		return "+OK\r\n", false
	case "QUIT":
		return "+OK Logging out\r\n", true
	}
	return "-ERR [AUTH] Authentication failed.\r\n", false
}

func imap(_ *dialogue, line string) (string, bool) {
	tag, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if len(tag) > 32 || strings.ContainsAny(tag, "\"\\{}()%*") {
		return "* BAD Invalid tag\r\n", false
	}
	switch w, _ := word(rest); w {
	case "LOGOUT":
		return "* BYE Logging out\r\n" + tag + " OK Logout completed.\r\n", true
	case "CAPABILITY":
		return "* CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN\r\n" + tag + " OK Capability completed.\r\n", false
	}
	return tag + " NO [AUTHENTICATIONFAILED] Authentication failed.\r\n", false
}

func telnet(d *dialogue, _ string) (string, bool) {
	d.step++
	switch {
	case d.step%2 == 1:
		return "Password: ", false
	case d.step >= 6:
		return "\r\nLogin incorrect\r\n", true
	}
	return "\r\nLogin incorrect\r\nlogin: ", false
}

// irc lets a client in and lets it join, so that it says which channel, and with which key.
func irc(d *dialogue, line string) (string, bool) {
	switch w, rest := word(line); w {
	case "NICK":
		d.nick = cutText(rest, 30)
		return "", false
	case "USER":
		return fmt.Sprintf(":%[1]s 001 %[2]s :Welcome to the Internet Relay Network %[2]s\r\n:%[1]s 376 %[2]s :End of /MOTD command.\r\n", d.host, d.nick), false
	case "PING":
		return fmt.Sprintf(":%[1]s PONG %[1]s :%[2]s\r\n", d.host, cutText(strings.TrimPrefix(rest, ":"), 100)), false
	case "JOIN":
		channel := cutText(strings.Fields(rest + " #")[0], 50)
		return fmt.Sprintf(":%[2]s!u@h JOIN %[3]s\r\n:%[1]s 353 %[2]s = %[3]s :%[2]s\r\n:%[1]s 366 %[2]s %[3]s :End of /NAMES list.\r\n", d.host, d.nick, channel), false
	case "QUIT":
		return "ERROR :Closing Link\r\n", true
	}
	return "", false
}

func cutText(s string, n int) string { return s[:min(len(s), n)] }
