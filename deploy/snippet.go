package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"text/template"
	"time"
)

// Protocols by which rsyslog can send.
const (
	TLS = "tls"
	TCP = "tcp"
	UDP = "udp"
)

// ExampleServer stands in the shipped snippet where a server's address is to be put.
const ExampleServer = "kokkuri.example.net"

// RsyslogDir is where a host's key and certificate lie for rsyslog: its AppArmor profile lets it read there.
const RsyslogDir = "/etc/rsyslog.d/kokkuri"

// Snippet says what a configuration of rsyslog is to do.
type Snippet struct {
	Host     string // that sends, or the relay; may be empty
	Server   string // name or address; ExampleServer where it is not known
	Port     uint16
	Protocol string // TLS, TCP or UDP
	Driver   string // of TLS: gtls or ossl
	Relay    bool   // it forwards other hosts' lines
	Dir      string // that will hold key.pem, cert.pem and ca.pem on the host
	Identity string // where the agent's certificate lies on a host
	// ServerName is the name that the server's certificate carries.
	ServerName string
	Expires    time.Time // of the certificate; zero where it is not known
}

// ErrSnippet is wrapped by the errors for what can't stand in a configuration of rsyslog.
var ErrSnippet = errors.New("can't stand in rsyslog's configuration")

// RsyslogConfig writes the snippet: rsyslog/kokkuri.conf is the one for TCP and ExampleServer.
func RsyslogConfig(s Snippet) ([]byte, error) {
	plain := regexp.MustCompile(`^[A-Za-z0-9:_./-]*$`)
	for _, text := range []string{s.Host, s.Server, s.Driver, s.Dir, s.Identity, s.ServerName} {
		if !plain.MatchString(text) {
			return nil, fmt.Errorf("%q %w", text, ErrSnippet)
		}
	}
	t, err := template.ParseFS(Rsyslog, "rsyslog/kokkuri.conf.tmpl")
	if err != nil {
		return nil, fmt.Errorf("rsyslog's snippet: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, map[string]any{
		"Host": s.Host, "Relay": s.Relay, "Protocol": s.Protocol, "TLS": s.Protocol == TLS, "UDP": s.Protocol == UDP, "Driver": s.Driver,
		"Server": map[string]any{"Name": s.Server, "Port": s.Port, "Example": s.Server == ExampleServer},
		"Dir":    s.Dir, "AgentIdentity": s.Identity, "ServerName": s.ServerName, "Expires": s.Expires,
	}); err != nil {
		return nil, fmt.Errorf("rsyslog's snippet: %w", err)
	}
	return out.Bytes(), nil
}
