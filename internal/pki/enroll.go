package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
)

const (
	enrollTimeout = 30 * time.Second
	probeTimeout  = 10 * time.Second
)

// Enroll makes this machine known to a server: it makes a key in dir, checks that the server at addr
// (host:port) is the one that made the token, and has the key's certificate issued. Where the answer was lost, it may be
// called again with the same token and dir. Errors wrap ErrTokenMalformed, ErrTokenExpired, ErrTokenUsed,
// ErrTokenUnknown or ErrWrongServer, or say why the server could not be reached; all say what to do.
func Enroll(ctx context.Context, addr, token, dir string) error {
	t, err := ParseToken(token)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("enrol: server %q: want ADDRESS:PORT, such as 198.51.100.2:12666: %w", addr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	csr, err := prepareDir(dir)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	pinned := &pinnedServer{token: t}
	if err := pinned.probe(ctx, addr); err != nil {
		return fmt.Errorf("enrol at %s: %w", addr, err)
	}
	certPEM, err := requestCertificate(ctx, addr, t, string(csr), pinned)
	if err != nil {
		return fmt.Errorf("enrol at %s: %w", addr, err)
	}
	if err := checkIssued(certPEM, csr, pinned.ca, t.Role, t.Name); err != nil {
		return fmt.Errorf("enrol at %s: the server's answer: %w", addr, err)
	}
	if err := writeIdentity(dir, certPEM, certToPEM(pinned.ca.Raw), []string{addr}); err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	return nil
}

func requestCertificate(ctx context.Context, addr string, t Token, csr string, pinned *pinnedServer) ([]byte, error) {
	nonce := rand.Text()
	conn, err := bus.Dial(ctx, bus.Options{
		URLs: []string{addr}, TLS: pinned.config(), Name: nonce, InboxPrefix: bus.EnrollInbox + "." + nonce,
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	if err := conn.WaitConnected(ctx); err != nil {
		return nil, fmt.Errorf("the server does not let this machine in (is it busy with other enrolments?); try again in a minute: %w", err)
	}
	reply, err := bus.Request[enrollRequest, certificateReply](ctx, conn, bus.EnrollSubject, enrollRequest{Token: t.String(), CSR: csr})
	var remote *bus.RemoteError
	switch {
	case errors.As(err, &remote):
		return nil, remoteError(remote)
	case errors.Is(err, bus.ErrNoResponder):
		return nil, fmt.Errorf("the server's bus runs but the server does not answer enrolments yet; try again in a moment: %w", err)
	case err != nil:
		return nil, fmt.Errorf("ask for a certificate (the same token may be tried again): %w", err)
	}
	return []byte(reply.Certificate), nil
}

// remoteError gives the server's answer the sentinel that belongs to its code.
func remoteError(e *bus.RemoteError) error {
	sentinel, ok := map[string]error{
		codeMalformed: ErrTokenMalformed, codeExpired: ErrTokenExpired, codeUsed: ErrTokenUsed, codeUnknown: ErrTokenUnknown,
	}[e.Code]
	if !ok {
		return fmt.Errorf("refused: %s", e.Text)
	}
	return fmt.Errorf("%w: %s", sentinel, e.Text)
}

// checkIssued verifies that a certificate is of the CA, for the key of the request, and states the role and name.
func checkIssued(certPEM, csrPEM []byte, ca *x509.Certificate, role Role, name string) error {
	cert, err := parseCert(certPEM)
	if err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("its certificate is not of its authority: %w", err)
	}
	csr, err := parseRequest(csrPEM)
	if err != nil {
		return err
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
		return errors.New("its certificate is for another key")
	}
	if r, n, err := Identity(cert); err != nil || r != role || n != name {
		return fmt.Errorf("its certificate is for %s %q, not for %s %q", r, n, role, name)
	}
	return nil
}

// pinnedServer verifies a server by the fingerprint in a token: the server presents its CA's certificate too.
type pinnedServer struct {
	token Token
	ca    *x509.Certificate // set when a server was found right
}

func (p *pinnedServer) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: ServerName,
		InsecureSkipVerify: true, //nolint:gosec // no CA is known yet; verify does it by the token's fingerprint
		VerifyConnection:   p.verify,
	}
}

func (p *pinnedServer) verify(cs tls.ConnectionState) error {
	var ca *x509.Certificate
	seen := "no CA certificate"
	for _, cert := range cs.PeerCertificates[min(1, len(cs.PeerCertificates)):] {
		sum := sha256.Sum256(cert.Raw)
		seen = hex.EncodeToString(sum[:8]) + "…"
		if sum == p.token.fingerprint {
			ca = cert
			break
		}
	}
	if ca == nil {
		return fmt.Errorf("%w: the token was made by the server with CA fingerprint %s…, this one presents %s; check the address, and that the token is of this server",
			ErrWrongServer, hex.EncodeToString(p.token.fingerprint[:8]), seen)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	if _, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: pool, DNSName: ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("%w: its certificate is not valid (check this machine's clock): %w", ErrWrongServer, err)
	}
	p.ca = ca
	return nil
}

// probe makes one TLS connection, which tells at once, and precisely, what is wrong with an address.
func (p *pinnedServer) probe(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	d := tls.Dialer{Config: p.config()}
	conn, err := d.DialContext(ctx, "tcp", addr)
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		_ = conn.Close()
		return nil
	case errors.Is(err, ErrWrongServer):
		return err //nolint:wrapcheck // our own error of verify
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens there; is the server running, and is its server.bus.listen reachable from here?: %w", err)
	case errors.As(err, &record):
		return fmt.Errorf("what listens there is not Kokkuri's bus (no TLS); check the port: %w", err)
	}
	return fmt.Errorf("the server can't be reached; check the address, and firewalls in between: %w", err)
}

// Renew has a new certificate issued for the key in dir, over the bus connection of its holder.
func (c *Client) Renew(ctx context.Context, conn *bus.Conn) error {
	csr, err := prepareDir(c.dir)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	subject := bus.RenewSubject(string(c.Role), c.Name)
	reply, err := bus.Request[renewRequest, certificateReply](ctx, conn, subject, renewRequest{CSR: string(csr)})
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	if err := checkIssued([]byte(reply.Certificate), csr, c.ca, c.Role, c.Name); err != nil {
		return fmt.Errorf("renew the certificate: the server's answer: %w", err)
	}
	if err := writeFile(filepath.Join(c.dir, certFile), []byte(reply.Certificate)); err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	return nil
}
