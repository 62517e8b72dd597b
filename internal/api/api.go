// Package api is how the commands talk to a running server: what they say, a client and a handler, over HTTP on a socket of the machine.
package api

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Paths of the API. Lists are JSON arrays, newest first; ?limit=, ?host=, ?node=, ?source= and ?live=true narrow them.
const (
	PathStatus    = "/v1/status"
	PathHosts     = "/v1/hosts"
	PathNodes     = "/v1/nodes"
	PathPots      = "/v1/pots"
	PathAttackers = "/v1/attackers"
	PathRedirects = "/v1/redirects"
	PathSessions  = "/v1/sessions"
	PathOffences  = "/v1/offences"
	PathAllow     = "/v1/allow"
	PathPause     = "/v1/pause"
	PathResume    = "/v1/resume"
	PathEnroll    = "/v1/enroll"
	PathSyslog    = "/v1/syslog-certificate"
	PathEvents    = "/v1/events" // a stream of JSON objects, one a line: Watched
)

// DefaultSocket is where the server answers unless it is configured elsewhere.
const DefaultSocket = "/run/kokkuri/server.sock"

// Host is a protected host.
type Host struct {
	Name       string           `json:"name"`
	Enrolled   bool             `json:"enrolled"`
	Connected  bool             `json:"connected"`
	EnrolledAt time.Time        `json:"enrolled_at,omitzero"`
	LastSeen   time.Time        `json:"last_seen_at,omitzero"`
	Version    string           `json:"version,omitempty"`
	Aliases    []string         `json:"aliases,omitempty"`
	Addresses  []netip.Addr     `json:"addresses"`
	Services   []event.HostPort `json:"services"`
	Roads      []string         `json:"roads,omitempty"` // by which its lines are evaluated
	Redirects  int              `json:"redirects"`       // live ones
	Findings   []event.Finding  `json:"findings"`
	LeftOut    map[string]int64 `json:"left_out,omitempty"` // of its logs, by its agent since that started
}

// Node is a honeypot node.
type Node struct {
	Name       string          `json:"name"`
	Connected  bool            `json:"connected"`
	EnrolledAt time.Time       `json:"enrolled_at,omitzero"`
	LastSeen   time.Time       `json:"last_seen_at,omitzero"`
	Version    string          `json:"version,omitempty"`
	Addresses  []netip.Addr    `json:"addresses"`
	Services   []event.Service `json:"services"`
	Pots       int             `json:"pots"`
	Leases     int             `json:"leases"`
	Findings   []event.Finding `json:"findings"`
}

// Attacker sums up what one attacker did.
type Attacker struct {
	Source    netip.Prefix `json:"source"`
	FirstSeen time.Time    `json:"first_seen_at"`
	LastSeen  time.Time    `json:"last_seen_at"`
	Offences  int          `json:"offences"`
	Guesses   int          `json:"guesses"`
	Redirects int          `json:"redirects"`
	Live      int          `json:"live_redirects"`
	Sessions  int          `json:"sessions"`
	Hosts     []string     `json:"hosts"`
}

// Allowed is an entry of the allow-list.
type Allowed struct {
	Prefix    netip.Prefix `json:"prefix"`
	Note      string       `json:"note,omitempty"`
	CreatedAt time.Time    `json:"created_at,omitzero"`
}

// AllowEntry is an Allowed with where it is from.
type AllowEntry struct {
	Allowed

	Fixed bool `json:"fixed,omitempty"` // from the configuration file, where it is changed
}

// Status is what the server is doing.
type Status struct {
	Version       string                      `json:"version"`
	StartedAt     time.Time                   `json:"started_at"`
	Paused        bool                        `json:"paused"`
	DryRun        bool                        `json:"dry_run"`
	Breaker       []string                    `json:"breaker"` // hosts for which it stopped redirecting
	Stream        Stream                      `json:"stream"`
	LiveRedirects int                         `json:"live_redirects"`
	Counters      map[string]map[string]int64 `json:"counters"`
	Findings      []event.Finding             `json:"findings"`
	Quarantine    []Quarantined               `json:"quarantine,omitempty"`
}

// Stream is how far the pipeline is in the stream of log lines.
type Stream struct {
	Last      uint64 `json:"last"`      // sequence of the newest batch
	Evaluated uint64 `json:"evaluated"` // of the last that was evaluated
	Lag       uint64 `json:"lag"`       // batches that wait
	Bytes     uint64 `json:"bytes"`
}

// Quarantined is a line that was not taken.
type Quarantined struct {
	At     time.Time  `json:"at"`
	Sender netip.Addr `json:"sender,omitzero"` // of a line that came by the network
	Host   string     `json:"host,omitempty"`  // that the sender is, or the relay
	File   string     `json:"file,omitempty"`  // of one that was read on the server
	Reason string     `json:"reason"`
	Line   string     `json:"line"` // sender's bytes
}

// Filter narrows a list. Its zero value wants everything.
type Filter struct {
	Limit  int // most records; 0: all
	Host   string
	Node   string
	Source netip.Prefix // of sources that overlap with it
	Live   bool         // only what has not ended
}

// AddRedirect asks for redirects by hand.
type AddRedirect struct {
	Source   netip.Prefix
	Service  event.Service
	Host     string // empty with AllHosts
	AllHosts bool
	TTL      time.Duration
	Egress   event.EgressPolicy // of the pot; empty: the node's default
}

// Watched is one thing that happened: an event, or a piece of evidence with its session as it was then.
type Watched struct {
	Event    *event.Event    `json:"event,omitempty"`
	Session  *event.Session  `json:"session,omitempty"`
	Evidence *event.Evidence `json:"evidence,omitempty"`
}

// Selector picks redirects: one by its id, or all that overlap with a source.
type Selector struct {
	ID     string
	Source netip.Prefix
}

// Roles that can be enrolled.
const (
	RoleHost = "host"
	RoleNode = "node"
)

// Enrolment is a one-time token.
type Enrolment struct {
	Role      string    `json:"role"`
	Name      string    `json:"name"`
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SyslogCertificate lets a syslog daemon send log lines over TLS.
type SyslogCertificate struct {
	Certificate string    `json:"certificate"` // PEM
	Authority   string    `json:"authority"`   // PEM: who signed it, and the server's own
	ExpiresAt   time.Time `json:"expires_at"`
}

// Machines are the hosts and nodes.
type Machines interface {
	Hosts(ctx context.Context) ([]Host, error)
	Nodes(ctx context.Context) ([]Node, error)
	Enroll(ctx context.Context, role, name string, ttl time.Duration) (Enrolment, error)
	// IssueSyslog signs a certificate request (PEM) for the syslog daemon of a host or relay.
	IssueSyslog(ctx context.Context, name, csr string) (SyslogCertificate, error)
	// RemoveHost revokes a host's certificates, releases its redirects and forgets it.
	RemoveHost(ctx context.Context, name string) error
	RemoveNode(ctx context.Context, name string) error
}

// Records are what was stored. What is not there is an error that is fs.ErrNotExist.
type Records interface {
	Redirects(ctx context.Context, f Filter) ([]event.Redirect, error)
	Redirect(ctx context.Context, id string) (event.Redirect, error)
	Offences(ctx context.Context, f Filter) ([]event.Offence, error)
	Offence(ctx context.Context, id string) (event.Offence, error)
	Sessions(ctx context.Context, f Filter) ([]event.Session, error)
	Session(ctx context.Context, id string) (event.Session, error)
}

// Evidence is what sessions left. What is not there is an error that is fs.ErrNotExist.
type Evidence interface {
	// Evidence lists what a session left, in order.
	Evidence(ctx context.Context, session string) ([]event.Evidence, error)
	// Content writes a recording or a file, by its SHA-256, which the session's node holds.
	Content(ctx context.Context, session, sha256 string, w io.Writer) error
}

// Views are what is made of the records.
type Views interface {
	Attackers(ctx context.Context, f Filter) ([]Attacker, error)
	Pots(ctx context.Context, f Filter) ([]event.Pot, error)
	Status(ctx context.Context) (Status, error)
	// Tail returns events and evidence as they come, and what ends that. A slow reader misses some.
	Tail() (events <-chan Watched, stop func())
}

// Operator is what an operator can do to redirects.
type Operator interface {
	AddRedirects(ctx context.Context, a AddRedirect) ([]event.Redirect, error)
	// Release ends live redirects and returns them; none is no error.
	Release(ctx context.Context, s Selector) ([]event.Redirect, error)
	// Pause releases everything and redirects nothing until Resume.
	Pause(ctx context.Context) ([]event.Redirect, error)
	Resume(ctx context.Context) error
}

// AllowList is the server's.
type AllowList interface {
	AllowList(ctx context.Context) ([]AllowEntry, error)
	// AllowAdd adds an entry and releases the redirects that it covers, which it returns.
	AllowAdd(ctx context.Context, a Allowed) ([]event.Redirect, error)
	AllowRemove(ctx context.Context, p netip.Prefix) error
}

// Backend is all that a server answers with.
type Backend interface {
	Machines
	Records
	Evidence
	Views
	Operator
	Policy
}

// Policy is what operators decide: who is redirected, and what meets them.
type Policy interface {
	AllowList
	Rules
	Personas
}
