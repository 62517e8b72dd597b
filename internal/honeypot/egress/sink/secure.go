package sink

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
)

const (
	maxCerts    = 512
	certLife    = 90 * 24 * time.Hour
	handshakeIn = 15 * time.Second
)

// certs are the certificates that were made up, by name.
type certs struct {
	mu sync.Mutex
	of map[string]*tls.Certificate
}

// tls tells a client's hello and answers it, and goes on within.
func (c *call) tls(ctx context.Context) {
	for {
		h, done, ok := firstbytes.ParseHello(c.buf)
		if !done && ok {
			if c.more(silence) == nil {
				continue
			}
			ok = false
		}
		if !ok {
			c.raw()
			return
		}
		if len(h.ServerName) <= maxNameBytes {
			c.server = h.ServerName
		}
		e := event.Egress{What: "connect", Protocol: "tls", JA3: h.JA3}
		for _, p := range h.Protocols {
			e.ALPN = append(e.ALPN, event.Bytes(p))
		}
		c.tell(e)
		break
	}
	inner := tls.Server(&replayed{Conn: c.conn, first: c.buf}, c.s.tlsConfig(c))
	ctx, cancel := context.WithTimeout(ctx, handshakeIn)
	defer cancel()
	if inner.HandshakeContext(ctx) != nil {
		return
	}
	within := &call{s: c.s, conn: inner, pot: c.pot, a: c.a, to: c.to, in: c.in, ends: c.ends, secure: true, server: c.server}
	within.run(ctx)
	_ = inner.Close()
}

func (s *Sink) tlsConfig(c *call) *tls.Config {
	config := &tls.Config{ //nolint:gosec // who calls may be old, and nothing is secret
		MinVersion: tls.VersionTLS10,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := strings.ToLower(h.ServerName)
			if name == "" {
				name = c.to.Addr().String()
			}
			return s.certificate(name)
		},
	}
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, p := range []string{"http/1.1", "dot"} {
			if slices.Contains(h.SupportedProtos, p) {
				own := config.Clone()
				own.GetConfigForClient, own.NextProtos = nil, []string{p}
				return own, nil
			}
		}
		return nil, nil //nolint:nilnil // as it is: without a protocol, which clients of HTTP/2 alone take as HTTP/1.1
	}
	return config
}

// certificate makes a certificate for a name, which signs itself.
func (s *Sink) certificate(name string) (*tls.Certificate, error) {
	s.certs.mu.Lock()
	defer s.certs.mu.Unlock()
	if cert := s.certs.of[name]; cert != nil {
		return cert, nil
	}
	seed := s.secret("certificate", name)
	age := time.Duration(5+int(seed[0])%50) * 24 * time.Hour
	from := time.Now().Add(-age).Truncate(time.Hour)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(seed[1:17]), Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: from.Add(certLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	if s.certs.of == nil || len(s.certs.of) >= maxCerts {
		s.certs.of = make(map[string]*tls.Certificate)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.key}
	s.certs.of[name] = cert
	return cert, nil
}

// replayed is a connection of which the first bytes were read already.
type replayed struct {
	net.Conn

	first []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Conn.Read(p) //nolint:wrapcheck // it is a connection
}
