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
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

const secretSize = 32

// Keys derives host keys. Its methods may be called concurrently.
type Keys struct {
	secret []byte
	dir    string // of the RSA keys

	mu   sync.Mutex
	rsas map[string]*rsa.PrivateKey // by file
}

// Open reads the secret in a file, or makes it.
func Open(path string) (*Keys, error) {
	secret, err := os.ReadFile(path)
	switch {
	case err == nil && len(secret) == secretSize:
		return open(path, secret), nil
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
	return open(path, secret), nil
}

func open(path string, secret []byte) *Keys {
	return &Keys{secret: secret, dir: filepath.Dir(path), rsas: map[string]*rsa.PrivateKey{}}
}

// Signers returns the host keys of an attacker's machine: ECDSA and Ed25519, in the order in which OpenSSH names them.
func (k *Keys) Signers(pot event.PotKey) ([]ssh.Signer, error) { return k.SignersOf(pot, nil) }

// SignersOf returns the host keys of an attacker's machine of these kinds and in this order, as far as there are any
// yet (see MakeRSA); of the usual ones where none are asked for.
func (k *Keys) SignersOf(pot event.PotKey, kinds []event.HostKeyKind) ([]ssh.Signer, error) {
	keys, err := k.derive(pot, kinds)
	if err != nil {
		return nil, err
	}
	out := make([]ssh.Signer, 0, len(keys))
	for _, key := range keys {
		s, err := ssh.NewSignerFromKey(key.key)
		if err != nil {
			return nil, fmt.Errorf("host key of a pot: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// named is a key and its kind's name in files.
type named struct {
	kind string
	key  crypto.Signer
}

func usual() []event.HostKeyKind {
	return []event.HostKeyKind{{Type: "ecdsa", Bits: 256}, {Type: "ed25519", Bits: 256}}
}

func (k *Keys) derive(pot event.PotKey, kinds []event.HostKeyKind) ([]named, error) {
	if len(kinds) == 0 {
		kinds = usual()
	}
	var out []named
	for _, kind := range kinds {
		var key crypto.Signer
		var err error
		switch kind.Type {
		case "ecdsa":
			key, err = k.ecdsa(pot, kind.Bits)
		case "ed25519":
			var seed []byte
			if seed, err = k.bytes(pot, "ed25519", ed25519.SeedSize); err == nil {
				key = ed25519.NewKeyFromSeed(seed)
			}
		case "rsa":
			if found := k.rsa(pot.Host, kind.Bits); found != nil {
				key = found
			}
		}
		if err != nil {
			return nil, err
		}
		if key != nil {
			out = append(out, named{kind.Type, key})
		}
	}
	if len(out) == 0 {
		return k.derive(pot, nil)
	}
	return out, nil
}

// Seed is what all else that is made up for the machines of a host is derived from: the same for all attackers, so
// that they see the same.
func (k *Keys) Seed(host string) ([]byte, error) {
	seed, err := hkdf.Key(sha256.New, k.secret, []byte(host), "kokkuri machine", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive what a machine is made up of: %w", err)
	}
	return seed, nil
}

func (k *Keys) bytes(pot event.PotKey, what string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, k.secret, []byte(pot.Attacker.String()+" "+pot.Host), "kokkuri host key "+what, n)
	if err != nil {
		return nil, fmt.Errorf("derive a host key: %w", err)
	}
	return b, nil
}

// ecdsa takes the first of some candidates that is below the curve's order; nearly always the first.
func (k *Keys) ecdsa(pot event.PotKey, bits int) (*ecdsa.PrivateKey, error) {
	curve, what := elliptic.P256(), "ecdsa"
	switch bits {
	case 384:
		curve, what = elliptic.P384(), "ecdsa-384"
	case 521:
		curve, what = elliptic.P521(), "ecdsa-521"
	}
	size := (curve.Params().BitSize + 7) / 8
	var err error
	for i := range 8 {
		var scalar []byte
		if scalar, err = k.bytes(pot, fmt.Sprintf("%s %d", what, i), size); err != nil {
			return nil, err
		}
		if bits == 521 {
			scalar[0] &= 1
		}
		var key *ecdsa.PrivateKey
		if key, err = ecdsa.ParseRawPrivateKey(curve, scalar); err == nil {
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

// Files returns the files in which an attacker's machine, called host, has the usual host keys.
func (k *Keys) Files(pot event.PotKey, host string) ([]File, error) { return k.FilesOf(pot, host, nil) }

// FilesOf returns the files in which an attacker's machine, called host, has the host keys of SignersOf.
func (k *Keys) FilesOf(pot event.PotKey, host string, kinds []event.HostKeyKind) ([]File, error) {
	keys, err := k.derive(pot, kinds)
	if err != nil {
		return nil, err
	}
	comment := "root@" + host
	var out []File
	for _, key := range keys {
		name := "ssh_host_" + key.kind + "_key"
		block, err := ssh.MarshalPrivateKey(key.key, comment)
		if err != nil {
			return nil, fmt.Errorf("write a host key: %w", err)
		}
		pub, err := ssh.NewPublicKey(key.key.Public())
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
