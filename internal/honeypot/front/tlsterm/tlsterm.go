// Package tlsterm ends attackers' TLS with the certificate of the host that they believe to speak with, and tells their clients apart.
package tlsterm

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

const maxName = 256 // bytes of a server's name that are kept

// Server has the client's TLS end here. What the client says of itself is evidence.
func Server(ctx context.Context, v *front.Visit, conn net.Conn, certificates front.Certificates, within time.Duration) (*tls.Conn, error) {
	cert, err := certificates.Of(v.Lease.PotKey())
	if err != nil {
		return nil, fmt.Errorf("the host's certificate: %w", err)
	}
	c := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, // as Debian's OpenSSL
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			v.Rec.Note(event.Evidence{Kind: event.EvidenceClient, Client: &event.Client{JA4: JA4(h), ServerName: front.Clip(h.ServerName, maxName)}})
			return nil, nil //nolint:nilnil // the same for all
		},
		Certificates: []tls.Certificate{cert},
	})
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("speak TLS with the client: %w", err)
	}
	return c, nil
}

// Pot speaks TLS with a pot's server, whoever that says it is: it is reached within the node.
func Pot(ctx context.Context, conn net.Conn, within time.Duration) (*tls.Conn, error) {
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // there is nobody between
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("speak TLS with the pot: %w", err)
	}
	return c, nil
}
