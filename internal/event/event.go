// Package event holds Kokkuri's vocabulary as types: lines, events, rules' offences, redirects, leases, sessions.
package event

import (
	"fmt"
	"net/netip"
	"time"
)

// Service is what is attacked on a host.
type Service string

// Services that Kokkuri knows by name.
const (
	SSH      Service = "ssh"
	MySQL    Service = "mysql" // and MariaDB
	Redis    Service = "redis"
	Postgres Service = "postgres"
	FTP      Service = "ftp"
	HTTP     Service = "http"
	Telnet   Service = "telnet" // and other logins at a terminal
	SMTP     Service = "smtp"
	IMAP     Service = "imap" // and POP3
	PAM      Service = "pam"  // programs that say nothing themselves of the logins which they ask PAM about
)

// Services are those that Kokkuri knows by name.
func Services() []Service {
	return []Service{SSH, MySQL, Redis, Postgres, FTP, HTTP, Telnet, SMTP, IMAP, PAM}
}

// Kind says what an event states.
type Kind string

// Kinds of events. One AuthFailed is one guess; lines that restate or surround it are Context.
const (
	AuthFailed Kind = "auth_failed"
	AuthOK     Kind = "auth_ok"
	Probe      Kind = "probe"
	Context    Kind = "context"
	None       Kind = "none"
)

// Road is the way by which a line came in.
type Road string

// Roads of decision 2.
const (
	RoadAgent     Road = "agent"   // files, logs of containers and what was converted
	RoadJournal   Road = "journal" // by the agent as well: a road of its own, since the journal and a log file may hold the same
	RoadSyslogTCP Road = "syslog-tcp"
	RoadSyslogTLS Road = "syslog-tls"
	RoadSyslogUDP Road = "syslog-udp"
	RoadFile      Road = "file"
)

// Position names one line for good: the stream sequence of the batch that carried it and its index therein.
type Position struct {
	Sequence uint64 `json:"sequence"`
	Index    int    `json:"index"`
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Sequence < q.Sequence || p.Sequence == q.Sequence && p.Index < q.Index
}

func (p Position) String() string { return fmt.Sprintf("%d.%d", p.Sequence, p.Index) }

// Batch is what travels on logs.<host>: lines of one host by one road. Lines are raw bytes without
// their newline and never contain one (a newline inside a message is written #012, as rsyslog does).
type Batch struct {
	Host     string    // enrolled host that the lines belong to
	Road     Road      // how they came
	Origin   string    // file path, or address of the sender
	Received time.Time // when the collecting side read them
	ID       string    // the same for the same lines sent twice; the stream drops the second
	Lines    [][]byte
}

// Event is one fact read from a log line.
type Event struct {
	Service    Service    `json:"service"`
	Kind       Kind       `json:"kind"`
	Source     netip.Addr `json:"source"` // unmapped, without zone; invalid where the line has none
	SourcePort uint16     `json:"source_port,omitempty"`
	Account    string     `json:"account,omitempty"` // attacker's bytes: escape before showing
	Method     string     `json:"method,omitempty"`
	Resource   string     `json:"resource,omitempty"` // what was asked for: a URL's path, a database; attacker's bytes
	Attempts   int        `json:"attempts"`           // guesses; 1 unless the line says "repeated N times"; 0 for what is no guess
	Host       string     `json:"host"`
	Time       time.Time  `json:"time"`
	// Closed says that the line states the end of the connection from Source:SourcePort.
	Closed bool `json:"closed,omitempty"`
}

// Proof is one event of an offence with the line that it was read from.
type Proof struct {
	Event    Event    `json:"event"`
	Position Position `json:"position"`
	Line     string   `json:"line"` // attacker's bytes
}

// Action is what a rule does when it fires.
type Action string

// Actions of rules.
const (
	ActionRedirect Action = "redirect"
	ActionAlert    Action = "alert"
	ActionDryRun   Action = "dry-run" // say what redirect would do, and do nothing
)

// Severity says how soon an operator should look at an offence.
type Severity string

// Severities; critical is the highest there is.
const (
	SeverityInfo     Severity = "info"
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Severities are all of them, the lowest first.
func Severities() []Severity {
	return []Severity{SeverityInfo, SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical}
}

// Scope says what of an offender's traffic is redirected.
type Scope string

// Scopes of redirects.
const (
	ScopeService Scope = "service"          // to this service of this host
	ScopeTrapped Scope = "trapped-services" // to every service of this host that a pot offers and its agent permits
	ScopeFleet   Scope = "fleet"            // to this service of every host
)

// Offence is a rule that fired, with its proof.
type Offence struct {
	ID      string        `json:"id"` // deterministic: the same events give the same id
	Rule    string        `json:"rule"`
	Service Service       `json:"service"`
	Host    string        `json:"host"`
	Source  netip.Prefix  `json:"source"` // invalid where the rule does not group by source
	Account string        `json:"account,omitempty"`
	Count   int           `json:"count"`
	First   time.Time     `json:"first"`
	Last    time.Time     `json:"last"`
	Line    Position      `json:"line"` // of the line that fired the rule
	Action  Action        `json:"action"`
	TTL     time.Duration `json:"ttl"` // how long to redirect; in nanoseconds
	// Steps are how long to redirect the first time, the second, and so on; empty: always TTL.
	Steps    []time.Duration `json:"steps,omitempty"`
	Severity Severity        `json:"severity,omitempty"`
	Scope    Scope           `json:"scope,omitempty"`  // empty: service
	Egress   EgressPolicy    `json:"egress,omitempty"` // of the pot
	// Contributor says that the source is one of several that made the rule fire: who ever logged in anywhere is no offender.
	Contributor bool    `json:"contributor,omitempty"`
	Proof       []Proof `json:"proof,omitempty"`
	// Logins are the source's connections whose login succeeded before First; they are spared when flows are cut.
	Logins []netip.AddrPort `json:"logins,omitempty"`
	// The legs of the way from the firing line to the redirect: collected, read as an event, rule fired, lease granted.
	ReceivedAt time.Time `json:"received_at"`
	EventAt    time.Time `json:"event_at,omitzero"`
	FiredAt    time.Time `json:"fired_at"`
	LeasedAt   time.Time `json:"leased_at,omitzero"`
	// Outcome says what became of it: redirected, alert, exempt: …, allowed: …, paused, dry-run, breaker.
	Outcome string `json:"outcome,omitempty"`
}

// Canonical returns the address as it is compared everywhere: IPv4-mapped unmapped, no zone.
func Canonical(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// SourcePrefix returns the prefix that an attacker at a is known by: /32 for IPv4, /v6bits for IPv6 (64 or 128).
func SourcePrefix(a netip.Addr, v6bits int) netip.Prefix {
	a = Canonical(a)
	bits := 32
	if a.Is6() {
		bits = v6bits
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
