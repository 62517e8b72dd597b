package furnish

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
)

// Machine is what a pot is to be.
type Machine struct {
	Hostname  string
	Domain    string     // may be empty
	Address   netip.Addr // its own, for /etc/hosts
	HostKeys  []hostkeys.File
	Resolver  netip.Addr // that it asks for names; as it is where invalid
	Authority []byte     // public key of who may let users in, as in authorized_keys
}

// AuthorityFile is where a pot's SSH server looks for Machine.Authority.
const AuthorityFile = "/etc/ssh/ca.pub"

// Make makes the pot that machine. It may be repeated; the engine forgets a part of it at each start.
func (p *Pot) Make(m Machine) error {
	errs := []error{
		p.SetHostname(m.Hostname),
		p.Write("/etc/hostname", []byte(m.Hostname+"\n"), 0o644, 0, 0),
		p.Write("/etc/hosts", Hosts(m), 0o644, 0, 0),
		p.remove("/.dockerenv"),
		p.Write(AuthorityFile, m.Authority, 0o644, 0, 0),
	}
	if m.Resolver.IsValid() {
		errs = append(errs, p.Write("/etc/resolv.conf", fmt.Appendf(nil, "nameserver %s\n", m.Resolver), 0o644, 0, 0))
	}
	for _, f := range m.HostKeys {
		errs = append(errs, p.Write("/etc/ssh/"+f.Name, f.Data, f.Mode, 0, 0))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("make the pot %s: %w", m.Hostname, err)
	}
	return nil
}

// Hosts is what a machine's /etc/hosts says.
func Hosts(m Machine) []byte {
	names := m.Hostname
	if m.Domain != "" && !strings.Contains(m.Hostname, ".") {
		names = m.Hostname + "." + m.Domain + " " + m.Hostname
	}
	return fmt.Appendf(nil, `127.0.0.1	localhost
%s	%s

# The following lines are desirable for IPv6 capable hosts
::1     localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
`, m.Address, names)
}
