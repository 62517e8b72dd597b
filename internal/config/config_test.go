package config_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kokkuri/kokkuri/internal/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kokkuri.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, o config.Options) *config.Loaded {
	t.Helper()
	l, err := config.Load(o)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return l
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{})
	server := l.ServerConfig()
	if got, want := server.Bus.Listen, netip.MustParseAddrPort("127.0.0.1:12666"); !reflect.DeepEqual(got, want) {
		t.Errorf("bus listens on %v, want %v", got, want)
	}
	if got := server.Bus.LogBudget; got != 1<<30 {
		t.Errorf("log budget %d, want 1 GiB", got)
	}
	if got := server.Socket; got != "/run/kokkuri/server.sock" {
		t.Errorf("socket %q", got)
	}
	agent := l.AgentConfig()
	if got := agent.HostPorts(); len(got) != 1 || got[0].Service != "ssh" || got[0].Port != 22 {
		t.Errorf("agent's services %v, want ssh:22", got)
	}
	if got := l.HoneypotConfig().PortRange; got != (config.PortRange{First: 20000, Last: 29999}) || got.Len() != 10000 {
		t.Errorf("port range %v", got)
	}
	if got := l.Honeypot.PotTTL.Std(); got != 24*time.Hour {
		t.Errorf("pot_ttl %v, want 24h", got)
	}
}

const full = `
# everything in one file
log: {level: debug, format: json}
state_dir: /srv/kokkuri
server:
  bus:
    listen: ":12667"
    names: [server.example.net, 198.51.100.2]
    log_budget: 512MiB
  syslog:
    listen_tcp: 0.0.0.0:10514
    listen_udp: []
  files:
    - /var/log/hosts/%HOST%/auth-%Y-%m-%d.log
    - {path: /var/log/web.log, host: web}
  http:
    proxies: [198.51.100.0/28]
    shipped_logins: false
    logins:
      - {path: "*/login.do", methods: [POST, PUT], failed: [200, 401], ok: [302]}
      - path: /api/session
  breaker: {sources_per_hour: 7}
  allow: [192.0.2.0/24, 2001:db8::7]
  hosts:
    - name: web
      aliases: [www.example.net]
      addresses: [203.0.113.10, "2001:db8:1:10::10"]
      road: syslog
honeypot:
  server: bus.example.net
  port_range: 21000-21999
agent:
  services: [ssh, "http:8080", {service: ssh, port: 2222}]
`

func TestFile(t *testing.T) {
	t.Parallel()
	path := write(t, full)
	l := load(t, config.Options{Path: path})
	want := load(t, config.Options{}).Up
	want.Log = config.Log{Level: "debug", Format: "json"}
	want.StateDir = "/srv/kokkuri"
	want.Server.Bus = config.Bus{
		Listen:    netip.MustParseAddrPort("[::]:12667"),
		Names:     []string{"server.example.net", "198.51.100.2"},
		LogBudget: 512 << 20,
	}
	want.Server.Syslog.ListenTCP = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:10514")}
	want.Server.Syslog.ListenUDP = []netip.AddrPort{}
	want.Server.Files = []config.FileSource{{Path: "/var/log/hosts/%HOST%/auth-%Y-%m-%d.log"}, {Path: "/var/log/web.log", Host: "web"}}
	want.Server.HTTP = config.HTTP{
		Logins: []config.HTTPLogin{
			{Path: "*/login.do", Methods: []string{"POST", "PUT"}, Failed: []int{200, 401}, OK: []int{302}}, {Path: "/api/session"},
		},
		Proxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28")}, ForwardedField: 3,
	}
	want.Server.Breaker.SourcesPerHour = 7
	want.Server.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::7/128")}
	want.Server.Hosts = []config.HostInfo{{
		Name: "web", Aliases: []string{"www.example.net"}, Road: "syslog",
		Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:1:10::10")},
	}}
	want.Honeypot.Server = []config.Address{"bus.example.net:12666"}
	want.Honeypot.PortRange = config.PortRange{First: 21000, Last: 21999}
	want.Agent.Services = []config.ServicePort{{Service: "ssh", Port: 22}, {Service: "http", Port: 8080}, {Service: "ssh", Port: 2222}}
	opts := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{})}
	if diff := cmp.Diff(want, l.Up, opts); diff != "" {
		t.Errorf("file read differently (-want +got):\n%s", diff)
	}
	if got, want := l.Origin("server.breaker.sources_per_hour").String(), path+":22"; got != want {
		t.Errorf("origin %q, want %q", got, want)
	}
}

func TestShowIsAFileAgain(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{Path: write(t, full), Environ: []string{"KOKKURI_AGENT_FILES=none"}})
	var shown strings.Builder
	if err := l.Show(&shown); err != nil {
		t.Fatal(err)
	}
	again := load(t, config.Options{Path: write(t, shown.String())})
	opts := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(l.Up, again.Up, opts); diff != "" {
		t.Errorf("what `config show` prints is another configuration (-want +got):\n%s\n%s", diff, shown.String())
	}
	if !strings.Contains(shown.String(), "files: []  # environment KOKKURI_AGENT_FILES") {
		t.Errorf("no origin in:\n%s", shown.String())
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	path := write(t, "server:\n  exempt_days: 1\n  dry_run: true\n  rules: /from/file\n")
	value := reflect.ValueOf(3)
	l := load(t, config.Options{
		Path:    path,
		Environ: []string{"KOKKURI_SERVER_EXEMPT_DAYS=2", "KOKKURI_SERVER_DRY_RUN=false", "PATH=/bin"},
		Flags:   []config.Override{{Key: "server.exempt_days", Flag: "--exempt-days", Value: value}},
	})
	if l.Server.ExemptDays != 3 || l.Server.DryRun || l.Server.Rules != "/from/file" {
		t.Errorf("got %d, %v, %q; want the flag's 3, the environment's false, the file's path", l.Server.ExemptDays, l.Server.DryRun, l.Server.Rules)
	}
	for key, want := range map[string]string{
		"server.exempt_days": "flag --exempt-days", "server.dry_run": "environment KOKKURI_SERVER_DRY_RUN",
		"server.rules": path + ":4", "server.allow": "default",
	} {
		if got := l.Origin(key).String(); got != want {
			t.Errorf("origin of %s is %q, want %q", key, got, want)
		}
	}
}

func TestEveryLeafHasHelpAndAnEnvironmentVariable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, leaf := range config.Leaves(&config.Up{}) {
		if seen[leaf.Env()] {
			t.Errorf("%s: the variable %s stands for two keys", leaf.Key, leaf.Env())
		}
		seen[leaf.Env()] = true
		if leaf.Scalar() && leaf.Help == "" {
			t.Errorf("%s has no help", leaf.Key)
		}
	}
	if !seen["KOKKURI_SERVER_BUS_LISTEN"] || !seen["KOKKURI_STATE_DIR"] {
		t.Errorf("variables are %v", seen)
	}
}

// TestEnvironmentSetsEveryLeaf gives every leaf its own text back through the environment.
func TestEnvironmentSetsEveryLeaf(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{Path: write(t, full)})
	var environ []string
	for _, leaf := range config.Leaves(&l.Up) {
		if leaf.Scalar() {
			environ = append(environ, leaf.Env()+"="+leaf.Text())
		}
	}
	again := load(t, config.Options{Environ: environ})
	again.Server.Hosts, again.Server.HTTP.Logins = l.Server.Hosts, l.Server.HTTP.Logins // only in the file
	opts := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(l.Up, again.Up, opts); diff != "" {
		t.Errorf("through the environment (-want +got):\n%s", diff)
	}
}

func TestUnknownEnvironmentIsAWarning(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{Environ: []string{"KOKKURI_SERVER_EXEMPT_DAY=2", "KOKKURI_CONFIG=x"}})
	want := []string{"environment KOKKURI_SERVER_EXEMPT_DAY: no such setting; did you mean KOKKURI_SERVER_EXEMPT_DAYS?"}
	if diff := cmp.Diff(want, l.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := config.Load(config.Options{Path: path, Optional: true}); err != nil {
		t.Errorf("optional file: %v", err)
	}
	_, err := config.Load(config.Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), path+": there is no such file") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{Environ: []string{"KOKKURI_AGENT_TOKEN=kk1_secret"}})
	var shown strings.Builder
	if err := l.Show(&shown); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown.String(), "kk1_secret") {
		t.Errorf("the token is shown:\n%s", shown.String())
	}
	if got := l.Agent.Token.Reveal(); got != "kk1_secret" {
		t.Errorf("token is %q", got)
	}
}

func TestNoneIsAnEmptyList(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{
		Path:    write(t, "server:\n  syslog: {listen_udp: none, listen_tcp: []}\n"),
		Environ: []string{"KOKKURI_AGENT_FILES=none"},
	})
	if len(l.Server.Syslog.ListenUDP) != 0 || len(l.Server.Syslog.ListenTCP) != 0 || len(l.Agent.Files) != 0 {
		t.Errorf("%v, %v, %v", l.Server.Syslog.ListenUDP, l.Server.Syslog.ListenTCP, l.Agent.Files)
	}
}
