package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Ports of the contract.
const (
	busPort    = 12666
	syslogPort = 10514
)

// serverConfig is the file of the server's and the node's process.
func (l *Lab) serverConfig() string {
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
  bus: {listen: [%s]}
  syslog: {listen_tcp: [%s], listen_udp: [%[4]s]}
  breaker: {sources_per_hour: 2000}
  hosts:
    - {name: %s, addresses: [198.51.100.10, "2001:db8:2::10"], road: %s}
honeypot:
  name: %s
  server: ["%s"]
  advertise: [%s]
  engine: %s
`, l.o.StateDir, l.o.Socket, addrPorts(serverAddrs(), busPort), addrPorts(serverAddrs(), syslogPort),
		HostName, road, NodeName, netip.AddrPortFrom(serverAddrs()[0], busPort), addrs(nodeAddrs()), l.o.Engine)
	return b.String()
}

// agentConfig is the file of web's agent.
func (l *Lab) agentConfig() string {
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
