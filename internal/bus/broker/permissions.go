package broker

import (
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// responseTime is how long a host or node may take to answer a request.
const responseTime = time.Minute

// permissions are what each role may do, and nothing beyond: no role has access to the JetStream API ($JS.API.>),
// with which one host could list the others and exhaust the server. Acknowledgements of a stream come to
// the reply inbox without it.
func permissions(role pki.Role, name string) jwt.Permissions {
	var p jwt.Permissions
	switch role {
	case pki.RoleHost:
		p.Pub.Allow.Add(bus.LogsSubject(name), bus.StatusSubject(name), bus.DesiredSubject(name), bus.PersonaSubject(name), bus.RenewSubject(string(role), name))
		p.Sub.Allow.Add(bus.RedirectsSubject(name), bus.KeysSubject(name), bus.Inbox(string(role), name)+".>")
		p.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: responseTime}
	case pki.RoleNode:
		p.Pub.Allow.Add(bus.NodesSubject(name), bus.SessionsSubject(name), bus.PersonasSubject(name), bus.NodeKeysSubject(name), bus.RenewSubject(string(role), name))
		p.Sub.Allow.Add(bus.LeaseSubject(name), bus.EvidenceSubject(name), bus.Inbox(string(role), name)+".>")
		p.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: responseTime}
	case pki.RoleServer:
		// Another server of the same installation: everything, as over the in-process connection.
	default:
		p.Pub.Deny.Add(">")
		p.Sub.Deny.Add(">")
	}
	return p
}

// enrollPermissions are those of a connection without certificate; nonce is its own random inbox token.
func enrollPermissions(nonce string) jwt.Permissions {
	var p jwt.Permissions
	p.Pub.Allow.Add(bus.EnrollSubject)
	p.Sub.Allow.Add(bus.EnrollInbox + "." + nonce + ".>")
	return p
}
