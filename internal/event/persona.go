package event

import (
	"errors"
	"net/netip"
	"time"
)

// Persona is what a pot pretends to be. Agents learn one from their host and operators write them by
// hand; all of it but the name may be missing, and then the pot's image decides. It is data that a
// compromised host may have made up, and it ends in files of containers: see Check.
type Persona struct {
	Name     string           `json:"name" yaml:"name"` // the host's that it was learnt from, or what an operator calls it
	Hostname string           `json:"hostname,omitempty" yaml:"hostname"`
	Domain   string           `json:"domain,omitempty" yaml:"domain"`
	OS       OSRelease        `json:"os,omitzero" yaml:"os"`
	Kernel   Kernel           `json:"kernel,omitzero" yaml:"kernel"`
	TimeZone string           `json:"time_zone,omitempty" yaml:"time_zone"` // IANA's name
	Locale   string           `json:"locale,omitempty" yaml:"locale"`       // LANG
	Motd     string           `json:"motd,omitempty" yaml:"motd"`           // /etc/motd
	Accounts []PersonaAccount `json:"accounts,omitempty" yaml:"accounts"`
	Groups   []PersonaGroup   `json:"groups,omitempty" yaml:"groups"`
	SSH      PersonaSSH       `json:"ssh,omitzero" yaml:"ssh"`
	// Listening are TCP ports that answer on other addresses than loopback, in order.
	Listening []Listening      `json:"listening,omitempty" yaml:"listening"`
	Machine   Hardware         `json:"machine,omitzero" yaml:"machine"`
	Network   PersonaNetwork   `json:"network,omitzero" yaml:"network"`
	Software  []ServiceVersion `json:"software,omitempty" yaml:"software"`
}

// OSRelease is what os-release(5) says.
type OSRelease struct {
	ID              string `json:"id,omitempty" yaml:"id"`
	VersionID       string `json:"version_id,omitempty" yaml:"version_id"`
	VersionCodename string `json:"version_codename,omitempty" yaml:"version_codename"`
	PrettyName      string `json:"pretty_name,omitempty" yaml:"pretty_name"`
	// Fields are all others, by their names.
	Fields        map[string]string `json:"fields,omitempty" yaml:"fields"`
	DebianVersion string            `json:"debian_version,omitempty" yaml:"debian_version"` // /etc/debian_version
}

// Kernel is what uname(1) says: -s, -r, -v and -m.
type Kernel struct {
	Name    string `json:"name,omitempty" yaml:"name"`
	Release string `json:"release,omitempty" yaml:"release"`
	Version string `json:"version,omitempty" yaml:"version"`
	Machine string `json:"machine,omitempty" yaml:"machine"`
}

// PersonaAccount is a line of passwd(5). Passwords and their hashes are no part of a persona.
type PersonaAccount struct {
	Name    string `json:"name" yaml:"name"`
	UID     uint32 `json:"uid" yaml:"uid"`
	GID     uint32 `json:"gid" yaml:"gid"`
	Comment string `json:"comment,omitempty" yaml:"comment"`
	Home    string `json:"home,omitempty" yaml:"home"`
	Shell   string `json:"shell,omitempty" yaml:"shell"`
}

// PersonaGroup is a line of group(5).
type PersonaGroup struct {
	Name    string   `json:"name" yaml:"name"`
	GID     uint32   `json:"gid" yaml:"gid"`
	Members []string `json:"members,omitempty" yaml:"members"`
}

// PersonaSSH is what an SSH server shows of itself.
type PersonaSSH struct {
	// Identification is its first line on the wire (RFC 4253, section 4.2), without the line's end.
	Identification string   `json:"identification,omitempty" yaml:"identification"`
	Ports          []uint16 `json:"ports,omitempty" yaml:"ports"`
	// Settings are those of `sshd -T` that SSHSettingAllowed knows, by the names of OpenSSH 9: for a
	// connection of a stranger who logs in as root. Paths of keys and commands are never among them.
	Settings  map[string]string `json:"settings,omitempty" yaml:"settings"`
	AcceptEnv []string          `json:"accept_env,omitempty" yaml:"accept_env"`
	Banner    string            `json:"banner,omitempty" yaml:"banner"` // text that is sent before a login
	// HostKeys say which keys there are, not the keys: in the order in which the server has them.
	HostKeys []HostKeyKind `json:"host_keys,omitempty" yaml:"host_keys"`
}

// HostKeyKind is a type of host keys and their size.
type HostKeyKind struct {
	Type string `json:"type" yaml:"type"` // rsa, ecdsa or ed25519
	Bits int    `json:"bits" yaml:"bits"`
}

// Listening is a TCP port on which a host listens.
type Listening struct {
	Port    uint16  `json:"port" yaml:"port"`
	Service Service `json:"service,omitempty" yaml:"service"` // as far as known
}

// Hardware is the machine under the operating system, as that sees it. Sizes are in bytes.
type Hardware struct {
	Vendor         string       `json:"vendor,omitempty" yaml:"vendor"`                 // DMI's system vendor
	Product        string       `json:"product,omitempty" yaml:"product"`               // DMI's product name
	Virtualisation string       `json:"virtualisation,omitempty" yaml:"virtualisation"` // kvm, vmware, none, …
	CPUModel       string       `json:"cpu_model,omitempty" yaml:"cpu_model"`
	CPUs           int          `json:"cpus,omitempty" yaml:"cpus"`
	Memory         int64        `json:"memory,omitempty" yaml:"memory"`
	Swap           int64        `json:"swap,omitempty" yaml:"swap"`
	BootedAt       time.Time    `json:"booted_at,omitzero" yaml:"booted_at"`
	Disks          []Disk       `json:"disks,omitempty" yaml:"disks"`
	FileSystems    []FileSystem `json:"file_systems,omitempty" yaml:"file_systems"`
}

// Disk is a block device.
type Disk struct {
	Name string `json:"name" yaml:"name"` // sda, nvme0n1
	Size int64  `json:"size" yaml:"size"`
}

// FileSystem is a mounted file system on a disk.
type FileSystem struct {
	Device string `json:"device" yaml:"device"` // /dev/sda1
	Mount  string `json:"mount" yaml:"mount"`
	Type   string `json:"type" yaml:"type"`
	Size   int64  `json:"size" yaml:"size"`
	Used   int64  `json:"used,omitempty" yaml:"used"`
}

// PersonaNetwork is how the machine is wired.
type PersonaNetwork struct {
	Interface string `json:"interface,omitempty" yaml:"interface"` // that the default route goes by
	// Addresses of the interface are there only where the host's operator opted in.
	Addresses []InterfaceAddress `json:"addresses,omitempty" yaml:"addresses"`
}

// InterfaceAddress is an address with the length of its network.
type InterfaceAddress struct{ netip.Prefix }

// UnmarshalText parses ADDRESS/BITS.
func (a *InterfaceAddress) UnmarshalText(text []byte) error {
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		return errors.New("an address with its network's length, such as 192.0.2.10/24")
	}
	a.Prefix = p
	return nil
}

// ServiceVersion is a service's software as its package names it.
type ServiceVersion struct {
	Service Service `json:"service" yaml:"service"`
	Product string  `json:"product" yaml:"product"` // MariaDB, nginx, …
	Version string  `json:"version" yaml:"version"`
}

// PersonaOrigin says where a persona comes from.
type PersonaOrigin string

// Origins of personas. A written one wins over a learnt one.
const (
	PersonaLearnt  PersonaOrigin = "learnt"  // by the host's agent
	PersonaWritten PersonaOrigin = "written" // by an operator
)

// PersonaOf is the persona that the pots of a host have.
type PersonaOf struct {
	Host      string        `json:"host"`
	Origin    PersonaOrigin `json:"origin"`
	File      string        `json:"file,omitempty"` // of a written one
	ChangedAt time.Time     `json:"changed_at,omitzero"`
	Persona   Persona       `json:"persona"`
}

// PersonaRequest asks for the persona of a host's pots (request on personas.<node>), or for the host's own
// SSH host keys (on nodekeys.<node>, which the server passes on to keys.<host> and keeps nothing of).
type PersonaRequest struct {
	Host string `json:"host"`
}

// HostKeys are a host's own SSH host keys. Only an agent whose operator opted in gives them out, and only
// what stands in front of pots has them.
type HostKeys struct {
	Keys  []HostKey `json:"keys,omitempty"`
	Error string    `json:"error,omitempty"`
}

// HostKey is the content of a private key file, as OpenSSH has it.
type HostKey struct {
	Type    string `json:"type"` // rsa, ecdsa or ed25519
	Private []byte `json:"private"`
}
