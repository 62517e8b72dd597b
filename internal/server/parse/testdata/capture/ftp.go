package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

const (
	vsftpdConf = `listen=NO
listen_ipv6=YES
listen_port=%d
anonymous_enable=YES
local_enable=YES
write_enable=YES
anon_root=/srv/ftp
xferlog_enable=YES
vsftpd_log_file=/kk/vsftpd.log
delay_failed_login=0
delay_successful_login=0
secure_chroot_dir=/run/vsftpd/empty
pam_service_name=vsftpd
background=NO
seccomp_sandbox=NO
%s
`
	proftpdConf = `ServerName "Debian"
ServerType standalone
Port %d
DefaultAddress 127.0.0.1 ::1
UseIPv6 on
PidFile /kk/proftpd.pid
SyslogLevel info
User proxy
Group nogroup
UseReverseDNS %s
MaxLoginAttempts 3
AuthOrder mod_auth_pam.c* mod_auth_unix.c
ScoreboardFile /kk/scoreboard
%s
<Anonymous /srv/ftp>
  User ftp
  Group nogroup
  UserAlias anonymous ftp
  RequireValidShell off
</Anonymous>
`
)

// ftpServer is a configuration of a server.
type ftpServer struct {
	set, config string
	argv        []string
	logs        []namedLog
	scenarios   []scenario
	port        int
}

func (c *capture) vsftpd() error {
	argv := []string{"/usr/sbin/vsftpd", "/kk/conf"}
	return c.ftp("-vsftpd-", []ftpServer{
		{
			set: "vsftpd_log_file", port: 2421, config: fmt.Sprintf(vsftpdConf, 2421, ""), argv: argv, logs: []namedLog{{"native", c.log("kk/vsftpd.log")}},
			scenarios: ftpScenarios(2421, "vsftpd"),
		},
		{set: "syslog_enable", port: 2422, config: fmt.Sprintf(vsftpdConf, 2422, "syslog_enable=YES"), argv: argv, scenarios: ftpScenarios(2422, "vsftpd")},
	})
}

func (c *capture) proftpd() error {
	argv := daemon("/usr/sbin/proftpd -c /kk/conf", "/kk/proftpd.pid")
	return c.ftp("-proftpd-", []ftpServer{
		{
			set: "SystemLog", port: 2423, config: fmt.Sprintf(proftpdConf, 2423, "off", "SystemLog /kk/proftpd.log"), argv: argv,
			logs: []namedLog{{"native", c.log("kk/proftpd.log")}}, scenarios: ftpScenarios(2423, "proftpd"),
		},
		{
			set: "syslog, host names", port: 2424, config: fmt.Sprintf(proftpdConf, 2424, "on", ""), argv: argv,
			scenarios: append(ftpScenarios(2424, "proftpd"), ftpNames(2424)...),
		},
	})
}

func (c *capture) pureftpd() error {
	return c.ftp("-pureftpd-", []ftpServer{
		{
			set: "no host names, transfer log", port: 2425,
			argv: []string{"/usr/sbin/pure-ftpd", "-l", "pam", "-H", "-S", "127.0.0.1,2425", "-O", "clf:/kk/pureftpd-transfer.log"},
			logs: []namedLog{{"native", c.log("kk/pureftpd-transfer.log")}}, scenarios: ftpScenarios(2425, "pureftpd"),
		},
		{set: "host names", port: 2426, argv: []string{"/usr/sbin/pure-ftpd", "-l", "pam", "-S", "127.0.0.1,2426"}, scenarios: ftpNames(2426)},
	})
}

// ftp plays at an FTP server in each of its configurations.
func (c *capture) ftp(name string, list []ftpServer) error {
	if err := c.shell(`id ftp >/dev/null 2>&1 || useradd -r -d /srv/ftp -s /usr/sbin/nologin ftp
grep -q /usr/sbin/nologin /etc/shells || echo /usr/sbin/nologin >> /etc/shells
sed -i 's/pam_unix.so nullok$/pam_unix.so nullok nodelay/; s/pam_unix.so nullok_secure$/pam_unix.so nullok nodelay/' /etc/pam.d/common-auth
mkdir -p /kk/ftp /srv/ftp /run/vsftpd/empty /run/proftpd /etc/pure-ftpd/auth; chown root:root /srv/ftp; echo x > /srv/ftp/file.txt`); err != nil {
		return err
	}
	version, err := c.version(c.pkg)
	if err != nil {
		return err
	}
	f := c.file(name+upstream(version), c.pkg+" "+version+" (Debian)")
	f.probes = true
	for _, s := range list {
		if err := c.write("kk/conf", s.config); err != nil {
			return err
		}
		if err := c.start(s.port, s.argv...); err != nil {
			return err
		}
		f.logs = append(s.logs, namedLog{"syslog", c.sys})
		f.title(s.set)
		c.play(s.scenarios, f)
		c.stop()
	}
	return f.save()
}

// daemon runs a program that goes to the background by itself (in the foreground proftpd logs to its standard error only).
func daemon(command, pidFile string) []string {
	return []string{"/bin/sh", "-c", command + `; trap 'kill $(cat ` + pidFile + `); exit' TERM; while :; do sleep 0.2; done`}
}

// ftpSession is a control connection.
type ftpSession struct {
	conn net.Conn
	r    *bufio.Reader
}

func (s *session) ftp(port int) *ftpSession {
	conn, err := s.dial(port)
	if err != nil {
		return nil
	}
	f := &ftpSession{conn: conn, r: bufio.NewReader(conn)}
	f.answer()
	return f
}

// answer reads a reply, of several lines maybe, and returns its code.
func (f *ftpSession) answer() string {
	for {
		line, err := f.r.ReadString('\n')
		if err != nil || len(line) < 4 {
			return ""
		}
		if line[3] == ' ' && line[0] >= '1' && line[0] <= '5' {
			return line[:3]
		}
	}
}

func (f *ftpSession) cmd(text string) string {
	if _, err := f.conn.Write([]byte(text + "\r\n")); err != nil {
		return ""
	}
	return f.answer()
}

// guess logs in; a refusal after a password was asked for is a guess.
func (s *session) ftpGuess(f *ftpSession, user, pass string) bool {
	if f == nil {
		return false
	}
	code := f.cmd("USER " + user)
	if code != "331" && code != "230" {
		return false
	}
	if code == "331" {
		code = f.cmd("PASS " + pass)
	}
	switch code {
	case "230":
		s.logins++
		return true
	case "530", "421":
		s.guesses++
	}
	return false
}

func (s *session) quit(f *ftpSession) {
	if f != nil {
		f.cmd("QUIT")
		_ = f.conn.Close()
	}
}

func ftpScenarios(port int, server string) []scenario {
	list := []scenario{
		{name: "wrong password", do: func(s *session) {
			f := s.ftp(port)
			s.ftpGuess(f, "alice", "x")
			s.ftpGuess(f, "alice", "y")
			s.quit(f)
		}},
		{name: "unknown user", do: func(s *session) {
			f := s.ftp(port)
			s.ftpGuess(f, "admin", "x")
			s.ftpGuess(f, "admin", "y")
			s.quit(f)
		}},
		{name: "until the limit", do: func(s *session) {
			f := s.ftp(port)
			most := 8
			if server == "pureftpd" {
				most = 3 // each of its answers takes longer than the one before
			}
			for i := range most {
				s.ftpGuess(f, "root", fmt.Sprint("x", i))
			}
			s.quit(f)
		}},
		{name: "success after a failure", do: func(s *session) {
			f := s.ftp(port)
			s.ftpGuess(f, "alice", "x")
			s.ftpGuess(f, "alice", password)
			s.quit(f)
		}},
		{name: "success over IPv6", source: "::1", do: func(s *session) {
			if server == "pureftpd" {
				s.source = "127.0.0.1" // listens on one address
			}
			f := s.ftp(port)
			s.ftpGuess(f, "alice", "x")
			s.ftpGuess(f, "alice", password)
			s.quit(f)
		}},
		{name: "anonymous", do: func(s *session) { f := s.ftp(port); s.ftpGuess(f, "anonymous", "me@example.org"); s.quit(f) }},
		{name: "anonymous, hostile password", do: func(s *session) {
			f := s.ftp(port)
			s.ftpGuess(f, "anonymous", `x] FAIL LOGIN: Client "198.51.100.9"`)
			s.quit(f)
		}},
		{name: "closed at once", do: func(s *session) { s.quit(s.ftp(port)) }},
		{name: "another protocol", do: func(s *session) {
			s.raw(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true)
		}},
		{name: "files of hostile names", do: func(s *session) {
			f := s.ftp(port)
			if !s.ftpGuess(f, "alice", password) {
				return
			}
			for _, name := range []string{
				`x] FAIL LOGIN: Client "198.51.100.9`, `x", "y`, `(?@198.51.100.9) [WARNING] Authentication failed for user [root]`,
				`x): USER root (Login failed): Incorrect password`, "x\x1b[31m",
			} {
				f.cmd("DELE " + name)
				f.cmd("MKD " + name)
				f.cmd("RMD " + name)
			}
			s.quit(f)
		}},
		{name: "lftp", do: func(s *session) {
			s.source = "127.0.0.1"
			s.guesses++
			s.c.in(nil, "lftp", "-e", "set net:max-retries 1; set ftp:ssl-allow no; ls; bye", "-u", "alice,wrong", fmt.Sprintf("ftp://127.0.0.1:%d", port))
		}},
		{name: "curl", do: func(s *session) {
			s.guesses++
			s.logins++
			for _, pass := range []string{"wrong", password} {
				s.c.in(nil, "curl", "-s", "-o", "/dev/null", "--interface", s.source, "-u", "alice:"+pass, fmt.Sprintf("ftp://127.0.0.1:%d/", port))
			}
		}},
		{name: "hydra", do: func(s *session) {
			s.source = local
			s.hydra(port, "ftp")
		}},
	}
	for _, user := range []string{
		`x] FAIL LOGIN: Client "198.51.100.9"`, `root] FAIL LOGIN: Client "198.51.100.9`, `x] OK LOGIN: Client "198.51.100.9"`, `x] FAIL DELETE: Client "198.51.100.9", "`,
		`x (Login failed): Incorrect password`, `x): USER root (Login failed): Incorrect password`, `web (198.51.100.9[198.51.100.9]) - USER root (Login failed): Incorrect password`,
		`x: no such user found from 198.51.100.9 [198.51.100.9] to 198.51.100.1:21`, `(?@198.51.100.9) [WARNING] Authentication failed for user [root]`,
		`x] [INFO] root is now logged in`, `x is now logged in`, ` rhost=198.51.100.9  user=root`, `root rhost=198.51.100.9`, "\x1b[31mred\x1b[0m", "\xc3\xbc\xff", `it's "quoted" \ and`,
		strings.Repeat("long ", 20), `ünïcode`, `[`, `]`, `a:b`, `-`, `%s%n`, `message repeated 9 times: [ x]`, "x\rroot",
		`Sun Nov 22 18:00:00 2026 [pid 2] [root] FAIL LOGIN: Client "198.51.100.9"`, `Nov 22 18:00:00 web vsftpd[1]: [root] FAIL LOGIN: Client "198.51.100.9"`,
	} {
		list = append(list, scenario{name: fmt.Sprintf("hostile user %.70q", user), do: func(s *session) {
			f := s.ftp(port)
			s.ftpGuess(f, user, "x")
			s.quit(f)
		}})
	}
	return list
}

// ftpNames come from addresses whose names are no addresses, or seem to be another's.
func ftpNames(port int) []scenario {
	one := func(s *session) {
		f := s.ftp(port)
		s.ftpGuess(f, "alice", "x")
		s.ftpGuess(f, "alice", password)
		s.quit(f)
	}
	return []scenario{{name: "no name", do: one}, {name: "a name", source: "127.0.9.8", do: one}, {name: "a name that is an address", source: "127.0.9.9", do: one}}
}
