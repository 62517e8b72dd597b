package main

import (
	"fmt"
	"strings"
)

const hba = `local all postgres peer
local all all peer
host all rejected 127.0.0.1/32 reject
host all trusted 127.0.0.1/32 trust
host all ident1 127.0.0.1/32 ident
host all md5er 127.0.0.1/32 md5
host shop,postgres all 127.0.0.1/32 scram-sha-256
host all alice ::1/128 scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
`

// prefixes are values of log_line_prefix: Debian's, upstream's, those of pgBadger's manual and of a well-known host of
// databases, and some with an address.
func prefixes() []struct{ name, prefix, connections string } {
	return []struct{ name, prefix, connections string }{
		{"debian", "%m [%p] %q%u@%d ", "on"},
		{"upstream", "%m [%p] ", "on"},
		{"pgbadger", "%t [%p]: user=%u,db=%d,app=%a,client=%h ", "off"},
		{"hosted", "%t:%r:%u@%d:[%p]:", "off"},
		{"address", "%m [%p] %h %q%u@%d ", "off"},
		{"epoch", "%n [%p] %q%u@%d ", "on"},
	}
}

func (c *capture) postgres() error {
	if err := c.shell(`rm -rf /kk/pg; echo boss >/kk/pw; chmod 644 /kk/pw; chmod 777 /kk; V=$(ls /usr/lib/postgresql)
su postgres -c "LANG=C.UTF-8 /usr/lib/postgresql/$V/bin/initdb -D /kk/pg -A scram-sha-256 --pwfile=/kk/pw"; ln -sfn /usr/lib/postgresql/$V/bin /kk/bin`); err != nil {
		return err
	}
	if err := c.write("kk/pg/pg_hba.conf", hba); err != nil {
		return err
	}
	for i, p := range append(prefixes(), struct{ name, prefix, connections string }{"syslog", "%q%u@%d ", "on"}) {
		destination := "stderr"
		switch i {
		case 0:
			destination = "stderr,csvlog,jsonlog"
			if c.suite == "debian11" { // PostgreSQL 13
				destination = "stderr,csvlog"
			}
		case len(prefixes()):
			destination = "syslog"
		}
		if err := c.postgresSet(33320+i, p.name, destination, p.prefix, p.connections); err != nil {
			return err
		}
	}
	return nil
}

func (c *capture) postgresSet(port int, name, destination, prefix, connections string) error {
	defer c.stop()
	version, err := c.version(c.pkg)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%s %s (Debian), log_line_prefix = '%s', log_connections = %s", c.pkg, version, prefix, connections)
	if err := c.start(port, "su", "postgres", "-c", fmt.Sprintf(`rm -rf /kk/pglog; exec /kk/bin/postgres -D /kk/pg -p %d -c listen_addresses=127.0.0.1,::1 -c unix_socket_directories=/kk -c log_connections=%s \
-c log_disconnections=%[2]s -c log_destination=%s -c logging_collector=on -c log_directory=/kk/pglog -c log_filename=pg.log -c log_line_prefix='%s' 2>/kk/pg.err`,
		port, connections, destination, prefix)); err != nil {
		return err
	}
	psql := "psql -q -h /kk -p " + fmt.Sprint(port)
	if err := c.shell(`su postgres -c "` + psql + ` -c \"set password_encryption='md5'\" -c \"create role md5er login password 'x'\"; ` + psql + ` -c \"create role alice login password '` + password +
		`'\" -c 'create database shop' -c 'create role nopw login' -c 'create role trusted login'" || true`); err != nil {
		return err
	}
	files := []*file{c.file("-"+name, title, namedLog{from: c.log("kk/pglog/pg.log")})}
	if destination == "syslog" {
		files[0].logs[0].from = c.sys
	}
	for format := range strings.SplitSeq(destination, ",") {
		if form, ok := strings.CutSuffix(format, "log"); ok && form != "sys" {
			files = append(files, c.file("-"+form, title, namedLog{from: c.log("kk/pglog/pg." + form)}))
		}
	}
	c.play(c.postgresScenarios(port), files...)
	for _, f := range files {
		if err := f.save(); err != nil {
			return err
		}
	}
	return nil
}

// conninfo names a database whatever is in its name (libpq, Connection Strings).
func conninfo(database string) string {
	return "dbname='" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(database) + "'"
}

func (c *capture) postgresScenarios(port int) []scenario {
	try := func(host, user, pw, database string) func() {
		return func() {
			c.in([]string{"PGPASSWORD=" + pw, "PGSSLMODE=disable", "PGGSSENCMODE=disable"}, "psql", "-w", "-h", host, "-p", fmt.Sprint(port), "-U", user, "-d", conninfo(database), "-c", "select 1")
		}
	}
	list := []scenario{
		made("wrong password", local, 1, 0, try("127.0.0.1", "alice", "wrong", "shop")),
		made("md5", local, 1, 0, try("127.0.0.1", "md5er", "wrong", "shop")),
		made("unknown account", local, 1, 0, try("127.0.0.1", "nobody", "wrong", "shop")),
		made("over IPv6", six, 1, 0, try("::1", "alice", "wrong", "shop")),
		made("login", local, 0, 1, try("127.0.0.1", "alice", password, "shop")),
		made("login over IPv6", six, 0, 1, try("::1", "alice", password, "shop")),
		made("no rule", six, 0, 0, try("::1", "nobody", "wrong", "shop")),
		made("rejected by a rule", local, 0, 0, try("127.0.0.1", "rejected", "wrong", "shop")),
		made("login without a password", local, 0, 1, try("127.0.0.1", "trusted", "", "shop")),
		made("account without a password", local, 1, 0, try("127.0.0.1", "nopw", "wrong", "shop")),
		made("no answer to the prompt", local, 0, 0, try("127.0.0.1", "alice", "", "shop")),
		made("ident", local, 0, 0, try("127.0.0.1", "ident1", "", "shop")),
		made("peer", local, 0, 0, try("/kk", "alice", "", "shop")),
		made("login, but no such database", local, 0, 1, try("127.0.0.1", "alice", password, "nosuch")),
		{name: "closed at once", source: local, do: func(s *session) { s.raw(port, "", false) }},
		{name: "other protocol", source: local, do: func(s *session) { s.raw(port, "GET / HTTP/1.1\r\n\r\n", true) }},
	}
	stamp := "2026-11-22 18:00:00.000 UTC [1] "
	for _, user := range hostile(
		`x" FATAL:  password authentication failed for user "y`, "x FATAL:  role \"y\" does not exist", "LOG:  x", "x LOG:  y",
		"LOG:  connection received: host=198.51.100.9 port=1\n", "LOG:  connection authorized: user=x database=y\n",
		"LOG:  \n"+stamp+"r", `x",198.51.100.9:1,"`, `x","remote_host":"198.51.100.9`,
		"a,db=b,app=,client=198.51.100.9 FATAL:  role \"r\" does not exist", "a,client=198.51.100.9 FATAL:  role \"r\" does not exist\n",
		"x\n"+stamp+"198.51.100.9 r@y FATAL:", "\tx", "x\n\ty", `x", user "y", database "z", no encryption`,
		`FATAL:  no pg_hba.conf entry for host "198.51.100.9", user "`,
	) {
		list = append(list, made(fmt.Sprintf("hostile user name %.90q", user), local, 1, 0, try("127.0.0.1", user, "wrong", "shop")))
		list = append(list, made("and an honest guess", local, 1, 0, try("127.0.0.1", "alice", "wrong", "shop")))
	}
	for _, database := range []string{
		"x LOG:  z\n" + stamp + "r@y", "x FATAL:  password authentication failed for user \"r\"\n", " LOG:  z\n" + stamp + "198.51.100.9 r@y",
		"198.51.100.9", "x\ny", "x,app=,client=198.51.100.9 ", "a b", "\n" + stamp + "r@y",
	} {
		list = append(list, made(fmt.Sprintf("hostile database %.90q", database), local, 1, 0, try("127.0.0.1", "r", "wrong", database)))
		list = append(list, made("and an honest guess", local, 1, 0, try("127.0.0.1", "alice", "wrong", "shop")))
	}
	return list
}
