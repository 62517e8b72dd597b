package fetch

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Policy says where nothing is fetched from.
type Policy struct {
	// Own returns the addresses and networks that are ours: of this machine, the server, its hosts and nodes. Where it
	// cannot tell, nothing is fetched.
	Own    func() ([]netip.Prefix, error)
	Forbid []netip.Prefix // further ones
}

// special4 are the networks of IANA's registry of special-purpose addresses (RFC 6890) and what else is no host on the
// internet; the last two are metadata services of clouds that have public addresses.
func special4() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32", "147.75.0.3/32",
	}
}

// special6 are those within 2000::/3, outside of which nothing is fetched at all: mapped, compatible and translated
// addresses, private and local ones. 6to4 and Teredo carry an IPv4 address, and would lead to it.
func special6() []string {
	return []string{"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"}
}

const global6 = "2000::/3"

// Check says why an address is not fetched from; nil where it is.
func (p Policy) Check(a netip.Addr) error {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return fmt.Errorf("%w: %s is not a plain address", ErrRefused, a)
	}
	special := special4()
	if a.Is6() {
		special = special6()
		if !netip.MustParsePrefix(global6).Contains(a) {
			return fmt.Errorf("%w: %s is not on the internet", ErrRefused, a)
		}
	}
	for _, s := range special {
		if netip.MustParsePrefix(s).Contains(a) {
			return fmt.Errorf("%w: %s is reserved (%s)", ErrRefused, a, s)
		}
	}
	own, err := p.Own()
	if err != nil {
		return fmt.Errorf("%w: it is not known what is ours: %w", ErrRefused, err)
	}
	for _, n := range own {
		if n.Contains(a) {
			return fmt.Errorf("%w: %s is ours (%s)", ErrRefused, a, n)
		}
	}
	for _, n := range p.Forbid {
		if n.Contains(a) {
			return fmt.Errorf("%w: %s is forbidden by honeypot.egress.forbid (%s)", ErrRefused, a, n)
		}
	}
	return nil
}

// badPorts are those of other protocols, which a request could be taken for (WHATWG Fetch, 2.9).
func badPorts() []uint16 {
	return []uint16{
		0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111, 113, 115, 117,
		119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601,
		636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 2375, 2376, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566, 6665, 6666,
		6667, 6668, 6669, 6679, 6697, 10080, 11211, 27017,
	}
}

const (
	maxTarget = 1024
	maxName   = 253
)

var errTarget = fmt.Errorf("%w: the path has characters that plain downloads don't need", ErrRefused)

// checkRequest refuses what could be an attack on whoever it is sent to, rather than a download.
func checkRequest(r Request) error {
	switch {
	case r.Method != "GET" && r.Method != "HEAD":
		return fmt.Errorf("%w: only GET and HEAD are", ErrRefused)
	case slices.Contains(badPorts(), r.Port):
		return fmt.Errorf("%w: port %d is of another protocol", ErrRefused, r.Port)
	case len(r.Target) > maxTarget || !regexp.MustCompile(`^/[A-Za-z0-9._~/=&?+,:@!-]*$`).MatchString(r.Target) || strings.Contains(r.Target, ".."):
		return errTarget
	case r.Name == "" && !r.Addr.IsValid():
		return fmt.Errorf("%w: it names no host", ErrRefused)
	case r.Name != "" && (len(r.Name) > maxName || !regexp.MustCompile(`^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$`).MatchString(r.Name) || !strings.Contains(r.Name, ".")):
		return fmt.Errorf("%w: %q is no host's name", ErrRefused, r.Name)
	}
	if _, err := netip.ParseAddr(r.Name); err == nil {
		return fmt.Errorf("%w: an address is no name", ErrRefused)
	}
	return nil
}

// agent is the User-Agent that is sent: the client's own where it is a plain one, since servers pick what to send by it.
func agent(a string) string {
	if len(a) <= 128 && regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 ._/();:+,-]*$`).MatchString(a) {
		return a
	}
	return "curl/7.88.1"
}
