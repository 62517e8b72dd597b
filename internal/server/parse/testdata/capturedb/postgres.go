package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	port := c.port + 20
	if err := c.shell(`rm -rf /tmp/pg /tmp/pglog; echo boss >/tmp/pw; chmod 644 /tmp/pw; V=$(ls /usr/lib/postgresql)
su postgres -c "LANG=C.UTF-8 /usr/lib/postgresql/$V/bin/initdb -D /tmp/pg -A scram-sha-256 --pwfile=/tmp/pw"; ln -sfn /usr/lib/postgresql/$V/bin /tmp/pgbin`); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.root, "tmp/pg/pg_hba.conf"), []byte(hba), 0o644); err != nil {
		return err
	}
	lines, done, err := c.syslog()
	if err != nil {
		return err
	}
	defer done()
	for i, p := range append(prefixes(), struct{ name, prefix, connections string }{"syslog", "%q%u@%d ", "on"}) {
		destination := "stderr"
		switch i {
		case 0:
			destination = "stderr,csvlog,jsonlog"
			if strings.Contains(c.in(nil, "ls", "/usr/lib/postgresql"), "13") {
				destination = "stderr,csvlog"
			}
		case len(prefixes()):
			destination = "syslog"
		}
		title := fmt.Sprintf("%s, log_line_prefix = '%s', log_connections = %s", c.version("postgresql"), p.prefix, p.connections)
		if err := c.postgresSet(port+i, p.name, title, destination, p.prefix, p.connections, lines); err != nil {
			return err
		}
	}
	return nil
}

func (c *capture) postgresSet(port int, name, title, destination, prefix, connections string, lines func() string) error {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	stop, err := c.serve(address, "su", "postgres", "-c", fmt.Sprintf(`exec /tmp/pgbin/postgres -D /tmp/pg -p %d -c listen_addresses=127.0.0.1,::1 -c unix_socket_directories=/tmp -c log_connections=%s \
-c log_disconnections=%[2]s -c log_destination=%s -c logging_collector=on -c log_directory=/tmp/pglog -c log_filename=pg.log -c log_line_prefix='%s' 2>/tmp/pg.err`,
		port, connections, destination, prefix))
	if err != nil {
		return err
	}
	psql := "psql -q -h /tmp -p " + fmt.Sprint(port)
	err = c.shell(`su postgres -c "` + psql + ` -c \"set password_encryption='md5'\" -c \"create role md5er login password 'x'\"; ` + psql + ` -c \"create role alice login password '` + password +
		`'\" -c 'create database shop' -c 'create role nopw login' -c 'create role trusted login'" || true`)
	if err != nil {
		stop()
		return err
	}
	file, csv, json := c.open("tmp/pglog/pg.log", title), c.open("tmp/pglog/pg.csv", title), c.open("tmp/pglog/pg.json", title)
	_ = lines()
	for _, s := range c.postgresScenarios(port) {
		s.do()
		if destination == "syslog" {
			_ = file.grown()
			file.out.WriteString(s.title() + lines())
			continue
		}
		file.section(s)
		if strings.Contains(destination, "csv") {
			csv.section(s)
		}
		if strings.Contains(destination, "json") {
			json.section(s)
		}
	}
	stop()
	_ = c.shell("rm -rf /tmp/pglog")
	err = c.keep("postgres", "-"+name, file)
	if err == nil && strings.Contains(destination, "csv") {
		err = c.keep("postgres", "-csv", csv)
	}
	if err == nil && strings.Contains(destination, "json") {
		err = c.keep("postgres", "-json", json)
	}
	return err
}

// syslog takes what is written to /dev/log; lines returns what came, as rsyslog's traditional file format.
func (c *capture) syslog() (lines func() string, done func(), err error) {
	socket := filepath.Join(c.root, "dev/log")
	_ = os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, nil, err
	}
	text := make(chan string, 4096)
	go func() {
		buf := make([]byte, 65536)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			l := string(buf[:n])
			if i := strings.IndexByte(l, '>'); i > 0 {
				l = l[i+1:]
			}
			var b strings.Builder
			for i, ch := range []byte(strings.TrimRight(l, "\n\x00")) {
				if i == 16 {
					b.WriteString("web ")
				}
				if ch < ' ' || ch == 127 {
					fmt.Fprintf(&b, "#%03o", ch)
				} else {
					b.WriteByte(ch)
				}
			}
			text <- b.String() + "\n"
		}
	}()
	return func() string {
		var out strings.Builder
		for {
			select {
			case l := <-text:
				out.WriteString(l)
			default:
				return out.String()
			}
		}
	}, func() { _ = conn.Close() }, os.Chmod(socket, 0o666)
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
	address := fmt.Sprintf("127.0.0.1:%d", port)
	list := []scenario{
		{name: "wrong password", guesses: 1, do: try("127.0.0.1", "alice", "wrong", "shop")},
		{name: "md5", guesses: 1, do: try("127.0.0.1", "md5er", "wrong", "shop")},
		{name: "unknown account", guesses: 1, do: try("127.0.0.1", "nobody", "wrong", "shop")},
		{name: "over IPv6", guesses: 1, v6: true, do: try("::1", "alice", "wrong", "shop")},
		{name: "login", logins: 1, do: try("127.0.0.1", "alice", password, "shop")},
		{name: "login over IPv6", logins: 1, v6: true, do: try("::1", "alice", password, "shop")},
		{name: "no rule", v6: true, do: try("::1", "nobody", "wrong", "shop")},
		{name: "rejected by a rule", do: try("127.0.0.1", "rejected", "wrong", "shop")},
		{name: "login without a password", logins: 1, do: try("127.0.0.1", "trusted", "", "shop")},
		{name: "account without a password", guesses: 1, do: try("127.0.0.1", "nopw", "wrong", "shop")},
		{name: "no answer to the prompt", do: try("127.0.0.1", "alice", "", "shop")},
		{name: "ident", do: try("127.0.0.1", "ident1", "", "shop")},
		{name: "peer", do: try("/tmp", "alice", "", "shop")},
		{name: "login, but no such database", logins: 1, do: try("127.0.0.1", "alice", password, "nosuch")},
		{name: "closed at once", do: func() { raw(address, "") }},
		{name: "other protocol", do: func() { raw(address, "GET / HTTP/1.1\r\n\r\n") }},
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
		if user == "" {
			continue // the client takes it for none
		}
		list = append(list, scenario{name: fmt.Sprintf("hostile user name %.90q", user), guesses: 1, do: try("127.0.0.1", user, "wrong", "shop")})
		list = append(list, scenario{name: "and an honest guess", guesses: 1, do: try("127.0.0.1", "alice", "wrong", "shop")})
	}
	for _, database := range []string{
		"x LOG:  z\n" + stamp + "r@y", "x FATAL:  password authentication failed for user \"r\"\n", " LOG:  z\n" + stamp + "198.51.100.9 r@y",
		"198.51.100.9", "x\ny", "x,app=,client=198.51.100.9 ", "a b", "\n" + stamp + "r@y",
	} {
		list = append(list, scenario{name: fmt.Sprintf("hostile database %.90q", database), guesses: 1, do: try("127.0.0.1", "r", "wrong", database)})
		list = append(list, scenario{name: "and an honest guess", guesses: 1, do: try("127.0.0.1", "alice", "wrong", "shop")})
	}
	return list
}
