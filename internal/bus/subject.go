package bus

import (
	"errors"
	"fmt"
	"strings"
)

// Names of the streams and of the one subject that needs no certificate.
const (
	StreamLogs     = "LOGS"
	StreamSessions = "SESSIONS"
	EnrollSubject  = "enroll"
)

// ServerInbox is the inbox prefix of the server's own connections, EnrollInbox that of connections
// without a certificate (followed by a dot and a random token that the connection chose).
const (
	ServerInbox = "_INBOX_server"
	EnrollInbox = "_INBOX_enroll"
)

// maxName is the length of the longest name: RFC 1123 labels have 63 octets.
const maxName = 63

// ErrName is wrapped by the errors of ValidName.
var ErrName = errors.New("invalid name")

// ValidName says why name is no host or node name. A name is an RFC 1123 label: 1 to 63 lower-case
// letters, digits and inner hyphens.
func ValidName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w %.80q: has %d characters; allowed are 1 to %d", ErrName, name, len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(name)-1:
		default:
			return fmt.Errorf("%w %q: allowed are lower-case letters, digits and hyphens inside", ErrName, name)
		}
	}
	return nil
}

// LogsSubject carries the batches of lines of one host; "*" stands for all hosts.
func LogsSubject(host string) string { return "logs." + host }

// RedirectsSubject carries the changes of one host's desired state.
func RedirectsSubject(host string) string { return "redirects." + host }

// DesiredSubject is where a host asks for its whole desired state.
func DesiredSubject(host string) string { return "desired." + host }

// StatusSubject is where a host tells of itself.
func StatusSubject(host string) string { return "status." + host }

// LeaseSubject is where a node grants leases.
func LeaseSubject(node string) string { return "lease." + node }

// NodesSubject is where a node tells of itself.
func NodesSubject(node string) string { return "nodes." + node }

// SessionsSubject carries the sessions of one node.
func SessionsSubject(node string) string { return "sessions." + node }

// EvidenceSubject is where a node gives out pieces of its evidence.
func EvidenceSubject(node string) string { return "evidence." + node }

// PersonaSubject is where a host tells what it is like.
func PersonaSubject(host string) string { return "persona." + host }

// PersonasSubject is where a node asks what a pot is to be.
func PersonasSubject(node string) string { return "personas." + node }

// KeysSubject is where a host is asked for its SSH host keys, NodeKeysSubject where a node asks for them.
func KeysSubject(host string) string { return "keys." + host }

// NodeKeysSubject is the node's side of KeysSubject.
func NodeKeysSubject(node string) string { return "nodekeys." + node }

// RenewSubject is where a certificate is renewed; role is "host" or "node".
func RenewSubject(role, name string) string { return "renew." + role + "." + name }

// Inbox is the inbox prefix that belongs to a certificate: nobody else may subscribe below it.
func Inbox(role, name string) string { return "_INBOX_" + role + "_" + name }

// lastToken returns what follows the last dot of a subject, "" where there is none.
func lastToken(subject string) string {
	if i := strings.LastIndexByte(subject, '.'); i >= 0 {
		return subject[i+1:]
	}
	return ""
}

// replyAllowed reports whether an answer to a request on subject may be sent to reply. NATS does not
// check the reply subject of what a client publishes, and our connection may have more rights
// than the requester: without this check it could make us publish where it may not.
func replyAllowed(subject, reply string) bool {
	if strings.HasPrefix(reply, ServerInbox+".") {
		return true
	}
	name := lastToken(subject)
	var inbox string
	switch family, rest, _ := strings.Cut(subject, "."); family {
	case EnrollSubject:
		inbox = EnrollInbox
	case "desired", "status", "persona":
		inbox = Inbox("host", name)
	case "nodes", "personas", "nodekeys":
		inbox = Inbox("node", name)
	case "renew":
		role, _, _ := strings.Cut(rest, ".")
		inbox = Inbox(role, name)
	default:
		return false
	}
	return strings.HasPrefix(reply, inbox+".")
}
