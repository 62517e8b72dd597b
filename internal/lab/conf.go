package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Ports of the contract.
const (
	busPort    = 12666
	syslogPort = 10514
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
  syslog: {listen_tcp: [%s], listen_udp: [%[4]s]}
  breaker: {sources_per_hour: 2000}
  hosts:
    - {name: %s, addresses: [198.51.100.10, "2001:db8:2::10"], road: %s}
honeypot:
  name: %s
  server: ["%s"]
  advertise: [%s]
  engine: %s
  token: "%s"
`, l.o.StateDir, l.o.Socket, netip.AddrPortFrom(serverAddrs()[0], busPort), addrPorts(serverAddrs(), syslogPort),
		HostName, road, NodeName, netip.AddrPortFrom(serverAddrs()[0], busPort), addrs(nodeAddrs()), l.o.Engine, token)
	return b.String()
}

// AgentConfig is the file of web's agent.
func (l *Lab) AgentConfig() string {
	files := "[/var/log/auth.log]"
	if l.o.Road == RoadRsyslog {
		files = "[]"
	}
	return fmt.Sprintf(`# Written by kokkuri lab up.
agent:
  name: %s
  server: ["%s"]
  files: %s
  services: ["ssh:22"]
  endpoints: [%s]
`, HostName, netip.AddrPortFrom(serverAddrs()[0], busPort), files, addrs(nodeAddrs()))
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

// forwardLog lets web's rsyslog send its log to the server where the lab was brought up with that road.
func (l *Lab) forwardLog(ctx context.Context) error {
	const path = "/etc/rsyslog.d/90-kokkuri.conf"
	if l.o.Road != RoadRsyslog {
		return nil
	}
	target := netip.AddrPortFrom(serverAddrs()[0], syslogPort)
	snippet := fmt.Sprintf(`auth,authpriv.* action(type="omfwd" protocol="tcp" target="%s" port="%d" template="RSYSLOG_SyslogProtocol23Format")
`, target.Addr(), target.Port())
	if err := l.Web.WriteFile(ctx, path, []byte(snippet), 0o644); err != nil {
		return err
	}
	return l.RestartRsyslog(ctx)
}

// RestartRsyslog restarts web's rsyslogd.
func (l *Lab) RestartRsyslog(ctx context.Context) error {
	_, err := l.Web.Shell(ctx, "kill $(cat /run/rsyslogd.pid); while pgrep -x rsyslogd >/dev/null; do sleep 0.05; done; rsyslogd")
	return err
}
