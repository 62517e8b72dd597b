package lab

import (
	"net/netip"
)

// Names of what the lab makes.
const (
	HostName = "web" // as enrolled
	NodeName = "lab"

	labelLab = "kokkuri.lab"

	imageHost   = "kokkuri/lab-host"
	imageClient = "kokkuri/lab-client"
)

// netSpec is a network of the lab: a bridge of the machine without a way out.
type netSpec struct {
	name, bridge string
	v4, v6       netip.Prefix
}

func wan() netSpec {
	return netSpec{
		name: "kokkuri-lab-wan", bridge: "kokkuri-wan",
		v4: netip.MustParsePrefix("203.0.113.0/24"), v6: netip.MustParsePrefix("2001:db8:1::/48"),
	}
}

func core() netSpec {
	return netSpec{
		name: "kokkuri-lab-core", bridge: "kokkuri-core",
		v4: netip.MustParsePrefix("198.51.100.0/24"), v6: netip.MustParsePrefix("2001:db8:2::/64"),
	}
}

func networks() []netSpec { return []netSpec{wan(), core()} }

// attachment is a machine's place in a network.
type attachment struct {
	net    netSpec
	v4, v6 netip.Addr
}

// spec is what a machine is made of.
type spec struct {
	name     string // of the container
	hostname string
	image    string
	caps     []string
	rawProc  bool                // /proc/sys is writable: the agent sets forwarding
	disks    map[string]struct{} // folders on a file system proper, as hosts have it, not on a container's layers
	at       []attachment
	extra    []netip.Addr // further addresses in the first network
}

func specWeb() spec {
	return spec{
		name: "kokkuri-lab-web", hostname: HostName, image: imageHost,
		caps: []string{"NET_ADMIN", "NET_RAW"}, rawProc: true,
		disks: map[string]struct{}{"/var/spool/rsyslog": {}}, // its queue writes several files for each line
		at: []attachment{
			{net: wan(), v4: netip.MustParseAddr("203.0.113.10"), v6: netip.MustParseAddr("2001:db8:1:10::10")},
			{net: core(), v4: netip.MustParseAddr("198.51.100.10"), v6: netip.MustParseAddr("2001:db8:2::10")},
		},
	}
}

func specAttacker() spec {
	return spec{
		name: "kokkuri-lab-attacker", hostname: "attacker", image: imageClient, caps: []string{"NET_ADMIN"},
		at: []attachment{
			{net: wan(), v4: netip.MustParseAddr("203.0.113.66"), v6: netip.MustParseAddr("2001:db8:1:66::66")},
		},
		extra: []netip.Addr{OtherAddr(), OtherAddr6()},
	}
}

func specUser() spec {
	return spec{
		name: "kokkuri-lab-user", hostname: "workstation", image: imageClient,
		at: []attachment{
			{net: wan(), v4: netip.MustParseAddr("203.0.113.20"), v6: netip.MustParseAddr("2001:db8:1:20::20")},
		},
	}
}

// WebSSH is where the real sshd is reached.
func WebSSH() netip.AddrPort { return netip.MustParseAddrPort("203.0.113.10:22") }

// WebSSH6 is the same over IPv6.
func WebSSH6() netip.AddrPort { return netip.MustParseAddrPort("[2001:db8:1:10::10]:22") }

// AttackerAddr is where attacks come from; OtherAddr is the same machine's other address, which did nothing.
func AttackerAddr() netip.Addr { return netip.MustParseAddr("203.0.113.66") }

// OtherAddr is the attacker's second address.
func OtherAddr() netip.Addr { return netip.MustParseAddr("203.0.113.67") }

// AttackerAddr6 is the attacker's address in IPv6.
func AttackerAddr6() netip.Addr { return netip.MustParseAddr("2001:db8:1:66::66") }

// OtherAddr6 is the attacker's second address in IPv6, in another /64.
func OtherAddr6() netip.Addr { return netip.MustParseAddr("2001:db8:1:67::67") }

// UserAddr is where the legitimate user sits.
func UserAddr() netip.Addr { return netip.MustParseAddr("203.0.113.20") }

// UserAddr6 is the user's address in IPv6.
func UserAddr6() netip.Addr { return netip.MustParseAddr("2001:db8:1:20::20") }
