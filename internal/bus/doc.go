// Package bus is the client side of Kokkuri's bus: subjects, wire encoding, publishing with
// acknowledgement, requests and ordered consumption over NATS JetStream.
//
// It links nats.go only; the embedded server is package broker. Who may use which subject is
// decided by the broker from the client's certificate (package broker, permissions.go).
//
//	logs.<host>          stream LOGS: batches of log lines
//	sessions.<node>      stream SESSIONS: event.SessionReport as JSON
//	redirects.<host>     published by the server: event.Change
//	desired.<host>       request: the host's whole event.Desired
//	status.<host>        request: event.HostStatus, answered empty
//	nodes.<node>         request: event.NodeStatus, answered by event.NodeDesired
//	lease.<node>         request by the server: event.LeaseRequest, answered by event.LeaseReply
//	evidence.<node>      request by the server: event.EvidenceRequest, answered by event.EvidenceReply
//	renew.<role>.<name>  request: a new certificate for an old one
//	enroll               request without a certificate: a token for a certificate
package bus
