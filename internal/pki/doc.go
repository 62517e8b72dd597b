// Package pki is Kokkuri's own certificate authority: it issues, renews and revokes the certificates
// that the bus trusts, and enrols new machines with one-time tokens.
//
// A client certificate's subject is the identity: OU is the role, CN the name. The server's
// certificate always carries the DNS name ServerName, so that its addresses may change; it is
// presented together with the CA's, so that a new machine can check the CA by the fingerprint in its token.
package pki
