package event

import (
	"net/netip"
	"time"
)

// State is where a redirect is in its life.
type State string

// States of a redirect.
const (
	Pending  State = "pending"
	Active   State = "active"
	Refused  State = "refused"
	Released State = "released"
	Expired  State = "expired"
)

// Live reports whether a redirect in this state is wanted in the kernel.
func (s State) Live() bool { return s == Pending || s == Active || s == Refused }

// Redirect is the policy: traffic from Source to Service on Host goes to Endpoint until ExpiresAt.
type Redirect struct {
	ID        string         `json:"id"`
	Source    netip.Prefix   `json:"source"` // /32, or /64 or /128 for IPv6
	Host      string         `json:"host"`
	Service   Service        `json:"service"`
	Port      uint16         `json:"port"` // TCP port of the service on the host
	Endpoint  netip.AddrPort `json:"endpoint"`
	Node      string         `json:"node"`
	LeaseID   string         `json:"lease_id,omitempty"`
	Rule      string         `json:"rule"` // "manual" where an operator asked for it
	OffenceID string         `json:"offence_id,omitempty"`
	State     State          `json:"state"`
	Reason    string         `json:"reason,omitempty"`
	CreatedAt time.Time      `json:"created_at"`
	AppliedAt time.Time      `json:"applied_at,omitzero"`
	ExpiresAt time.Time      `json:"expires_at"`
	// Egress is what the attacker's pot reaches; empty: what its node permits by default.
	Egress EgressPolicy `json:"egress,omitempty"`
	// Spare lists the source's connections to the service that stay up when its flows are cut.
	Spare []netip.AddrPort `json:"spare,omitempty"`
}

// Desired is the whole desired state of one host (answer to desired.<host>).
type Desired struct {
	Revision  uint64       `json:"revision"` // grows by one with each change of this host's state
	Epoch     string       `json:"epoch"`    // another epoch: forget the revisions of the former
	Now       time.Time    `json:"now"`      // by the server's clock
	Nodes     []netip.Addr `json:"nodes"`    // every endpoint address of every node; never redirected
	Servers   []netip.Addr `json:"servers"`  // the server's own addresses; never redirected
	Redirects []Redirect   `json:"redirects"`
}

// Change is one step of a host's desired state (on redirects.<host>). Where Revision is not the
// former plus one, or Epoch differs, the agent asks for the whole.
type Change struct {
	Revision uint64     `json:"revision"`
	Epoch    string     `json:"epoch"`
	Put      []Redirect `json:"put,omitempty"`
	Delete   []string   `json:"delete,omitempty"` // redirect ids
}

// Applied is what became of a redirect in a host's kernel.
type Applied struct {
	ID     string    `json:"id"`
	State  State     `json:"state"` // Active, Refused or Released
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Finding is one thing that doctor or a role has to say, with its mend.
type Finding struct {
	Level   string `json:"level"` // ok, warning, error
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Mend    string `json:"mend,omitempty"`
}

// HostStatus is what an agent tells of itself (request on status.<host>, answered empty): at connect,
// every 30 seconds, and at once when a redirect was applied or refused.
type HostStatus struct {
	Host      string       `json:"host"`
	Version   string       `json:"version"`
	Addresses []netip.Addr `json:"addresses"` // global unicast addresses of the host
	Services  []HostPort   `json:"services"`  // what the agent lets be redirected
	Applied   []Applied    `json:"applied,omitempty"`
	Findings  []Finding    `json:"findings,omitempty"`
	At        time.Time    `json:"at"`

	Counts map[string]int64 `json:"counts,omitempty"` // of what the agent left out of the logs since it started
}

// Forgeable is the text of an agent's finding about a log whose lines don't say who wrote them.
const Forgeable = "its lines don't say who wrote them: a local user can forge one with logger"

// HostPort is a service and the TCP port where it is attacked.
type HostPort struct {
	Service Service `json:"service"`
	Port    uint16  `json:"port"`
}
