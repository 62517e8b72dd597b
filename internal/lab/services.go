package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// markerText is what only the real host's services hold, as their user sees it.
const markerText = "the real host"

// RedisAccount is whom Redis knows who gives no name.
const RedisAccount = "default"

// served is one of web's services beside SSH: where it listens, with whom a pot lets attackers in, and how its
// real client logs in and looks for what only the real host has.
type served struct {
	name              event.Service
	port              uint16
	account, password string // of the pot; no password where its front decides, which refuses the first guesses
	client            func(host, account, password string) []string
	refused           string // what the client says where a login is refused
	in                string // what it says where it is let in
}

// services are what web runs beside sshd.
func services() []served {
	return []served{
		{
			name: event.MySQL, port: 3306, account: "root", refused: "ERROR 1045 (28000)", in: "let in",
			client: func(host, account, password string) []string {
				return []string{
					"mariadb", "--no-defaults", "--host=" + host, "--user=" + account, "--password=" + password, "--connect-timeout=40",
					"--skip-column-names", "--execute=SELECT 'let in'; SELECT text FROM lab.marker",
				}
			},
		},
		{
			name: event.Redis, port: 6379, account: RedisAccount, refused: "NOAUTH Authentication required", in: "let in",
			client: func(host, account, password string) []string {
				return []string{
					"redis-cli", "-h", host, "--user", account, "--pass", password, "--no-auth-warning",
					"EVAL", "return {'let in', redis.call('get', KEYS[1])}", "1", "marker",
				}
			},
		},
		{
			name: event.Postgres, port: 5432, account: "postgres", refused: "password authentication failed", in: "let in",
			client: func(host, account, password string) []string {
				return []string{
					"env", "PGPASSWORD=" + password, "PGCONNECT_TIMEOUT=40",
					"psql", "--no-psqlrc", "-h", host, "-U", account, "-d", "postgres", "-At", "-c", "SELECT 'let in'", "-c", "SELECT text FROM marker",
				}
			},
		},
		{
			name: event.FTP, port: 21, account: "admin", refused: "530 Login incorrect", in: "257 ",
			client: func(host, account, password string) []string {
				script := "set net:max-retries 1; set net:reconnect-interval-base 1; set net:timeout 40; set ftp:ssl-allow no; set cmd:fail-exit yes; " +
					"open -u " + quoted(account) + "," + quoted(password) + " ftp://" + bracketed(host) + "; quote PWD; quote STAT " + realMarker + "; bye"
				return []string{"lftp", "--norc", "-c", script}
			},
		},
		{
			name: event.HTTP, port: 80, account: "admin", refused: "401 Authorization Required", in: "<200>",
			client: func(host, account, password string) []string {
				return []string{
					"curl", "--silent", "--show-error", "--globoff", "--max-time", "50", "--user", account + ":" + password, "--write-out", "<%{http_code}>",
					"http://" + bracketed(host) + "/admin/",
				}
			},
		},
	}
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// Services lists what web runs beside sshd.
func Services() []event.Service {
	var out []event.Service
	for _, s := range services() {
		out = append(out, s.name)
	}
	return out
}

// PotLogin is with whom a pot's service lets attackers in; there is no password where that is up to its front.
func PotLogin(s event.Service) (account, password string) {
	for _, known := range services() {
		if known.name == s {
			return known.account, known.password
		}
	}
	return PotAccount, PotPassword
}

// UserLogin is with whom the real service lets its user in.
func UserLogin(s event.Service) (account, password string) {
	if s == event.Redis {
		return RedisAccount, UserPassword
	}
	return UserAccount, UserPassword
}

// Visit logs in to one of web's services with the service's real client, from an address of the machine, and tells
// whether it is on the real host. It returns ErrRefused where the login was refused.
func (m *Machine) Visit(ctx context.Context, from netip.Addr, service event.Service, account, password string) (isReal bool, err error) {
	i := slices.IndexFunc(services(), func(s served) bool { return s.name == service })
	if i < 0 {
		return false, fmt.Errorf("web has no service %s", service)
	}
	s := services()[i]
	as, err := m.as(ctx, from)
	if err != nil {
		return false, err
	}
	host := Login{From: from}.target().Addr().String()
	out, err := m.Exec(ctx, append(as, s.client(host, account, password)...)...)
	if failed, ok := errors.AsType[*ExitError](err); ok { // a client that finds no marker may fail
		out += failed.Stderr
	} else if err != nil {
		return false, err
	}
	isReal = strings.Contains(out, markerText)
	if service == event.FTP { // the marker is a file that is listed where it is there
		isReal = strings.Contains(out, "-rw-")
	}
	switch {
	case strings.Contains(out, s.refused):
		return false, fmt.Errorf("%s as %s from %s: %w", service, account, from, ErrRefused)
	case strings.Contains(out, s.in):
		return isReal, nil
	default:
		return false, fmt.Errorf("%s as %s from %s: %q: %w", service, account, from, out, err)
	}
}

// Scan tells of each of web's services what nmap takes it for, from an address of the machine.
func (m *Machine) Scan(ctx context.Context, from netip.Addr) (string, error) {
	as, err := m.as(ctx, from)
	if err != nil {
		return "", err
	}
	ports := []string{"22"}
	for _, s := range services() {
		ports = append(ports, strconv.Itoa(int(s.port)))
	}
	host := Login{From: from}.target().Addr()
	args := append(as, "nmap", "--unprivileged", "-sT", "-sV", "-Pn", "-n", "-oN", "-", "--host-timeout", "5m", "-p", strings.Join(ports, ","))
	if host.Is6() {
		args = append(args, "-6")
	}
	return m.Exec(ctx, append(args, host.String())...)
}

// GuessAt makes one guess after the other at one of web's services, each on a connection of its own with the
// service's real client, and tells how many were refused.
func (m *Machine) GuessAt(ctx context.Context, from netip.Addr, service event.Service, account string, passwords ...string) (refused int, err error) {
	for _, password := range passwords {
		if _, err := m.Visit(ctx, from, service, account, password); !errors.Is(err, ErrRefused) {
			return refused, err
		}
		refused++
	}
	return refused, nil
}

// servicesReady waits until all of web's services answer the user over IPv4 and IPv6.
func (l *Lab) servicesReady(ctx context.Context) error {
	for _, s := range services() {
		account, password := UserLogin(s.name)
		for _, from := range []netip.Addr{UserAddr(), UserAddr6()} {
			var isReal bool
			var last error
			err := wait(ctx, time.Minute, func() (bool, error) {
				isReal, last = l.User.Visit(ctx, from, s.name, account, password)
				return last == nil, nil
			})
			if err != nil {
				return fmt.Errorf("%s of web does not let its user in: %w: %w", s.name, err, last)
			}
			if !isReal {
				return fmt.Errorf("%s of web lets its user in, but is not the real one", s.name)
			}
		}
	}
	return nil
}

// servicesYAML lists web's services as the agent's configuration does.
func servicesYAML() string {
	out := []string{`"ssh:22"`}
	for _, s := range services() {
		out = append(out, strconv.Quote(string(s.name)+":"+strconv.Itoa(int(s.port))))
	}
	return strings.Join(out, ", ")
}
