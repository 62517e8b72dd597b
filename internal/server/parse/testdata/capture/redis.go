package main

import (
	"fmt"
	"strings"
)

// redis keeps the server's log, and what ACL LOG says after each scenario, as redis-cli prints it.
func (c *capture) redis() error {
	const port = 33310
	if err := c.start(port, "redis-server", "--port", fmt.Sprint(port), "--bind", local, six, "--requirepass", password, "--save", "",
		"--logfile", "/kk/redis.log", "--loglevel", "verbose", "--dir", "/kk", "--unixsocket", "/kk/redis.sock"); err != nil {
		return err
	}
	version, err := c.version(c.pkg)
	if err != nil {
		return err
	}
	title := c.pkg + " " + version + " (Debian)"
	cli := func(args ...string) string {
		return c.in([]string{"REDISCLI_AUTH=" + password}, append([]string{"redis-cli", "--no-raw", "-p", fmt.Sprint(port), "ACL", "LOG"}, args...)...)
	}
	log := c.file("-log", title, namedLog{from: c.log("kk/redis.log")})
	acl := c.file("-acl", title, namedLog{from: asked(func() string { defer cli("RESET"); return cli() })})
	c.play(c.redisScenarios(port), log, acl)
	if err := log.save(); err != nil {
		return err
	}
	return acl.save()
}

func (c *capture) redisScenarios(port int) []scenario {
	cli := func(host string, args ...string) func() {
		return func() { c.in(nil, append([]string{"redis-cli", "-h", host, "-p", fmt.Sprint(port)}, args...)...) }
	}
	list := []scenario{
		made("wrong password", local, 1, 0, cli("127.0.0.1", "AUTH", "wrong")),
		made("wrong password over IPv6", six, 1, 0, cli("::1", "AUTH", "wrong")),
		made("unknown account", local, 1, 0, cli("127.0.0.1", "AUTH", "nobody", "wrong")),
		made("by HELLO", local, 1, 0, cli("127.0.0.1", "HELLO", "3", "AUTH", "default", "wrong")),
		{name: "five of one connection", source: local, do: func(s *session) {
			s.guesses = 5
			s.raw(port, strings.Repeat("AUTH wrong\r\n", 5)+"QUIT\r\n", true)
		}},
		made("login", local, 0, 1, cli("127.0.0.1", "AUTH", password)),
		made("command without a login", local, 0, 0, cli("127.0.0.1", "GET", "x")),
		{name: "hostile client name", source: local, do: func(s *session) {
			s.guesses = 1
			s.raw(port, "AUTH default \""+password+"\"\r\nCLIENT SETNAME addr=198.51.100.9:1\r\nCLIENT SETINFO lib-name addr=198.51.100.9:1\r\nAUTH wrong\r\nQUIT\r\n", true)
		}},
		made("by the Unix socket", local, 1, 0, func() { c.in(nil, "redis-cli", "-s", "/kk/redis.sock", "AUTH", "wrong") }),
		{name: "other protocol", source: local, do: func(s *session) { s.raw(port, "POST / HTTP/1.1\r\nHost: x\r\n\r\n", true) }},
	}
	for _, user := range hostile("", "id=1 addr=198.51.100.9:1", "x\" source=\"198.51.100.9\" y=\"", "x] [kokkuri@32473 source=\"198.51.100.9\"]") {
		list = append(list, made(fmt.Sprintf("hostile user name %.90q", user), local, 1, 0, cli("127.0.0.1", "AUTH", user, "wrong")))
	}
	return list
}
