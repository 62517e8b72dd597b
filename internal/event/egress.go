package event

import "net/netip"

// EgressPolicy says what a pot reaches when it calls out.
type EgressPolicy string

// Policies, the strictest first. Empty is the node's default.
const (
	EgressNone     EgressPolicy = "none"     // nothing: what it sends is dropped
	EgressSinkhole EgressPolicy = "sinkhole" // the node, which plays the rest of the world
	EgressRecord   EgressPolicy = "record"   // that, and by HTTP what a proxy fetches for it and keeps
)

// EgressPolicies are all of them, the strictest first.
func EgressPolicies() []EgressPolicy { return []EgressPolicy{EgressNone, EgressSinkhole, EgressRecord} }

// rank is higher the more a policy permits; one that is unknown permits nothing.
func (p EgressPolicy) rank() int {
	switch p {
	case EgressRecord:
		return 2
	case EgressSinkhole:
		return 1
	case EgressNone:
	}
	return 0
}

// Stricter returns that of both which permits less.
func (p EgressPolicy) Stricter(o EgressPolicy) EgressPolicy {
	least := p
	if o.rank() < p.rank() {
		least = o
	}
	return EgressPolicies()[least.rank()]
}

// Egress is what a pot sent out, and what it was told. Nothing of it left the node, but what How says.
type Egress struct {
	What string `json:"what"` // name, connect, request, datagram, ping, dropped
	// Destination is where it was meant to go.
	Destination netip.AddrPort `json:"destination,omitzero"`
	// Invented says that the destination's address is what the node's resolver made up for Name: it is nobody's that we know.
	Invented bool   `json:"invented,omitempty"`
	Protocol string `json:"protocol,omitempty"` // http, tls, dns, smtp, ssh, irc, tftp, …; empty where it is not known
	Name     Bytes  `json:"name,omitempty"`     // asked for; of a connection: what its destination was asked for as, or the client named by TLS
	// Of a question.
	Type   string   `json:"type,omitempty"`   // A, AAAA, MX, …
	Code   string   `json:"code,omitempty"`   // NOERROR, NXDOMAIN, …
	Answer []string `json:"answer,omitempty"` // in part
	// Of a request.
	URL     Bytes          `json:"url,omitempty"`
	Method  Bytes          `json:"method,omitempty"`
	Headers []EgressHeader `json:"headers,omitempty"`
	Status  int            `json:"status,omitempty"` // that it was answered with
	How     string         `json:"how,omitempty"`    // sinkhole; fetched; or why it was not fetched
	// Of a connection by TLS.
	ALPN []Bytes `json:"alpn,omitempty"`
	JA3  string  `json:"ja3,omitempty"`

	Data  Bytes  `json:"data,omitempty"`  // what it sent first
	Bytes int64  `json:"bytes,omitempty"` // that it sent
	Count uint64 `json:"count,omitempty"` // of dropped: how many pieces of evidence are missing
}

// EgressHeader is a field of a request's head.
type EgressHeader struct {
	Name  Bytes `json:"name"`
	Value Bytes `json:"value"`
}
