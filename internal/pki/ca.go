package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
)

const (
	caLifetime     = 10 * 365 * 24 * time.Hour
	clientLifetime = 90 * 24 * time.Hour
	serverLifetime = 90 * 24 * time.Hour
	syslogLifetime = 365 * 24 * time.Hour // a syslog daemon's is renewed by hand
	clockSkew      = 5 * time.Minute      // how far a peer's clock may be behind

	caFile = "ca.pem" // at the server: certificate and key in one file, so that there is never one without the other
)

// ServerName is the DNS name that every server certificate carries and every client asks for.
const ServerName = "kokkuri-server"

// Role is what a certificate's holder is; each has rights of its own on the bus.
type Role string

// Roles.
const (
	RoleHost   Role = "host"
	RoleNode   Role = "node"
	RoleServer Role = "server"
	RoleSyslog Role = "syslog" // sends log lines by syslog, and may nothing on the bus
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool {
	return r == RoleHost || r == RoleNode || r == RoleServer || r == RoleSyslog
}

// lifetime is how long a certificate of the role holds: what renews itself gets a short one.
func (r Role) lifetime() time.Duration {
	if r == RoleSyslog {
		return syslogLifetime
	}
	return clientLifetime
}

// Options of OpenCA.
type Options struct {
	Dir string           // created with mode 0700; holds the CA's key
	Now func() time.Time // default: time.Now
	Log *slog.Logger
}

// CA is the certificate authority. Its methods may be called concurrently.
type CA struct {
	dir  string
	now  func() time.Time
	log  *slog.Logger
	key  crypto.Signer
	cert *x509.Certificate

	mu     sync.Mutex
	ledger ledger
}

// OpenCA opens the authority in a directory and makes it where there is none yet.
func OpenCA(opts Options) (*CA, error) {
	ca := &CA{dir: opts.Dir, now: opts.Now, log: opts.Log}
	if ca.now == nil {
		ca.now = time.Now
	}
	if ca.log == nil {
		ca.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(ca.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the certificate authority: %w", err)
	}
	err := ca.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = ca.create()
	}
	if err != nil {
		return nil, fmt.Errorf("open the certificate authority in %s: %w", ca.dir, err)
	}
	if ca.ledger, err = readLedger(filepath.Join(ca.dir, ledgerFile)); err != nil {
		return nil, fmt.Errorf("open the certificate authority in %s: %w", ca.dir, err)
	}
	return ca, nil
}

// load reads certificate and key; fs.ErrNotExist means that there is no authority yet.
func (ca *CA) load() error {
	path := filepath.Join(ca.dir, caFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(ca.dir, ledgerFile)); err == nil {
			return fmt.Errorf("%s is missing though certificates were issued: restore it from your backup, or remove the directory to begin anew (every host and node must then enrol again)", caFile)
		}
	}
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	if ca.cert, err = parseCert(text); err != nil {
		return fmt.Errorf("%s: %w", caFile, err)
	}
	_, rest := pem.Decode(text)
	key, err := parseKey(rest)
	if err != nil {
		return fmt.Errorf("%s: %w", caFile, err)
	}
	if !ca.cert.IsCA || !samePublicKey(ca.cert.PublicKey, key.Public()) {
		return fmt.Errorf("%s: certificate and key do not belong together", caFile)
	}
	ca.key = key
	return nil
}

func (ca *CA) create() error {
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	serial := newSerial()
	now := ca.now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Kokkuri"}, CommonName: "Kokkuri CA " + serial.Text(16)[:8]},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(caLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make the CA's certificate: %w", err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("make the CA's certificate: %w", err)
	}
	ca.key = key
	if err := writeFile(filepath.Join(ca.dir, caFile), append(certToPEM(der), keyPEM...)); err != nil {
		return err
	}
	ca.log.Info("made a certificate authority", "dir", ca.dir, "fingerprint", hex.EncodeToString(ca.fingerprint()), "not_after", t.NotAfter)
	return nil
}

// Certificate returns the CA's certificate as PEM.
func (ca *CA) Certificate() []byte { return certToPEM(ca.cert.Raw) }

// Fingerprint returns the SHA-256 of the CA's certificate, in hex.
func (ca *CA) Fingerprint() string { return hex.EncodeToString(ca.fingerprint()) }

func (ca *CA) fingerprint() []byte {
	sum := sha256.Sum256(ca.cert.Raw)
	return sum[:]
}

// IssueClient signs a certificate request (PEM) for a role and a name, which replace whatever the request's
// subject says. The certificate (PEM) holds for 90 days, a syslog daemon's for a year.
func (ca *CA) IssueClient(csrPEM []byte, role Role, name string) ([]byte, error) {
	if !role.Valid() {
		return nil, fmt.Errorf("issue a certificate: unknown role %q", role)
	}
	if err := bus.ValidName(name); err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	csr, err := parseRequest(csrPEM)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if k, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("issue a certificate: the key must be ECDSA P-256")
	}
	serial := newSerial()
	now := ca.now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Kokkuri"}, OrganizationalUnit: []string{string(role)}, CommonName: name},
		NotBefore:    now.Add(-clockSkew), NotAfter: earlier(now.Add(role.lifetime()), ca.cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, csr.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s %s: %w", role, name, err)
	}
	// Recorded before it is handed out: what is not in the ledger could not be revoked.
	if err := ca.record(entry{Serial: serial.Text(16), Role: role, Name: name, NotAfter: t.NotAfter}); err != nil {
		return nil, fmt.Errorf("issue a certificate for %s %s: %w", role, name, err)
	}
	ca.log.Info("issued a certificate", "role", string(role), "name", name, "serial", serial.Text(16), "not_after", t.NotAfter)
	return certToPEM(der), nil
}

// IssueSyslog signs a certificate request (PEM) with which name's syslog daemon may send log lines, and says until when.
func (ca *CA) IssueSyslog(csrPEM []byte, name string) (certPEM []byte, until time.Time, err error) {
	if len(csrPEM) > maxCSR {
		return nil, time.Time{}, errors.New("issue a certificate: the request is too long")
	}
	if certPEM, err = ca.IssueClient(csrPEM, RoleSyslog, name); err != nil {
		return nil, time.Time{}, err
	}
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, time.Time{}, err
	}
	return certPEM, cert.NotAfter, nil
}

// IssueIdentity makes or renews a whole client directory without network, for roles on the server's own
// machine; servers are the addresses (host:port) of the bus.
func (ca *CA) IssueIdentity(dir string, role Role, name string, servers []string) error {
	csr, err := prepareDir(dir)
	if err != nil {
		return fmt.Errorf("issue an identity in %s: %w", dir, err)
	}
	cert, err := ca.IssueClient(csr, role, name)
	if err != nil {
		return err
	}
	if err := writeIdentity(dir, cert, ca.Certificate(), servers); err != nil {
		return fmt.Errorf("issue an identity in %s: %w", dir, err)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// newSerial returns a positive random serial number of 127 bits at most.
func newSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}
