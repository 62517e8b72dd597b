package event

import (
	"net/netip"
	"time"
)

// Attacker names one attacker for good: the prefix it comes from.
type Attacker = netip.Prefix

// LeaseRequest asks a node for an endpoint (request on lease.<node>). The same attacker, host and
// service get the same lease again, with the later expiry.
type LeaseRequest struct {
	Op       string       `json:"op"` // "grant" or "release"
	Attacker Attacker     `json:"attacker"`
	Host     string       `json:"host"`
	Service  Service      `json:"service"`
	Seen     []netip.Addr `json:"seen"` // addresses that the host's masqueraded flows may have at the node
	Expires  time.Time    `json:"expires"`
}

// Lease binds attacker × host × service to an endpoint on a node.
type Lease struct {
	ID       string         `json:"id"`
	Attacker Attacker       `json:"attacker"`
	Host     string         `json:"host"`
	Service  Service        `json:"service"`
	Seen     []netip.Addr   `json:"seen"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Node     string         `json:"node"`
	Created  time.Time      `json:"created_at"`
	Expires  time.Time      `json:"expires_at"`
}

// LeaseReply is a node's answer to a LeaseRequest.
type LeaseReply struct {
	Lease Lease  `json:"lease"`
	Error string `json:"error,omitempty"`
}

// NodeStatus is what a node tells of itself (request on nodes.<node>, answered by NodeDesired): at
// connect, every 15 seconds, and when a pot changes.
type NodeStatus struct {
	Node      string       `json:"node"`
	Version   string       `json:"version"`
	Addresses []netip.Addr `json:"addresses"` // endpoint addresses, IPv4 and IPv6
	Services  []Service    `json:"services"`
	Pots      []Pot        `json:"pots"`
	Findings  []Finding    `json:"findings,omitempty"`
	At        time.Time    `json:"at"`
}

// NodeDesired are the leases that the server knows of for this node.
type NodeDesired struct {
	Leases []Lease `json:"leases"`
}

// Pot is the container that belongs to one attacker of one host.
type Pot struct {
	ID        string     `json:"id"` // container id
	Name      string     `json:"name"`
	Node      string     `json:"node"`
	Attacker  Attacker   `json:"attacker"`
	Host      string     `json:"host"`
	Image     string     `json:"image"`
	Address   netip.Addr `json:"address"`
	State     string     `json:"state"` // starting, running, paused, stopped
	CreatedAt time.Time  `json:"created_at"`
	LastSeen  time.Time  `json:"last_seen_at,omitzero"`
}

// Session is one connection through a front. It is published when it opens (EndedAt zero) and when
// it closes, on sessions.<node>.
type Session struct {
	ID        string         `json:"id"` // 12 hex digits
	Node      string         `json:"node"`
	Host      string         `json:"host"`
	Service   Service        `json:"service"`
	Attacker  Attacker       `json:"attacker"`
	LeaseID   string         `json:"lease_id"`
	PotID     string         `json:"pot_id,omitempty"`
	StartedAt time.Time      `json:"started_at"`
	FirstByte time.Time      `json:"first_byte_at,omitzero"` // first byte sent to the attacker
	EndedAt   time.Time      `json:"ended_at,omitzero"`
	BytesIn   int64          `json:"bytes_in"`  // from the attacker
	BytesOut  int64          `json:"bytes_out"` // to the attacker
	Reason    string         `json:"reason,omitempty"`
	Truncated bool           `json:"truncated,omitempty"` // the recording hit its bound
	Recording string         `json:"recording,omitempty"` // SHA-256 of the raw recording
	Peer      netip.AddrPort `json:"peer"`                // as the node saw it
}
