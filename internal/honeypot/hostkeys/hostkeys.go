// Package hostkeys gives each attacker's machine SSH host keys of its own, always the same ones: they
// are derived (RFC 5869) from one secret of the node, so that no two attackers see the same ones and
// nothing has to be kept of those who never got in.
package hostkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

const secretSize = 32

// Types of host keys.
const (
	RSA     = "rsa"
	ECDSA   = "ecdsa"
	Ed25519 = "ed25519"
)

// Keys derives host keys. Its methods may be called concurrently.
type Keys struct {
	path   string
	types  []string // in the order in which OpenSSH names them
	secret []byte
	ring   [rsaKeys]ring
}

// ring holds one key that several attackers' machines may have.
type ring struct {
	mu  sync.Mutex
	key *rsa.PrivateKey
}

// Open reads the secret in a file, or makes it. Machines have keys of some types, or of those that ssh-keygen -A makes.
func Open(path string, types ...string) (*Keys, error) {
	if len(types) == 0 {
		types = []string{RSA, ECDSA, Ed25519}
	}
	secret, err := os.ReadFile(path)
	switch {
	case err == nil && len(secret) == secretSize:
		return &Keys{path: path, types: types, secret: secret}, nil
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
	return &Keys{path: path, types: types, secret: secret}, nil
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
		if multi, ok := s.(ssh.AlgorithmSigner); ok && s.PublicKey().Type() == ssh.KeyAlgoRSA {
			// As OpenSSH since 8.8: never with SHA-1.
			if s, err = ssh.NewSignerWithAlgorithms(multi, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err != nil {
				return nil, fmt.Errorf("host key of a pot: %w", err)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

func (k *Keys) derive(pot event.PotKey) ([]crypto.Signer, error) {
	out := make([]crypto.Signer, len(k.types))
	for i, t := range k.types {
		var err error
		switch t {
		case RSA:
			out[i], err = k.rsa(pot)
		case ECDSA:
			out[i], err = k.ecdsa(pot)
		case Ed25519:
			var seed []byte
			seed, err = k.bytes(pot, t, ed25519.SeedSize)
			if err == nil {
				out[i] = ed25519.NewKeyFromSeed(seed)
			}
		default:
			err = fmt.Errorf("host key of type %q; there are %s, %s and %s", t, RSA, ECDSA, Ed25519)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
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
	for i, t := range k.types {
		name := "ssh_host_" + t + "_key"
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
