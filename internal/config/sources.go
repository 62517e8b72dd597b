package config

import (
	"net/netip"
	"strings"

	"github.com/kokkuri/kokkuri/internal/native"
)

// LogSource is a log file of a form of its own, which the agent turns into syslog.
type LogSource struct {
	Path    string `yaml:"path" check:"abspath" required:"" help:"File; may have date parts %Y, %m, %d."`
	Format  string `yaml:"format" check:"format" help:"Its form."`
	Program string `yaml:"program" check:"program" help:"In place of a format: the program whose messages its lines are, as they stand."`
}

// UnmarshalText parses PATH=FORMAT.
func (l *LogSource) UnmarshalText(text []byte) error {
	path, format, ok := strings.Cut(strings.TrimSpace(string(text)), "=")
	if !ok || !strings.HasPrefix(path, "/") || format == "" {
		return errNotLogSource
	}
	*l = LogSource{Path: path, Format: format}
	return nil
}

// MarshalText writes PATH=FORMAT.
func (l LogSource) MarshalText() ([]byte, error) {
	return []byte(l.Path + "=" + either(l.Format, l.Program)), nil
}

// LogContainer is a Docker container whose log the agent turns into syslog.
type LogContainer struct {
	Name    string `yaml:"name" required:"" help:"The container's name; * stands for any text."`
	Format  string `yaml:"format" check:"format" help:"The form of what it writes."`
	Program string `yaml:"program" check:"program" help:"In place of a format: the program whose messages its lines are, as they stand."`
}

// UnmarshalText parses NAME=FORMAT.
func (l *LogContainer) UnmarshalText(text []byte) error {
	name, format, ok := strings.Cut(strings.TrimSpace(string(text)), "=")
	if !ok || name == "" || format == "" {
		return errNotLogContainer
	}
	*l = LogContainer{Name: name, Format: format}
	return nil
}

// MarshalText writes NAME=FORMAT.
func (l LogContainer) MarshalText() ([]byte, error) {
	return []byte(l.Name + "=" + either(l.Format, l.Program)), nil
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// RedisSource is a Redis server whose ACL LOG the agent reads.
type RedisSource struct {
	Address      string `yaml:"address" check:"redis" required:"" help:"HOST:PORT, or the path of a socket."`
	Username     string `yaml:"username" help:"ACL user that may: +acl|log +time +info +config|get; empty: default."`
	PasswordFile string `yaml:"password_file" check:"abspath" help:"File with the password; empty: none."`
	TLS          bool   `yaml:"tls" help:"Speak TLS."`
	CAFile       string `yaml:"ca_file" check:"abspath" help:"With TLS: certificates that sign the server's; empty: the system's."`
	ServerName   string `yaml:"server_name" check:"dnsname" help:"With TLS: the name in the server's certificate; empty: the HOST of the address."`
	CertFile     string `yaml:"cert_file" check:"abspath" help:"With TLS: the client's certificate, which Redis asks for unless tls-auth-clients is no."`
	KeyFile      string `yaml:"key_file" check:"abspath" help:"With TLS: the client's key."`
}

// UnmarshalText parses ADDRESS.
func (r *RedisSource) UnmarshalText(text []byte) error {
	address := strings.TrimSpace(string(text))
	if !validRedis(address) {
		return errNotRedis
	}
	*r = RedisSource{Address: address}
	return nil
}

// MarshalText writes ADDRESS.
func (r RedisSource) MarshalText() ([]byte, error) { return []byte(r.Address), nil }

func validRedis(address string) bool {
	if strings.HasPrefix(address, "/") {
		return !strings.ContainsAny(address, "\x00\n")
	}
	var a Address
	_, addrErr := netip.ParseAddrPort(address)
	return addrErr == nil || strings.Count(address, ":") == 1 && a.UnmarshalText([]byte(address)) == nil
}

// formatNames are the forms of logs that the agent reads, as an error lists them.
func formatNames() string {
	var names []string
	for _, f := range native.Formats() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func validProgram(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 48
}
