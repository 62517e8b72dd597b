package event

import (
	"net/netip"
	"time"
)

// Attacker names one attacker for good: the prefix it comes from.
type Attacker = netip.Prefix

// Target is where an attacker believes to be: the host's address and port.
type Target = netip.AddrPort

// LeaseRequest asks a node for an endpoint (request on lease.<node>). The same attacker, host and
// service get the same lease again, with the later expiry.
type LeaseRequest struct {
	Op       string       `json:"op"` // "grant" or "release"
	Attacker Attacker     `json:"attacker"`
	Host     string       `json:"host"`
	Service  Service      `json:"service"`
	Seen     []netip.Addr `json:"seen"` // addresses that the host's masqueraded flows may have at the node
	Target   Target       `json:"target,omitzero"`
	// Known says that the attacker has logged in with success on a host before: its passwords may be
	// somebody's own, and are kept as salted hashes only.
	Known   bool         `json:"known,omitempty"`
	Egress  EgressPolicy `json:"egress,omitempty"` // that the rule asks for
	Expires time.Time    `json:"expires"`
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
	Target   Target         `json:"target,omitzero"`
	Known    bool           `json:"known,omitempty"`  // see LeaseRequest
	Egress   EgressPolicy   `json:"egress,omitempty"` // as well
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

// NodeDesired are the leases that the server knows of for this node, and the addresses that are ours: of hosts,
// nodes and servers.
type NodeDesired struct {
	Leases []Lease      `json:"leases"`
	Own    []netip.Addr `json:"own,omitempty"`
}

// PotKey names a pot: one attacker of one host.
type PotKey struct {
	Attacker Attacker `json:"attacker"`
	Host     string   `json:"host"`
}

// PotKey returns which pot a lease leads to.
func (l Lease) PotKey() PotKey { return PotKey{Attacker: l.Attacker, Host: l.Host} }

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

// ServicePot is the service of a session that is no connection of the attacker's: what a pot did by itself.
const ServicePot Service = "pot"

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
	Recording string         `json:"recording,omitempty"` // SHA-256 of the recording
	Peer      netip.AddrPort `json:"peer"`                // as the node saw it
	Target    Target         `json:"target,omitzero"`     // where the attacker believes to be
	// What the session left, in short.
	Client   Bytes  `json:"client,omitempty"` // its version
	HASSH    string `json:"hassh,omitempty"`
	Account  Bytes  `json:"account,omitempty"`  // as which it got in; empty where it did not
	Guesses  int    `json:"guesses,omitempty"`  // credentials tried
	Commands int    `json:"commands,omitempty"` // started or typed
	Files    int    `json:"files,omitempty"`
	Executed int    `json:"executed,omitempty"` // programs that were started in the pot
	Evidence int    `json:"evidence,omitempty"` // pieces so far
}

// Absorb adds a piece of evidence to what the session says in short.
func (s *Session) Absorb(e Evidence) {
	s.Evidence = max(s.Evidence, e.Number)
	switch e.Kind {
	case EvidenceClient:
		if e.Client.Version != "" {
			s.Client, s.HASSH = e.Client.Version, e.Client.HASSH
		}
	case EvidenceLogin:
		s.Guesses++
		if e.Login.Success {
			s.Account = e.Login.Account
		}
	case EvidenceStart, EvidenceInput:
		if e.Kind == EvidenceInput || e.Start.What == "exec" {
			s.Commands++
		}
	case EvidenceAsked:
		s.Commands++
	case EvidenceFile:
		s.Files++
	case EvidenceExecution:
		s.Executed++
	case EvidenceEnding, EvidenceConnection, EvidenceWrite, EvidenceMissed, EvidenceChange, EvidenceArchive,
		EvidenceKey, EvidenceSize, EvidenceVariable, EvidenceSignal, EvidenceExit, EvidenceForward,
		EvidenceEgress, EvidenceMalformed, EvidenceOverflow, EvidenceTruncated, EvidenceClosed:
	}
}

// Summarise takes over what evidence said in short.
func (s *Session) Summarise(from Session) {
	s.Client, s.HASSH, s.Account = from.Client, from.HASSH, from.Account
	s.Guesses, s.Commands, s.Files, s.Evidence = from.Guesses, from.Commands, from.Files, from.Evidence
	s.Executed = from.Executed
}
