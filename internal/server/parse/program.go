package parse

import "github.com/kokkuri/kokkuri/internal/event"

// message is what a service's reader gets to read: text, and what syslog says beside it. All of it shares the
// line's memory.
type message struct {
	tag, pid []byte
	said     *fields // in structured data of ours; nil where there is none
	text     []byte
	http     *httpRules // how HTTP is to be read
}

// program is one that writes logs: the service that it is, how its messages are read, and who it runs as.
type program struct {
	service event.Service
	read    func(*message) fact
	exe     string // its executable's name, or several with spaces between; empty where that is not known
	uid     string // whom it logs as; empty where any
}

// programOf finds the program behind a syslog tag. Its zero value reads nothing.
func programOf(tag []byte) program {
	switch string(tag) {
	case "sshd":
		return program{service: event.SSH, read: sshMessage, exe: "sshd", uid: "0"}
	case "sshd-session":
		return program{service: event.SSH, read: sshMessage, exe: "sshd-session", uid: "0"}
	case "sshd-auth":
		return program{service: event.SSH, read: sshMessage, exe: "sshd-auth", uid: "0"}
	case "dropbear":
		return program{service: event.SSH, read: dropbearMessage, exe: "dropbear dropbearmulti", uid: "0"}
	case "mysqld", "mariadbd", "mysql", "mariadb":
		return program{service: event.MySQL, read: mysqlMessage}
	case "mysql-server_auditing":
		return program{service: event.MySQL, read: auditMessage, exe: "mariadbd mysqld"}
	case "redis", "redis-server", "valkey-server":
		return program{service: event.Redis, read: redisMessage}
	case "postgres", "postgresql":
		return program{service: event.Postgres, read: postgresMessage}
	case "vsftpd":
		return program{service: event.FTP, read: vsftpdMessage}
	case "proftpd":
		return program{service: event.FTP, read: proftpdMessage}
	case "pure-ftpd":
		return program{service: event.FTP, read: pureftpdMessage}
	case "nginx", "apache2", "apache", "httpd", "nginx-access", "nginx-error", "apache-access", "apache-error":
		return program{service: event.HTTP, read: httpMessage}
	case "login", "remote":
		return program{service: event.Telnet, read: loginMessage, exe: "login", uid: "0"}
	case "telnetd", "in.telnetd":
		return program{service: event.Telnet, read: telnetdMessage, exe: "telnetd in.telnetd", uid: "0"}
	case "postfix/smtpd", "postfix/submission/smtpd", "postfix/smtps/smtpd", "postfix/submissions/smtpd":
		return program{service: event.SMTP, read: postfixMessage, exe: "smtpd"}
	case "saslauthd":
		return program{service: event.SMTP, read: saslauthdMessage, exe: "saslauthd", uid: "0"}
	case "dovecot":
		return program{service: event.IMAP, read: dovecotMessage, exe: "log dovecot", uid: "0"}
	}
	if isPostfix(tag) {
		return program{service: event.SMTP, read: postfixMessage, exe: "smtpd"}
	}
	return program{}
}

// programOfService is the program that is meant where only the service is known.
func programOfService(s event.Service) program {
	switch s {
	case event.SSH:
		return programOf([]byte("sshd"))
	case event.MySQL:
		return programOf([]byte("mysqld"))
	case event.Redis:
		return programOf([]byte("redis"))
	case event.Postgres:
		return programOf([]byte("postgres"))
	case event.FTP:
		return program{service: event.FTP, read: ftpMessage}
	case event.HTTP:
		return programOf([]byte("nginx"))
	case event.Telnet:
		return programOf([]byte("login"))
	case event.SMTP:
		return programOf([]byte("postfix/smtpd"))
	case event.IMAP:
		return programOf([]byte("dovecot"))
	case event.PAM:
		return program{service: event.PAM, read: pamMessage}
	case event.ServicePot: // no program of a host's
	}
	return program{}
}
