package config_test

import (
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/native"
)

func TestErrorsSayWhereWhatAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, want string }{
		"unknown key": {
			"server:\n  bus:\n    listne: [127.0.0.1:1]\n",
			"FILE:3: server.bus.listne: unknown key; did you mean listen?; allowed: listen, names, log_budget",
		},
		"unknown format of a log": {
			"agent:\n  logs:\n    - {path: /var/log/x.log, format: nosuch}\n",
			`FILE:3: agent.logs[0].format: found "nosuch"; allowed: ` + formats(),
		},
		"a log without a format": {
			"agent:\n  logs: [{path: /var/log/x.log}]\n",
			"FILE:2: agent.logs[0]: has neither a format nor a program, or both; allowed: one of both; formats are " + formats(),
		},
		"a log that is no log": {
			"agent:\n  logs: [x.log]\n",
			`FILE:2: agent.logs[0]: found "x.log"; allowed: an absolute path with =FORMAT after it, such as /var/log/mysql/error.log=mysql-error`,
		},
		"a container's program": {
			"agent:\n  containers: [{name: db, program: my program}]\n",
			`FILE:2: agent.containers[0].program: found "my program"; allowed: a program's name, at most 48 long, without spaces`,
		},
		"a Redis that is nowhere": {
			"agent:\n  redis: [localhost]\n",
			`FILE:2: agent.redis[0]: found "localhost"; allowed: a host with a port, or the path of a socket, such as 127.0.0.1:6379 or /run/redis/redis.sock`,
		},
		"a Redis certificate without key": {
			"agent:\n  redis: [{address: \"127.0.0.1:6379\", tls: true, cert_file: /c.pem}]\n",
			"FILE:2: agent.redis[0]: has one of cert_file and key_file; allowed: both or neither",
		},
		"a Redis without TLS, with files for it": {
			"agent:\n  redis: [{address: \"127.0.0.1:6379\", ca_file: /ca.pem}]\n",
			"FILE:2: agent.redis[0]: has files or a name for TLS, but does not speak it; allowed: tls: true beside them",
		},
		"TLS on a socket": {
			"agent:\n  redis: [{address: /run/redis.sock, tls: true}]\n",
			"FILE:2: agent.redis[0].tls: is on for a socket; allowed: HOST:PORT; Redis speaks no TLS on sockets",
		},
		"a Redis user without password": {
			"agent:\n  redis: [{address: \"127.0.0.1:6379\", username: u}]\n",
			"FILE:2: agent.redis[0]: has a username without a password_file; allowed: both or neither",
		},
		"when to follow the journal": {
			"agent:\n  journal: {follow: yes}\n",
			`FILE:2: agent.journal.follow: found "yes"; allowed: auto, on, off`,
		},
		"unknown section": {
			"sever: {}\n",
			"FILE:1: sever: unknown key; did you mean server?; allowed: log, state_dir, socket, server, honeypot, agent",
		},
		"key at the wrong level": {
			"bus:\n  listen: [127.0.0.1:1]\n",
			"FILE:1: bus: unknown key; did you mean server.bus?; allowed: log, state_dir, socket, server, honeypot, agent",
		},
		"twice": {
			"server:\n  rules: /a\n  rules: /b\n",
			`FILE:3: not valid YAML: mapping key "rules" already defined at [2:3]`,
		},
		"status of a login": {
			"server:\n  http:\n    logins:\n      - path: /login\n        failed: [200, 4000]\n",
			"FILE:5: server.http.logins[0].failed[1]: found 4000; allowed: 100 to 599",
		},
		"path of a login": {
			"server:\n  http:\n    logins: [{path: login}]\n",
			`FILE:3: server.http.logins[0].path: found "login"; allowed: a path that begins with / (or *), without a query, * only at its beginning or end`,
		},
		"method of a login": {
			"server:\n  http:\n    logins: [{path: /login, methods: [post]}]\n",
			`FILE:3: server.http.logins[0].methods[0]: found "post"; allowed: a method in upper case, such as POST`,
		},
		"login without a path": {
			"server:\n  http:\n    logins:\n      - {ok: [302]}\n",
			"FILE:4: server.http.logins[0].path: is missing; allowed: Path of the URL; with * at its beginning or end it is the end or the beginning of one.",
		},
		"section instead of value": {
			"state_dir: {a: b}\n",
			"FILE:1: state_dir: found a section; allowed: a text",
		},
		"value instead of section": {
			"server: yes\n",
			`FILE:1: server: found "yes"; allowed: a section with keys`,
		},
		"list instead of value": {
			"server:\n  keep_days: [1]\n",
			"FILE:2: server.keep_days: found a list; allowed: a whole number",
		},
		"no value": {
			"server:\n  keep_days:\n",
			"FILE:2: server.keep_days: found nothing; allowed: a whole number",
		},
		"not a bool": {
			"server:\n  dry_run: yes\n",
			`FILE:2: server.dry_run: found "yes"; allowed: true or false`,
		},
		"not a bool, quoted": {
			"server:\n  dry_run: \"true\"\n",
			`FILE:2: server.dry_run: found "true"; allowed: true or false`,
		},
		"not an address in a list": {
			"server:\n  syslog:\n    listen_tcp:\n      - 127.0.0.1:10514\n      - 127.0.0.1\n",
			`FILE:5: server.syslog.listen_tcp[1]: found "127.0.0.1"; allowed: an address with a port, such as 127.0.0.1:12666, [::1]:12666 or :12666 for all addresses`,
		},
		"host bits": {
			"agent:\n  allow: [192.0.2.7/24]\n",
			`FILE:2: agent.allow[0]: found "192.0.2.7/24"; allowed: a network in CIDR notation or an address, such as 192.0.2.0/24 or 2001:db8::1, without host bits: 192.0.2.0/24 or 192.0.2.7`,
		},
		"not a size": {
			"server:\n  bus:\n    log_budget: plenty\n",
			`FILE:3: server.bus.log_budget: found "plenty"; allowed: a size, such as 512MiB, 1GiB or 4096`,
		},
		"too small": {
			"server:\n  bus:\n    log_budget: 1KiB\n",
			"FILE:3: server.bus.log_budget: found 1KiB; allowed: at least 16MiB",
		},
		"out of bounds": {
			"honeypot:\n  limits: {pids: 4}\n",
			"FILE:2: honeypot.limits.pids: found 4; allowed: 16 to 32768",
		},
		"not a range": {
			"honeypot:\n  port_range: 30000-20000\n",
			`FILE:2: honeypot.port_range: found "30000-20000"; allowed: a range of ports from 1024 to 65535, such as 20000-29999`,
		},
		"not a duration": {
			"honeypot:\n  pot_ttl: 24\n",
			`FILE:2: honeypot.pot_ttl: found "24"; allowed: a time span with a unit, such as 90s, 10m, 24h or 30d`,
		},
		"not one of": {
			"log:\n  level: verbose\n",
			`FILE:2: log.level: found "verbose"; allowed: debug, info, warn, error`,
		},
		"relative path": {
			"state_dir: state\n",
			`FILE:1: state_dir: found "state"; allowed: an absolute path`,
		},
		"bad name": {
			"agent:\n  name: Web_1\n",
			`FILE:2: agent.name: found "Web_1"; allowed: a lower-case name of letters, digits and hyphens, at most 63 long`,
		},
		"missing in a list": {
			"server:\n  hosts:\n    - aliases: [a]\n",
			"FILE:3: server.hosts[0].name: is missing; allowed: The host's name.",
		},
		"two hosts with one name": {
			"server:\n  hosts:\n    - {name: a}\n    - {name: b, aliases: [a]}\n",
			`FILE:4: server.hosts[1]: the name "a" is also a name of server.hosts[0]; allowed: names and aliases that belong to one host`,
		},
		"service without a port": {
			"agent:\n  services: [{service: irc}]\n",
			"FILE:2: agent.services[0].port: is missing; allowed: a port, since this service has no usual one",
		},
		"list as text": {
			"agent:\n  services: [irc]\n",
			`FILE:2: agent.services[0]: found "irc"; allowed: a service, with its port after a colon where that is not the usual one, such as ssh or ssh:2222`,
		},
		"anchor": {
			"server: &a {}\n",
			"FILE:1: server: found a YAML anchor; allowed: plain values: no anchors, aliases or tags",
		},
		"two documents": {
			"log: {}\n---\nlog: {}\n",
			"FILE:3: a second YAML document; allowed: one document",
		},
		"syntax": {
			"server:\n  bus: [\n",
			"FILE:2: not valid YAML: sequence end token ']' not found",
		},
		"engine": {
			"honeypot: {engine: docker}\n",
			`FILE:1: honeypot.engine: found "docker"; allowed: an engine's URL, such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375`,
		},
		"several": {
			"log: {level: loud}\nserver:\n  x: 1\n  dry_run: 3\n",
			"FILE:1: log.level: found \"loud\"; allowed: debug, info, warn, error\n" +
				"FILE:3: server.x: unknown key; allowed: bus, syslog, files, http, rules, dry_run, breaker, exempt_days, keep_days, allow, personas, hosts\n" +
				`FILE:4: server.dry_run: found "3"; allowed: true or false`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, test.file)
			_, err := config.Load(config.Options{Path: path})
			if err == nil {
				t.Fatal("loaded without an error")
			}
			if got := strings.ReplaceAll(err.Error(), path, "FILE"); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestEnvironmentErrors(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Options{Environ: []string{"KOKKURI_SERVER_EXEMPT_DAYS=many", "KOKKURI_SERVER_KEEP_DAYS=0"}})
	want := "environment KOKKURI_SERVER_EXEMPT_DAYS: server.exempt_days: found \"many\"; allowed: a whole number\n" +
		"environment KOKKURI_SERVER_KEEP_DAYS: server.keep_days: found 0; allowed: 1 to 3650"
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestAnEmptyFileIsAllDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "# nothing yet\n", "server:\n  # nothing yet\nagent:\n"} {
		if _, err := config.Load(config.Options{Path: write(t, text)}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"90s": "1m30s", "10m": "10m", "24h": "1d", "1d12h": "36h", "2w": "14d", "0": "0s", "1.5h": "1h30m", "500ms": "500ms",
	} {
		var d config.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := d.String(); got != want {
			t.Errorf("%s is written %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "1", "-1h", "h", "1y", "1h-1m", "99999999999d", "1.2.3s", " "} {
		var d config.Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %s", text, d)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Size{"4096": 4096, "1KiB": 1024, "1k": 1024, "1.5 GiB": 3 << 29, "10MB": 10_000_000, "0": 0} {
		var s config.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s is %d (%v), want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1x", "0.3", "9999999TiB", "MiB"} {
		var s config.Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %d", text, s)
		}
	}
	if got := config.Size(1536 << 20).String(); got != "1536MiB" {
		t.Errorf("1536 MiB is written %s", got)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Address{
		"server": "server:12666", "server.example.net:1": "server.example.net:1", "192.0.2.1": "192.0.2.1:12666",
		"2001:db8::1": "[2001:db8::1]:12666", "[2001:db8::1]:5": "[2001:db8::1]:5",
	} {
		var a config.Address
		if err := a.UnmarshalText([]byte(text)); err != nil || a != want {
			t.Errorf("%s is %s (%v), want %s", text, a, err, want)
		}
	}
	for _, text := range []string{"", "a b", "server:0", "server:99999", ":1", "nats://server:1", "server:"} {
		var a config.Address
		if err := a.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %s", text, a)
		}
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"Web.example.net": "web", "web": "web", "web_1": "", "": "", "-a": ""} {
		if got := config.NameOf(text); got != want {
			t.Errorf("NameOf(%q) is %q, want %q", text, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(full)
	f.Add("server: [1, 2\n")
	f.Add("a: &x {b: *x}\n")
	f.Add("server:\n  hosts: [{name: [a]}, ~, 1]\n")
	f.Add("? {a: b}\n: c\n")
	f.Add("server: !!map {}\n<<: {}\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := write(t, text)
		l, err := config.Load(config.Options{Path: path})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		var shown strings.Builder
		if err := l.Show(&shown); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.Options{Path: write(t, shown.String())}); err != nil {
			t.Errorf("what is shown doesn't load: %v\n%s", err, shown.String())
		}
	})
}

// formats are the forms of logs that are known.
func formats() string {
	var names []string
	for _, f := range native.Formats() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func TestDefaultEgressIsWithinTheMost(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Options{Path: write(t, "honeypot:\n  egress:\n    default: record\n")})
	if err == nil || !strings.Contains(err.Error(), `honeypot.egress.default: found "record", which is more than honeypot.egress.most permits ("sinkhole"); allowed: at most sinkhole`) {
		t.Errorf("got %v", err)
	}
	for _, text := range []string{"{default: none}", "{default: sinkhole, most: record}", "{default: record, most: record}", "{default: none, most: none}"} {
		if _, err := config.Load(config.Options{Path: write(t, "honeypot:\n  egress: "+text+"\n")}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
