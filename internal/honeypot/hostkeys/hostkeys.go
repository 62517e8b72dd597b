// Package hostkeys gives each attacker's machine SSH host keys of its own, always the same ones: they
// are derived (RFC 5869) from one secret of the node, so that no two attackers see the same key and
// nothing has to be kept of those who never got in.
package hostkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

const secretSize = 32

// Keys derives host keys. Its methods may be called concurrently.
type Keys struct{ secret []byte }

// Open reads the secret in a file, or makes it.
func Open(path string) (*Keys, error) {
	secret, err := os.ReadFile(path)
	switch {
	case err == nil && len(secret) == secretSize:
		return &Keys{secret: secret}, nil
	case err == nil:
		return nil, fmt.Errorf("secret of the host keys: %s has %d bytes instead of %d; remove it, and pots get new host keys", path, len(secret), secretSize)
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("secret of the host keys: %w", err)
	}
	secret = make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("secret of the host keys: %w", err)
	}
	return &Keys{secret: secret}, nil
}

// Signers returns the host keys of an attacker's machine, in the order in which OpenSSH names them.
func (k *Keys) Signers(pot event.PotKey) ([]ssh.Signer, error) {
	keys, err := k.derive(pot)
	if err != nil {
		return nil, err
	}
	out := make([]ssh.Signer, 0, len(keys))
	for _, key := range keys {
		s, err := ssh.NewSignerFromKey(key)
		if err != nil {
			return nil, fmt.Errorf("host key of a pot: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (k *Keys) derive(pot event.PotKey) ([]crypto.Signer, error) {
	ec, err := k.ecdsa(pot)
	if err != nil {
		return nil, err
	}
	seed, err := k.bytes(pot, "ed25519", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return []crypto.Signer{ec, ed25519.NewKeyFromSeed(seed)}, nil
}

func (k *Keys) bytes(pot event.PotKey, what string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, k.secret, []byte(pot.Attacker.String()+" "+pot.Host), "kokkuri host key "+what, n)
	if err != nil {
		return nil, fmt.Errorf("derive a host key: %w", err)
	}
	return b, nil
}

// ecdsa takes the first of some candidates that is below the curve's order; nearly always the first.
func (k *Keys) ecdsa(pot event.PotKey) (*ecdsa.PrivateKey, error) {
	var err error
	for i := range 8 {
		var scalar []byte
		if scalar, err = k.bytes(pot, fmt.Sprintf("ecdsa %d", i), 32); err != nil {
			return nil, err
		}
		var key *ecdsa.PrivateKey
		if key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("derive a host key: %w", err)
}

// File is one of the files in which a machine has its host keys.
type File struct {
	Name string // in /etc/ssh
	Mode os.FileMode
	Data []byte
}

// Files returns the files in which an attacker's machine, called host, has its host keys.
func (k *Keys) Files(pot event.PotKey, host string) ([]File, error) {
	keys, err := k.derive(pot)
	if err != nil {
		return nil, err
	}
	comment := "root@" + host
	var out []File
	for i, name := range []string{"ssh_host_ecdsa_key", "ssh_host_ed25519_key"} {
		block, err := ssh.MarshalPrivateKey(keys[i], comment)
		if err != nil {
			return nil, fmt.Errorf("write a host key: %w", err)
		}
		pub, err := ssh.NewPublicKey(keys[i].Public())
		if err != nil {
			return nil, fmt.Errorf("write a host key: %w", err)
		}
		line := ssh.MarshalAuthorizedKey(pub)
		out = append(out,
			File{Name: name, Mode: 0o600, Data: pem.EncodeToMemory(block)},
			File{Name: name + ".pub", Mode: 0o644, Data: append(line[:len(line)-1], " "+comment+"\n"...)})
	}
	return out, nil
}
