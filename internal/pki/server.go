package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ServerTLS returns the bus's TLS configuration: it asks for client certificates of this CA and takes connections without
// one, which the broker lets do nothing but enrol. The server's certificate lives in memory only: it
// is made at each start, so that it covers the names and addresses of today's configuration, and again
// when two thirds of its 90 days are over.
func (ca *CA) ServerTLS(names []string, addrs []netip.Addr) (*tls.Config, error) {
	s := &serverCert{ca: ca, names: append([]string{ServerName}, names...), addrs: addrs}
	if _, err := s.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: s.get,
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool(), Time: ca.now,
		SessionTicketsDisabled: true, // each connection proves its certificate anew
	}, nil
}

// SyslogTLS returns the TLS configuration for syslog (RFC 5425): nobody gets in without a certificate of this CA. The
// server's own certificate is made as for the bus.
func (ca *CA) SyslogTLS(names []string, addrs []netip.Addr) (*tls.Config, error) {
	c, err := ca.ServerTLS(names, addrs)
	if err != nil {
		return nil, err
	}
	c.MinVersion = tls.VersionTLS12 // rsyslog with an older GnuTLS
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}

// Sender returns the name of the host or relay that a certificate lets send log lines by syslog. It is an error where the
// certificate was revoked, has expired, or is of another role.
func (ca *CA) Sender(cert *x509.Certificate) (string, error) {
	role, name, err := Identity(cert)
	switch {
	case err != nil:
		return "", err
	case role != RoleHost && role != RoleSyslog:
		return "", fmt.Errorf("%w: it is of the %s %s", ErrNotSender, role, name)
	case ca.now().After(cert.NotAfter):
		return "", fmt.Errorf("%w: that of %s expired on %s", ErrNotSender, name, cert.NotAfter.UTC().Format(time.RFC3339))
	case ca.Revoked(cert.SerialNumber.Text(16)):
		return "", fmt.Errorf("%w: that of %s was revoked", ErrNotSender, name)
	}
	return name, nil
}

func (ca *CA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// ErrNotSender is wrapped by Sender's errors for certificates that don't let send log lines.
var ErrNotSender = errors.New("the certificate does not let send log lines")

type serverCert struct {
	ca    *CA
	names []string
	addrs []netip.Addr

	mu    sync.Mutex
	cert  *tls.Certificate
	renew time.Time
}

func (s *serverCert) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.ca.now()
	if s.cert != nil && now.Before(s.renew) {
		return s.cert, nil
	}
	cert, err := s.issue(now)
	if err != nil {
		if s.cert != nil {
			s.ca.log.Error("server certificate not renewed", "error", err)
			return s.cert, nil
		}
		return nil, err
	}
	s.cert, s.renew = cert, now.Add(serverLifetime*2/3)
	return cert, nil
}

func (s *serverCert) issue(now time.Time) (*tls.Certificate, error) {
	key, _, err := newKey()
	if err != nil {
		return nil, err
	}
	serial := newSerial()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Kokkuri"}, CommonName: ServerName}, DNSNames: s.names,
		NotBefore: now.Add(-clockSkew), NotAfter: earlier(now.Add(serverLifetime), s.ca.cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, a := range s.addrs {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.Unmap().AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, s.ca.cert, key.Public(), s.ca.key)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, s.ca.cert.Raw}, PrivateKey: key}, nil
}
