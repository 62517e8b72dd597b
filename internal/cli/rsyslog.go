package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/deploy"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// rsyslogConfigCmd prints a configuration for a host's rsyslog. The snippet alone goes to the standard output.
type rsyslogConfigCmd struct {
	client

	Host        string `arg:"" help:"The host's name, or the relay's."`
	TLS         bool   `xor:"by" help:"By TLS with a client certificate (the default)."`
	TCP         bool   `name:"tcp" xor:"by" help:"By plain TCP: the host is known by its address."`
	UDP         bool   `name:"udp" xor:"by" help:"By UDP, which proves nothing."`
	Server      string `help:"Where the host reaches this server; without it the address that it listens at." placeholder:"ADDR[:PORT]"`
	Relay       bool   `help:"It is a log server that forwards what other hosts sent it."`
	Driver      string `default:"gtls" enum:"gtls,ossl" help:"rsyslog's TLS library: ${enum}." placeholder:"DRIVER"`
	Certificate string `help:"Make key.pem, cert.pem and ca.pem in this folder, for a host without an agent; the key is kept where there is one." placeholder:"DIR"`
	Path        string `default:"/etc/rsyslog.d/kokkuri" help:"The folder that holds them on the host." placeholder:"DIR"`
}

func (c *rsyslogConfigCmd) Run(ctx context.Context, a *app) error {
	if !config.ValidName(c.Host) {
		return &usageError{text: fmt.Sprintf("name: found %q", c.Host), hint: "allowed: a lower-case name of letters, digits and hyphens, at most 63 long"}
	}
	s := deploy.Snippet{Host: c.Host, Protocol: c.protocol(), Driver: c.Driver, Relay: c.Relay, Dir: c.Path, ServerName: pki.ServerName}
	if !filepath.IsAbs(c.Path) {
		return &usageError{text: fmt.Sprintf("--path: found %q", c.Path), hint: "allowed: an absolute path"}
	}
	l, err := a.load(nil)
	if err != nil {
		return err
	}
	s.Identity = filepath.Join(l.StateDir, "agent", "identity")
	if s.Server, s.Port, err = c.target(a, l.Up); err != nil {
		return err
	}
	if c.Certificate != "" {
		if s.Expires, err = c.certificate(ctx, a); err != nil {
			return err
		}
	}
	text, err := deploy.RsyslogConfig(s)
	if err != nil {
		return Usage(err, "allowed: letters, digits and : _ . / -")
	}
	return a.printf("%s", text)
}

func (c *rsyslogConfigCmd) protocol() string {
	switch {
	case c.TCP:
		return deploy.TCP
	case c.UDP:
		return deploy.UDP
	}
	return deploy.TLS
}

// target is where the host is to send to.
func (c *rsyslogConfigCmd) target(a *app, u config.Up) (server string, port uint16, err error) {
	listening := map[string][]netip.AddrPort{
		deploy.TLS: u.Server.Syslog.ListenTLS, deploy.TCP: u.Server.Syslog.ListenTCP, deploy.UDP: u.Server.Syslog.ListenUDP,
	}[c.protocol()]
	port = map[string]uint16{deploy.TLS: 10515, deploy.TCP: 10514, deploy.UDP: 10514}[c.protocol()]
	server = deploy.ExampleServer
	for i, l := range listening {
		if i == 0 || !reachable(l.Addr()) {
			port = l.Port()
		}
		if reachable(l.Addr()) {
			server, port = l.Addr().String(), l.Port()
			break
		}
	}
	if c.Server == "" {
		if server == deploy.ExampleServer {
			a.warnf("The server listens at no address that others reach (server.syslog.listen_%s), so the snippet has a place for one: --server ADDR.", c.protocol())
		}
		return server, port, nil
	}
	host, text, err := net.SplitHostPort(c.Server)
	if err != nil {
		return strings.Trim(c.Server, "[]"), port, nil //nolint:nilerr // there is no port in it
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, &usageError{text: fmt.Sprintf("--server: found %q", c.Server), hint: "allowed: a name or address, with a port after a colon where it is not the usual one"}
	}
	return host, uint16(n), nil
}

func reachable(a netip.Addr) bool { return !a.IsLoopback() && !a.IsUnspecified() }

// certificate makes key and certificate in the folder, and says until when it holds.
func (c *rsyslogConfigCmd) certificate(ctx context.Context, a *app) (until time.Time, err error) {
	if c.protocol() != deploy.TLS {
		return until, &usageError{text: "--certificate is for TLS", hint: "leave out --" + c.protocol()}
	}
	server, err := a.connect(c.client)
	if err != nil {
		return until, err
	}
	csr, err := pki.PrepareSyslog(c.Certificate)
	if err != nil {
		return until, err
	}
	issued, err := server.IssueSyslog(ctx, c.Host, string(csr))
	if err != nil {
		return until, err
	}
	if err := pki.WriteSyslog(c.Certificate, []byte(issued.Certificate), []byte(issued.Authority)); err != nil {
		return until, err
	}
	a.warnf("%s, cert.pem and ca.pem are made, for %s until %s. Copy them to %s on it, readable by root only: who has the key can send lines as %s.",
		filepath.Join(c.Certificate, "key.pem"), c.Host, issued.ExpiresAt.UTC().Format(time.DateOnly), c.Path, c.Host)
	return issued.ExpiresAt, nil
}
