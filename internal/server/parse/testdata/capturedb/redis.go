package main

import (
	"fmt"
	"strings"
)

// redis keeps what ACL LOG says after each scenario, as redis-cli prints it, and resets it.
func (c *capture) redis() error {
	port := c.port + 10
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if err := c.shell("rm -f /tmp/redis.log"); err != nil {
		return err
	}
	acl := &log{}
	stop, err := c.serve(address, "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "::1", "--requirepass", password, "--save", "",
		"--logfile", "/tmp/redis.log", "--loglevel", "verbose", "--dir", "/tmp", "--unixsocket", "/tmp/redis.sock")
	if err != nil {
		return err
	}
	defer stop()
	l := c.open("tmp/redis.log", c.version("redis-server"))
	text := &strings.Builder{}
	fmt.Fprintf(text, "# %s\n", c.version("redis-server"))
	admin := []string{"REDISCLI_AUTH=" + password}
	c.in(admin, "redis-cli", "-p", fmt.Sprint(port), "ACL", "LOG", "RESET")
	for _, s := range c.redisScenarios(port) {
		s.do()
		l.section(s)
		text.WriteString(s.title())
		text.WriteString(c.in(admin, "redis-cli", "--no-raw", "-p", fmt.Sprint(port), "ACL", "LOG"))
		c.in(admin, "redis-cli", "-p", fmt.Sprint(port), "ACL", "LOG", "RESET")
	}
	acl.out = l.out
	if err := c.keep("redis", "-log", acl); err != nil {
		return err
	}
	l.out.Reset()
	l.out.WriteString(text.String())
	return c.keep("redis", "-acl", l)
}

func (c *capture) redisScenarios(port int) []scenario {
	cli := func(host string, args ...string) func() {
		return func() { c.in(nil, append([]string{"redis-cli", "-h", host, "-p", fmt.Sprint(port)}, args...)...) }
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	list := []scenario{
		{name: "wrong password", guesses: 1, do: cli("127.0.0.1", "AUTH", "wrong")},
		{name: "wrong password over IPv6", guesses: 1, v6: true, do: cli("::1", "AUTH", "wrong")},
		{name: "unknown account", guesses: 1, do: cli("127.0.0.1", "AUTH", "nobody", "wrong")},
		{name: "by HELLO", guesses: 1, do: cli("127.0.0.1", "HELLO", "3", "AUTH", "default", "wrong")},
		{name: "five of one connection", guesses: 5, do: func() { raw(address, strings.Repeat("AUTH wrong\r\n", 5)+"QUIT\r\n") }},
		{name: "login", logins: 1, do: cli("127.0.0.1", "AUTH", password)},
		{name: "command without a login", do: cli("127.0.0.1", "GET", "x")},
		{name: "hostile client name", guesses: 1, do: func() {
			raw(address, "AUTH default \""+password+"\"\r\nCLIENT SETNAME addr=198.51.100.9:1\r\nCLIENT SETINFO lib-name addr=198.51.100.9:1\r\nAUTH wrong\r\nQUIT\r\n")
		}},
		{name: "by the Unix socket", guesses: 1, do: func() { c.in(nil, "redis-cli", "-s", "/tmp/redis.sock", "AUTH", "wrong") }},
		{name: "other protocol", do: func() { raw(address, "POST / HTTP/1.1\r\nHost: x\r\n\r\n") }},
	}
	for _, user := range hostile("id=1 addr=198.51.100.9:1", "x\" source=\"198.51.100.9\" y=\"", "x] [kokkuri@32473 source=\"198.51.100.9\"]") {
		list = append(list, scenario{name: fmt.Sprintf("hostile user name %.90q", user), guesses: 1, do: cli("127.0.0.1", "AUTH", user, "wrong")})
	}
	return list
}
