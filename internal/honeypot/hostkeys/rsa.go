package hostkeys

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RSA keys take too long to derive for each attacker, so all attackers of a host see the same one, as they would of
// the host itself.

func (k *Keys) rsaFile(host string, bits int) string {
	return filepath.Join(k.dir, fmt.Sprintf("hostkey-%s-%d.pem", filepath.Base(host), bits))
}

// rsa returns a host's RSA key, or nil where there is none yet.
func (k *Keys) rsa(host string, bits int) *rsa.PrivateKey {
	file := k.rsaFile(host, bits)
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, ok := k.rsas[file]; ok {
		return key
	}
	key, err := readRSA(file)
	if err != nil {
		key = nil
	}
	k.rsas[file] = key
	return key
}

func readRSA(file string) (*rsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("RSA host key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("RSA host key: the file holds none")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("RSA host key: %w", err)
	}
	return key, nil
}

// MakeRSA makes a host's RSA key where there is none yet; that takes a second.
func (k *Keys) MakeRSA(host string, bits int) error {
	if k.rsa(host, bits) != nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return fmt.Errorf("make an RSA host key: %w", err)
	}
	file := k.rsaFile(host, bits)
	data := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return fmt.Errorf("keep an RSA host key: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("keep an RSA host key: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rsas[file] = key
	return nil
}
