package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
)

const (
	keyFile       = "key.pem"
	certFile      = "cert.pem"
	authorityFile = "ca.pem" // the CA's certificate
	serverFile    = "server" // addresses of the bus, one a line
)

// ErrNotEnrolled is returned where the directory holds no certificate yet.
var ErrNotEnrolled = errors.New("not enrolled: make a token on the server with `kokkuri enroll NAME`, then run here: kokkuri-agent enroll --server ADDRESS --token TOKEN")

// Client is an enrolled machine's identity.
type Client struct {
	Role    Role
	Name    string
	Servers []string // addresses of the bus, host:port
	// TLS verifies the server by the CA and ServerName, and shows the certificate that is in the directory at
	// the time of each handshake, so a renewed one is used from the next connection on.
	TLS *tls.Config

	dir string
	ca  *x509.Certificate
	now func() time.Time
}

// LoadClient reads the identity that Enroll or IssueIdentity wrote to dir. Errors: ErrNotEnrolled, or
// what is wrong with which file.
func LoadClient(dir string) (*Client, error) { return loadClient(dir, time.Now) }

func loadClient(dir string, now func() time.Time) (*Client, error) {
	c := &Client{dir: dir, now: now}
	cert, err := c.certificate()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (no certificate in %s)", ErrNotEnrolled, dir)
	}
	if err != nil {
		return nil, err
	}
	c.Role, c.Name, err = Identity(cert.Leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, certFile), err)
	}
	caPEM, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	c.ca, err = parseCert(caPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, authorityFile), err)
	}
	list, err := os.ReadFile(filepath.Join(dir, serverFile))
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	c.Servers = strings.Fields(string(list))
	pool := x509.NewCertPool()
	pool.AddCert(c.ca)
	c.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: ServerName, Time: now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() },
	}
	return c, nil
}

// BusOptions returns what connects to the bus as this machine.
func (c *Client) BusOptions(log *slog.Logger) bus.Options {
	return bus.Options{URLs: c.Servers, TLS: c.TLS, Name: string(c.Role) + "-" + c.Name, InboxPrefix: bus.Inbox(string(c.Role), c.Name), Log: log}
}

// certificate reads key and certificate from the directory.
func (c *Client) certificate() (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(filepath.Join(c.dir, certFile))
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(c.dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("identity in %s is damaged; enrol this machine again with a new token: %w", c.dir, err)
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return nil, fmt.Errorf("identity in %s is damaged; enrol this machine again with a new token: %w", c.dir, err)
	}
	if c.now().After(cert.Leaf.NotAfter) {
		return nil, fmt.Errorf("the certificate in %s expired on %s; enrol this machine again with a new token (or check its clock)",
			c.dir, cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &cert, nil
}

// Identity returns the role and name that a certificate's subject states.
func Identity(cert *x509.Certificate) (Role, string, error) {
	ou := cert.Subject.OrganizationalUnit
	if len(ou) != 1 || !Role(ou[0]).Valid() {
		return "", "", fmt.Errorf("the certificate's subject names no role: OU is %q", ou)
	}
	if err := bus.ValidName(cert.Subject.CommonName); err != nil {
		return "", "", fmt.Errorf("the certificate's subject: %w", err)
	}
	return Role(ou[0]), cert.Subject.CommonName, nil
}

// PrepareSyslog makes the folder for a syslog daemon's certificate and the key in it (mode 0600) where they are missing,
// and returns a certificate request.
func PrepareSyslog(dir string) (csrPEM []byte, err error) { return prepareDir(dir) }

// WriteSyslog writes the certificate and the CA's beside the key: cert.pem, ca.pem, key.pem.
func WriteSyslog(dir string, certPEM, caPEM []byte) error {
	if err := writeFile(filepath.Join(dir, authorityFile), caPEM); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, certFile), certPEM)
}

// prepareDir makes the client directory and its key where they are missing, and returns a certificate request.
func prepareDir(dir string) (csrPEM []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare the identity: %w", err)
	}
	path := filepath.Join(dir, keyFile)
	keyPEM, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, keyPEM, err = newKey(); err == nil {
			err = writeFile(path, keyPEM)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the identity: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s (remove it to have a new one made): %w", path, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// writeIdentity writes what an identity has beside its key; the certificate comes last, as its presence
// means that the machine is enrolled.
func writeIdentity(dir string, certPEM, caPEM []byte, servers []string) error {
	if err := writeFile(filepath.Join(dir, authorityFile), caPEM); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, serverFile), []byte(strings.Join(servers, "\n")+"\n")); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, certFile), certPEM)
}
