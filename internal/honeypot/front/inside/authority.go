// Package inside is the way from a front into a pot's own SSH server.
package inside

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

// certificateLife is how long a certificate lets in. The clocks are the same machine's.
const certificateLife = 5 * time.Minute

// Authority lets the front log in to pots as anybody: pots trust its certificates. It is one node's,
// and no pot ever learns more of it than the public key.
type Authority struct{ ca, user ssh.Signer }

// OpenAuthority reads the authority's key in a file, or makes it.
func OpenAuthority(path string) (*Authority, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		data, err = makeAuthority(path)
	}
	if err != nil {
		return nil, fmt.Errorf("authority of the pots: %w", err)
	}
	ca, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("authority of the pots: %s: %w; remove it and the pots, and a new one is made", path, err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority of the pots: %w", err)
	}
	user, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("authority of the pots: %w", err)
	}
	return &Authority{ca: ca, user: user}, nil
}

func makeAuthority(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was done
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was done
	}
	data := pem.EncodeToMemory(block)
	return data, os.WriteFile(path, data, 0o600) //nolint:wrapcheck // the caller says what was done
}

// PublicKey returns what pots have to trust, as a line of authorized_keys.
func (a *Authority) PublicKey() []byte { return ssh.MarshalAuthorizedKey(a.ca.PublicKey()) }

// certify makes a certificate for an account.
func (a *Authority) certify(account string) (ssh.Signer, error) { //nolint:ireturn // the library has signers as interfaces only
	now := time.Now()
	cert := &ssh.Certificate{
		Key: a.user.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{account},
		ValidAfter: uint64(now.Add(-certificateLife).Unix()), ValidBefore: uint64(now.Add(certificateLife).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{
			"permit-pty": "", "permit-port-forwarding": "", "permit-user-rc": "", "permit-agent-forwarding": "", "permit-X11-forwarding": "",
		}},
	}
	if err := cert.SignCert(rand.Reader, a.ca); err != nil {
		return nil, fmt.Errorf("certify %s: %w", account, err)
	}
	signer, err := ssh.NewCertSigner(cert, a.user)
	if err != nil {
		return nil, fmt.Errorf("certify %s: %w", account, err)
	}
	return signer, nil
}
