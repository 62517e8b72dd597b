package main

import (
	"fmt"
)

// mysql keeps error logs.
func (c *capture) mysql() error {
	version, err := c.version(c.pkg)
	if err != nil {
		return err
	}
	var f *file
	for i, set := range []struct{ name, flag string }{
		{"skip_name_resolve", "--skip-name-resolve"},
		{"names resolved", "--skip-name-resolve=0"},
	} {
		port := 33300 + i
		title := c.pkg + " " + version + " (Debian), " + set.name
		if f == nil {
			f = c.file("", title, namedLog{from: c.log("kk/my.err")})
			f.start = true
		} else {
			f.title(title)
		}
		if err := c.mariadb(port, f, set.flag); err != nil {
			return err
		}
	}
	return f.save()
}

// mysqlAudit keeps what the plugin server_audit writes to syslog.
func (c *capture) mysqlAudit() error {
	version, err := c.version(c.pkg)
	if err != nil {
		return err
	}
	f := c.file("-audit", c.pkg+" "+version+" (Debian), server_audit", namedLog{from: c.sys})
	if err := c.mariadb(33302, f, "--skip-name-resolve", "--plugin-load-add=server_audit", "--server-audit-logging=ON", "--server-audit-events=CONNECT",
		"--server-audit-output-type=syslog"); err != nil {
		return err
	}
	f.title(c.pkg + " " + version + " (Debian), server_audit, all events")
	if err := c.mariadb(33303, f, "--skip-name-resolve", "--plugin-load-add=server_audit", "--server-audit-logging=ON", "--server-audit-output-type=syslog",
		"--server-audit-syslog-info=some, text"); err != nil {
		return err
	}
	return f.save()
}

// mariadb plays at a server with options.
func (c *capture) mariadb(port int, f *file, options ...string) error {
	if err := c.shell("mkdir -p /run/mysqld; chown mysql:mysql /run/mysqld /kk"); err != nil {
		return err
	}
	if err := c.start(port, append([]string{
		"mysqld", "--user=mysql", fmt.Sprintf("--port=%d", port), "--bind-address=*", "--socket=/run/mysqld/cap.sock", "--pid-file=/run/mysqld/cap.pid",
		"--log-error=/kk/my.err",
	}, options...)...); err != nil {
		return err
	}
	defer c.stop()
	if err := c.shell(`mysql -S /run/mysqld/cap.sock -e "create or replace user alice@'%' identified by '` + password + `'; create or replace user sock@'%' identified via unix_socket;
create database if not exists shop; create or replace user onlyssl@'%' identified by 'x' require ssl; create or replace user locked@'%' identified by 'x' account lock;
create or replace user shopper@'%' identified by '` + password + `'; grant all on shop.* to shopper@'%'"`); err != nil {
		return err
	}
	c.play(c.mysqlScenarios(port), f)
	return nil
}

func (c *capture) mysqlScenarios(port int) []scenario {
	try := func(host, user, pw string, more ...string) func() {
		return func() {
			args := []string{"mysql", "--no-defaults", "--protocol=tcp", "-h", host, "-P", fmt.Sprint(port), "-u", user, "-p" + pw}
			c.in(nil, append(append(args, more...), "-e", "select 1")...)
		}
	}
	twice := func(f func()) func() { return func() { f(); f() } }
	list := []scenario{
		made("wrong password", local, 2, 0, twice(try("127.0.0.1", "root", "wrong"))),
		made("unknown account", local, 2, 0, twice(try("127.0.0.1", "nobody", "wrong", "shop"))),
		made("over IPv6", six, 2, 0, twice(try("::1", "alice", "wrong"))),
		made("no password", local, 1, 0, func() {
			c.in(nil, "mysql", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", fmt.Sprint("-P", port), "-ualice", "-e", "select 1")
		}),
		made("wrong password for alice", local, 1, 0, try("127.0.0.1", "alice", "wrong")),
		made("login", local, 0, 1, try("127.0.0.1", "alice", password)),
		made("login to a database", local, 0, 1, try("127.0.0.1", "shopper", password, "shop")),
		made("login over IPv6", six, 0, 1, try("::1", "alice", password)),
		made("login, but no right to the database", local, 0, 1, try("127.0.0.1", "alice", password, "shop")),
		made("login, hostile database", local, 0, 1, try("127.0.0.1", "alice", password, "x'@'198.51.100.9")),
		made("login, database of two lines", local, 0, 1, try("127.0.0.1", "alice", password, "x'\n261122  8:00:00 1 [W] Access denied for user 'a'@'1.1.1.1")),
		made("account without a password", local, 1, 0, try("127.0.0.1", "sock", "wrong")),
		made("account that asks for TLS", local, 1, 0, try("127.0.0.1", "onlyssl", "wrong")),
		made("locked account, right password", local, 0, 0, try("127.0.0.1", "locked", "x")),
		{name: "closed before the handshake", source: local, do: func(s *session) { s.raw(port, "", false) }},
		{name: "other protocol", source: local, do: func(s *session) { s.raw(port, "GET / HTTP/1.1\r\n\r\n", true) }},
	}
	stamp := "2026-11-22 18:00:00 31 [Warning] "
	audit := "Nov 22 18:00:00 web mysql-server_auditing: web,root,127.0.0.1,7,0,CONNECT,,,0"
	for _, user := range hostile(
		"x'@'198.51.100.9' (using password: YES)", "x'@'198.51.100.9", "x' to database 'y", "a'@'198.51.100.9' to database 'b",
		"x\n"+stamp+"Access denied for user 'root'@'198.51.100.9' (using password: YES)",
		"x\n"+stamp+"Access denied for user 'r'@'198.51.100.9'\n"+stamp,
		"a'@'198.51.100.9' (using password: YES)\nx", "a'@'198.51.100.9'\n"+stamp+"x",
		"x'. Account is locked.", "x\n"+stamp+"Aborted connection 1 to db: 'unconnected' user: 'unauthenticated' host: '198.51.100.9' (Got timeout",
		"x,198.51.100.9,5,0,CONNECT,y,,0", "x,198.51.100.9,5,0,CONNECT,,,0\n20261122 18:00:00,web,y", ",198.51.100.9,5,0,CONNECT,", "a,127.0.0.1,7,0,CONNECT,,,0",
		"x,127.0.0.1,7,0,CONNECT,,,0\n"+audit, audit+"\n", "\\,127.0.0.1,7,0,CONNECT,,", "x,127.0.0.1,7,0,QUERY,,'select 1',0",
	) {
		list = append(list, made(fmt.Sprintf("hostile user name %.90q", user), local, 1, 0, try("127.0.0.1", user, "wrong")))
		list = append(list, made("and an honest guess", local, 1, 0, try("127.0.0.1", "root", "wrong")))
	}
	for _, database := range []string{
		"a,,0", ",,0", "x,127.0.0.1,7,0,CONNECT,,,0", "\n" + audit[:62], "a\nb", "'", "x,127.0.0.1,7,12,QUERY,,'a',0",
	} {
		list = append(list, made(fmt.Sprintf("hostile database %.90q", database), local, 1, 0, try("127.0.0.1", "alice", "wrong", database)))
		list = append(list, made(fmt.Sprintf("login, hostile database %.90q", database), local, 0, 1, try("127.0.0.1", "alice", password, database)))
	}
	return list
}
