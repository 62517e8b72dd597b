package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Duration is a time span that also understands days and weeks: 90s, 24h, 30d, 1d12h, 2w.
type Duration time.Duration

// UnmarshalText parses a duration; it must have a unit and not be negative.
func (d *Duration) UnmarshalText(text []byte) error {
	rest := strings.TrimSpace(string(text))
	if rest == "" {
		return errNotDuration
	}
	if rest == "0" {
		*d = 0
		return nil
	}
	var total time.Duration
	for rest != "" {
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if n <= 0 {
			return errNotDuration
		}
		number := rest[:n]
		rest = rest[n:]
		n = strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })
		if n < 0 {
			n = len(rest)
		}
		unit := rest[:n]
		rest = rest[n:]
		part, err := durationPart(number, unit)
		if err != nil {
			return err
		}
		if part < 0 || total > total+part {
			return errNotDuration
		}
		total += part
	}
	*d = Duration(total)
	return nil
}

func durationPart(number, unit string) (time.Duration, error) {
	days := 0
	switch unit {
	case "d":
		days = 1
	case "w":
		days = 7
	default:
		part, err := time.ParseDuration(number + unit)
		if err != nil {
			return 0, errNotDuration
		}
		return part, nil
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n > 36500 {
		return 0, errNotDuration
	}
	return time.Duration(n * float64(days) * float64(24*time.Hour)), nil
}

// MarshalText writes whole days as days, everything else as Go does, without superfluous zeroes.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	t := time.Duration(d)
	if t == 0 {
		return "0s"
	}
	if t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Size is a number of bytes: 512MiB, 1GiB, 10MB, 4096.
type Size int64

// UnmarshalText parses a size.
func (s *Size) UnmarshalText(text []byte) error {
	str := strings.TrimSpace(string(text))
	n := strings.IndexFunc(str, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if n < 0 {
		n = len(str)
	}
	value, err := strconv.ParseFloat(str[:n], 64)
	if err != nil {
		return errNotSize
	}
	unit, ok := sizeUnit(strings.TrimSpace(str[n:]))
	if !ok {
		return errNotSize
	}
	bytes := value * float64(unit)
	if bytes > 1<<60 || bytes != float64(int64(bytes)) {
		return errNotSize
	}
	*s = Size(bytes)
	return nil
}

func sizeUnit(unit string) (int64, bool) {
	switch strings.ToLower(unit) {
	case "", "b":
		return 1, true
	case "k", "kib":
		return 1 << 10, true
	case "m", "mib":
		return 1 << 20, true
	case "g", "gib":
		return 1 << 30, true
	case "t", "tib":
		return 1 << 40, true
	case "kb":
		return 1000, true
	case "mb":
		return 1000 * 1000, true
	case "gb":
		return 1000 * 1000 * 1000, true
	case "tb":
		return 1000 * 1000 * 1000 * 1000, true
	}
	return 0, false
}

// MarshalText writes the size in the greatest binary unit that leaves no rest.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; i < len(units)-1 && s%1024 == 0; i++ {
		s /= 1024
	}
	return strconv.FormatInt(int64(s), 10) + units[i]
}

// PortRange is an inclusive range of TCP ports: 20000-29999.
type PortRange struct {
	First, Last uint16
}

// UnmarshalText parses FIRST-LAST.
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, ok := strings.Cut(strings.TrimSpace(string(text)), "-")
	a, errA := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if !ok || errA != nil || errB != nil || a < 1024 || b < a {
		return errNotPortRange
	}
	r.First, r.Last = uint16(a), uint16(b)
	return nil
}

// MarshalText writes FIRST-LAST.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Len is how many ports the range has.
func (r PortRange) Len() int { return int(r.Last) - int(r.First) + 1 }

// Overlaps reports whether two ranges share a port.
func (r PortRange) Overlaps(o PortRange) bool { return r.First <= o.Last && o.First <= r.Last }

// Range is a range of small numbers, both ends included: 2-6, or 3.
type Range struct {
	Least, Most int
}

// UnmarshalText parses LEAST-MOST, or one number.
func (r *Range) UnmarshalText(text []byte) error {
	least, most, ok := strings.Cut(strings.TrimSpace(string(text)), "-")
	if !ok {
		most = least
	}
	a, errA := strconv.ParseUint(strings.TrimSpace(least), 10, 8)
	b, errB := strconv.ParseUint(strings.TrimSpace(most), 10, 8)
	if errA != nil || errB != nil || b == 0 || b > 100 || b < a {
		return errNotRange
	}
	r.Least, r.Most = int(a), int(b)
	return nil
}

// MarshalText writes LEAST-MOST.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Range) String() string {
	if r.Least == r.Most {
		return strconv.Itoa(r.Least)
	}
	return fmt.Sprintf("%d-%d", r.Least, r.Most)
}

// Address is a host name or an IP address with a port: server.example.net:12666. Without a port it
// gets the bus's.
type Address string

// BusPort is the port of the bus.
const BusPort = 12666

// UnmarshalText parses HOST[:PORT].
func (a *Address) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		*a = Address(net.JoinHostPort(ip.String(), strconv.Itoa(BusPort)))
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, strconv.Itoa(BusPort)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errNotAddress
	}
	if _, err := netip.ParseAddr(host); err != nil && !validDNSName(host) {
		return errNotAddress
	}
	*a = Address(net.JoinHostPort(host, port))
	return nil
}

// MarshalText writes HOST:PORT.
func (a Address) MarshalText() ([]byte, error) { return []byte(a), nil }

// FileSource is a log file, or a pattern of log files, that is written on the server.
type FileSource struct {
	Path string `yaml:"path" check:"abspath" required:"" help:"File, or pattern with %HOST%, %Y, %m, %d, *, ?, []."`
	Host string `yaml:"host" check:"name" help:"Host of all lines; empty: from %HOST% in the path, else from the lines."`
}

// UnmarshalText parses PATTERN[=HOST].
func (f *FileSource) UnmarshalText(text []byte) error {
	path, host, _ := strings.Cut(strings.TrimSpace(string(text)), "=")
	if !strings.HasPrefix(path, "/") || host != "" && !ValidName(host) {
		return errNotFileSource
	}
	f.Path, f.Host = path, host
	return nil
}

// MarshalText writes PATTERN[=HOST].
func (f FileSource) MarshalText() ([]byte, error) {
	if f.Host == "" {
		return []byte(f.Path), nil
	}
	return []byte(f.Path + "=" + f.Host), nil
}

// ServicePort is a service and the TCP port where it listens.
type ServicePort struct {
	Service event.Service `yaml:"service" check:"name" required:"" help:"ssh, mysql, redis, ftp, http, postgres, telnet or another name."`
	Port    uint16        `yaml:"port" min:"1" help:"TCP port; may be left out for a service with a usual port."`
}

// UnmarshalText parses SERVICE[:PORT].
func (s *ServicePort) UnmarshalText(text []byte) error {
	name, port, found := strings.Cut(strings.TrimSpace(string(text)), ":")
	if !ValidName(name) {
		return errNotServicePort
	}
	sp := ServicePort{Service: event.Service(name)}
	if found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return errNotServicePort
		}
		sp.Port = uint16(n)
	}
	if err := sp.complete(); err != nil {
		return err
	}
	*s = sp
	return nil
}

// complete fills in the usual port.
func (s *ServicePort) complete() error {
	if s.Port == 0 {
		s.Port = usualPort(s.Service)
	}
	if s.Port == 0 {
		return errNotServicePort
	}
	return nil
}

// MarshalText writes SERVICE:PORT.
func (s ServicePort) MarshalText() ([]byte, error) {
	return []byte(string(s.Service) + ":" + strconv.Itoa(int(s.Port))), nil
}

// HostPorts is the agent's list of services as the other packages take it.
func (a AgentSection) HostPorts() []event.HostPort {
	out := make([]event.HostPort, len(a.Services))
	for i, s := range a.Services {
		out[i] = event.HostPort{Service: s.Service, Port: s.Port}
	}
	return out
}

func usualPort(s event.Service) uint16 {
	switch s {
	case event.SSH:
		return 22
	case event.FTP:
		return 21
	case event.Telnet:
		return 23
	case event.SMTP:
		return 25
	case event.HTTP:
		return 80
	case event.IMAP:
		return 143
	case event.MySQL:
		return 3306
	case event.Postgres:
		return 5432
	case event.Redis:
		return 6379
	case event.PAM, event.ServicePot: // these are at no port
	}
	return 0
}

// Secret is a text that is not shown.
type Secret string

// UnmarshalText takes any text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(strings.TrimSpace(string(text)))
	return nil
}

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// ValidName reports whether s can name a host, a node or a service: a lower-case RFC 1123 label.
func ValidName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// NameOf makes a valid name out of a machine's host name: its first label in lower case. It is empty
// where that gives no valid name.
func NameOf(hostname string) string {
	label, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(hostname)), ".")
	if !ValidName(label) {
		return ""
	}
	return label
}

func validDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.ToLower(strings.TrimSuffix(s, ".")), ".") {
		if !ValidName(strings.ReplaceAll(label, "_", "-")) {
			return false
		}
	}
	return true
}
