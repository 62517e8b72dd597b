package main

import "fmt"

func (c *capture) mysql() error {
	var logs []*log
	for i, set := range []struct{ name, flag string }{
		{"skip_name_resolve", "--skip-name-resolve"},
		{"names resolved", "--skip-name-resolve=0"},
	} {
		port := c.port + i
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if err := c.shell("rm -f /tmp/my.err; mkdir -p /run/mysqld; chown mysql:mysql /run/mysqld"); err != nil {
			return err
		}
		l := c.open("tmp/my.err", c.version("mariadb-server")+", "+set.name)
		stop, err := c.serve(address, "mysqld", "--user=mysql", fmt.Sprintf("--port=%d", port), "--bind-address=*", "--socket=/run/mysqld/cap.sock",
			"--pid-file=/run/mysqld/cap.pid", "--log-error=/tmp/my.err", set.flag)
		if err != nil {
			return err
		}
		err = c.shell(`mysql -S /run/mysqld/cap.sock -e "create or replace user alice@'%' identified by '` + password + `'; create or replace user sock@'%' identified via unix_socket;
create database if not exists shop; create or replace user onlyssl@'%' identified by 'x' require ssl; create or replace user locked@'%' identified by 'x' account lock"`)
		if err == nil {
			for _, s := range c.mysqlScenarios(port) {
				if s.name == "start" {
					l.section(s)
					continue
				}
				s.do()
				l.section(s)
			}
		}
		_ = c.shell("mysqladmin -S /run/mysqld/cap.sock shutdown")
		stop()
		if err != nil {
			return err
		}
		logs = append(logs, l)
	}
	return c.keep("mysql", "", logs...)
}

func (c *capture) mysqlScenarios(port int) []scenario {
	try := func(host, user, pw string, more ...string) func() {
		return func() {
			args := []string{"mysql", "--no-defaults", "--protocol=tcp", "-h", host, "-P", fmt.Sprint(port), "-u", user, "-p" + pw}
			c.in(nil, append(append(args, more...), "-e", "select 1")...)
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	twice := func(f func()) func() { return func() { f(); f() } }
	list := []scenario{
		{name: "start"},
		{name: "wrong password", guesses: 2, do: twice(try("127.0.0.1", "root", "wrong"))},
		{name: "unknown account", guesses: 2, do: twice(try("127.0.0.1", "nobody", "wrong", "shop"))},
		{name: "over IPv6", guesses: 2, v6: true, do: twice(try("::1", "alice", "wrong"))},
		{name: "no password", guesses: 1, do: func() {
			c.in(nil, "mysql", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", fmt.Sprint("-P", port), "-ualice", "-e", "select 1")
		}},
		{name: "wrong password for alice", guesses: 1, do: try("127.0.0.1", "alice", "wrong")},
		{name: "login", logins: 1, do: try("127.0.0.1", "alice", password)},
		{name: "login, but no right to the database", logins: 1, do: try("127.0.0.1", "alice", password, "shop")},
		{name: "login, hostile database", logins: 1, do: try("127.0.0.1", "alice", password, "x'@'198.51.100.9")},
		{name: "login, database of two lines", logins: 1, do: try("127.0.0.1", "alice", password, "x'\n261122  8:00:00 1 [W] Access denied for user 'a'@'1.1.1.1")},
		{name: "account without a password", guesses: 1, do: try("127.0.0.1", "sock", "wrong")},
		{name: "account that asks for TLS", guesses: 1, do: try("127.0.0.1", "onlyssl", "wrong")},
		{name: "locked account, right password", do: try("127.0.0.1", "locked", "x")},
		{name: "closed before the handshake", do: func() { raw(address, "") }},
		{name: "other protocol", do: func() { raw(address, "GET / HTTP/1.1\r\n\r\n") }},
	}
	stamp := "2026-11-22 18:00:00 31 [Warning] "
	for _, user := range hostile(
		"x'@'198.51.100.9' (using password: YES)", "x'@'198.51.100.9", "x' to database 'y", "a'@'198.51.100.9' to database 'b",
		"x\n"+stamp+"Access denied for user 'root'@'198.51.100.9' (using password: YES)",
		"x\n"+stamp+"Access denied for user 'r'@'198.51.100.9'\n"+stamp,
		"a'@'198.51.100.9' (using password: YES)\nx", "a'@'198.51.100.9'\n"+stamp+"x",
		"x'. Account is locked.", "x\n"+stamp+"Aborted connection 1 to db: 'unconnected' user: 'unauthenticated' host: '198.51.100.9' (Got timeout",
	) {
		if user == "" {
			continue // the client takes it for none
		}
		list = append(list, scenario{name: fmt.Sprintf("hostile user name %.90q", user), guesses: 1, do: try("127.0.0.1", user, "wrong")})
		list = append(list, scenario{name: "and an honest guess", guesses: 1, do: try("127.0.0.1", "root", "wrong")})
	}
	return list
}
