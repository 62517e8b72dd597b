package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kokkuri/kokkuri/deploy"
)

// Ports of the contract.
const (
	busPort       = 12666
	syslogPort    = 10514
	syslogTLSPort = 10515
)

// serverConfig is the file of the server's and the node's process; token is the node's, for its first start.
func (l *Lab) serverConfig(token string) string {
	road := "agent"
	if l.o.Road == RoadRsyslog {
		road = "syslog"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by kokkuri lab up.
log: {level: debug}
state_dir: %s/state
socket: %s
server:
  bus: {listen: "%s"}
  syslog: {listen_tcp: [%s], listen_udp: [%[4]s], listen_tls: [%[5]s]}
  breaker: {sources_per_hour: 2000}
  hosts:
    - {name: %s, addresses: [198.51.100.10, "2001:db8:2::10"], road: %s}
honeypot:
  name: %s
  server: ["%s"]
  advertise: [%s]
  engine: %s
  guesses: 1
  ssh: {fail_delay: 100ms}
  pool: {warm: 4}
  limits: {pots: 250}
  token: "%s"
`, l.o.StateDir, l.o.Socket, netip.AddrPortFrom(serverAddrs()[0], busPort), addrPorts(serverAddrs(), syslogPort), addrPorts(serverAddrs(), syslogTLSPort),
		HostName, road, NodeName, netip.AddrPortFrom(serverAddrs()[0], busPort), addrs(nodeAddrs()), l.o.Engine, token)
	return b.String()
}

// AgentConfig is the file of web's agent.
func (l *Lab) AgentConfig() string {
	// What can't write syslog, web's agent turns into it; Redis tells nobody of failed logins who does not ask.
	logs := `files: [/var/log/auth.log]
  discover: true
  redis: [{address: "127.0.0.1:6379", password_file: /etc/kokkuri/redis-password}]`
	if l.o.Road == RoadRsyslog {
		logs = "files: []"
	}
	return fmt.Sprintf(`# Written by kokkuri lab up.
agent:
  name: %s
  server: ["%s"]
  %s
  services: [%s]
  endpoints: [%s]
`, HostName, netip.AddrPortFrom(serverAddrs()[0], busPort), logs, servicesYAML(), addrs(nodeAddrs()))
}

// addrs and addrPorts write the elements of a YAML list.
func addrs(list []netip.Addr) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = `"` + a.String() + `"`
	}
	return strings.Join(out, ", ")
}

func addrPorts(list []netip.Addr, port uint16) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = `"` + netip.AddrPortFrom(a, port).String() + `"`
	}
	return strings.Join(out, ", ")
}

// forwardLog lets web's rsyslog send its log to the server by the snippet that is shipped for that, or stops it.
func (l *Lab) forwardLog(ctx context.Context) error {
	const path = "/etc/rsyslog.d/60-kokkuri.conf"
	if l.o.Road != RoadRsyslog {
		out, err := l.Web.Shell(ctx, "test ! -e "+path+" || { rm "+path+" && echo removed; }")
		if err != nil || out == "" {
			return err
		}
		return l.RestartRsyslog(ctx)
	}
	snippet, err := deploy.Rsyslog.ReadFile("rsyslog/kokkuri.conf")
	if err != nil {
		return fmt.Errorf("rsyslog's snippet: %w", err)
	}
	const target = "kokkuri.example.net"
	if !bytes.Contains(snippet, []byte(`target="`+target+`"`)) {
		return fmt.Errorf("rsyslog's snippet does not name %s as its target", target)
	}
	snippet = bytes.ReplaceAll(snippet, []byte(target), []byte(serverAddrs()[0].String()))
	if err := l.Web.WriteFile(ctx, path, snippet, 0o644); err != nil {
		return err
	}
	return l.RestartRsyslog(ctx)
}

// SetRoad has web's log reach the server by another road from now on. The lab must be up.
func (l *Lab) SetRoad(ctx context.Context, road Road) error {
	if err := l.StopAgent(ctx); err != nil {
		return err
	}
	if err := l.Server().Stop(ctx); err != nil {
		return err
	}
	l.o.Road = road
	if err := l.writeState(); err != nil {
		return err
	}
	if err := l.StartServer(ctx); err != nil {
		return err
	}
	if err := l.SetAgentConfig(ctx, l.AgentConfig()); err != nil {
		return err
	}
	if err := l.forwardLog(ctx); err != nil {
		return err
	}
	return l.StartAgent(ctx)
}

// RestartRsyslog restarts web's rsyslogd.
func (l *Lab) RestartRsyslog(ctx context.Context) error {
	_, err := l.Web.Shell(ctx, "kill $(cat /run/rsyslogd.pid); while pgrep -x rsyslogd >/dev/null; do sleep 0.05; done; rsyslogd")
	return err
}
