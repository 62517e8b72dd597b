package hostkeys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strconv"

	"github.com/kokkuri/kokkuri/internal/event"
)

// An RSA key costs a third of a second, which a node does not have for each of a thousand attackers. So there are some, and
// an attacker always has the same one of them: that two have the same, they learn only by comparing.
const (
	rsaKeys     = 64
	rsaBits     = 3072 // as ssh-keygen makes them
	rsaExponent = 65537
)

// Prepare makes the RSA keys that are still missing, until ctx is done.
func (k *Keys) Prepare(ctx context.Context) error {
	if !slices.Contains(k.types, RSA) {
		return nil
	}
	for i := range rsaKeys {
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if _, err := k.rsaAt(i); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keys) rsa(pot event.PotKey) (*rsa.PrivateKey, error) {
	b, err := k.bytes(pot, "rsa", 8)
	if err != nil {
		return nil, err
	}
	return k.rsaAt(int(binary.BigEndian.Uint64(b) % rsaKeys))
}

// rsaAt returns the i-th key: from memory, from its file, or derived anew.
func (k *Keys) rsaAt(i int) (*rsa.PrivateKey, error) {
	slot := &k.ring[i]
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.key != nil {
		return slot.key, nil
	}
	path := k.path + ".rsa." + strconv.Itoa(i)
	if key := readRSA(path); key != nil {
		slot.key = key
		return key, nil
	}
	key, err := k.deriveRSA(i)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, x509.MarshalPKCS1PrivateKey(key), 0o600); err != nil {
		return nil, fmt.Errorf("keep a host key: %w", err)
	}
	slot.key = key
	return key, nil
}

// readRSA returns a whole key or nil: then it is derived again.
func readRSA(path string) *rsa.PrivateKey {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	key, err := x509.ParsePKCS1PrivateKey(data)
	if err != nil || key.N.BitLen() != rsaBits {
		return nil
	}
	return key
}

// deriveRSA makes a key of a stream of bytes that only the secret and i determine.
func (k *Keys) deriveRSA(i int) (*rsa.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, k.secret, nil, "kokkuri host key rsa "+strconv.Itoa(i), 32)
	if err != nil {
		return nil, fmt.Errorf("derive a host key: %w", err)
	}
	block, err := aes.NewCipher(seed)
	if err != nil {
		return nil, fmt.Errorf("derive a host key: %w", err)
	}
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize)) //nolint:gosec // the key is this stream's alone
	e, one := big.NewInt(rsaExponent), big.NewInt(1)
	for range 8 {
		p, q := prime(stream), prime(stream)
		n := new(big.Int).Mul(p, q)
		if p.Cmp(q) == 0 || n.BitLen() != rsaBits {
			continue
		}
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if d == nil {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: rsaExponent}, D: d, Primes: []*big.Int{p, q}}
		key.Precompute()
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("derive a host key: %w", err)
		}
		return key, nil
	}
	return nil, errors.New("derive a host key: no primes")
}

// prime returns the next prime from the stream: of half a key's bits, the first two of them set.
func prime(stream cipher.Stream) *big.Int {
	const tests = 20 // as FIPS 186-4 has it for this size, and more
	b := make([]byte, rsaBits/16)
	for {
		clear(b)
		stream.XORKeyStream(b, b)
		b[0] |= 0xc0
		b[len(b)-1] |= 1
		if p := new(big.Int).SetBytes(b); p.ProbablyPrime(tests) {
			return p
		}
	}
}
