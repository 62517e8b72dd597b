// Package certificate makes and keeps the certificates that hosts' services are known by, in the manner of Debian's ssl-cert.
package certificate

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	keyBits  = 2048
	lifetime = 10 * 365 * 24 * time.Hour // as make-ssl-cert asks for
	maxAge   = 700                       // days since a host was set up, at most
	minAge   = 60
	maxKept  = 4096 // in memory
)

// Store keeps certificates in a folder. Its methods may be called concurrently.
type Store struct {
	dir string

	mu   sync.Mutex
	kept map[string]tls.Certificate
}

// Open opens a store in a folder, which is made where it does not exist.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep certificates: %w", err)
	}
	return &Store{dir: dir, kept: make(map[string]tls.Certificate)}, nil
}

// Of returns the certificate of a host of that name; it is made at the first call, and then always the same.
func (s *Store) Of(name string) (tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.kept[name]; ok {
		return c, nil
	}
	sum := sha256.Sum256([]byte(name)) // a name may hold anything
	path := filepath.Join(s.dir, hex.EncodeToString(sum[:16])+".pem")
	c, err := tls.LoadX509KeyPair(path, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(path, name); err == nil {
			c, err = tls.LoadX509KeyPair(path, path)
		}
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of %q in %s: %w", name, s.dir, err)
	}
	if len(s.kept) >= maxKept {
		clear(s.kept)
	}
	s.kept[name] = c
	return c, nil
}

// create makes a certificate as if the host had been set up some time ago.
func create(path, name string) error {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return fmt.Errorf("make a serial number: %w", err)
	}
	seconds, err := rand.Int(rand.Reader, big.NewInt((maxAge-minAge)*24*60*60))
	if err != nil {
		return fmt.Errorf("choose a date: %w", err)
	}
	begun := time.Now().Add(-minAge*24*time.Hour - time.Duration(seconds.Int64())*time.Second).Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: begun, NotAfter: begun.Add(lifetime), SignatureAlgorithm: x509.SHA256WithRSA, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})...)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("keep a certificate: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("keep a certificate: %w", err)
	}
	return nil
}
