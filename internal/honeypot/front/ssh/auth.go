package ssh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
)

var errDenied = errors.New("permission denied")

func (c *connection) config(signers []ssh.Signer) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		Config: ssh.Config{
			RekeyThreshold: 1 << 30, // bytes, as OpenSSH's
			// As a server that was hardened against Terrapin (CVE-2023-48795): without ChaCha20, which clients choose
			// first, and which cost the library three times as much as AES and HMAC together.
			Ciphers: []string{ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR, ssh.CipherAES128GCM, ssh.CipherAES256GCM},
		},
		ServerVersion: defaultVersion,
		MaxAuthTries:  maxAuthTries,
		PublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			entry.Offered(c.v, m.User(), key)
			return nil, errDenied
		},
	}
	if v := c.h.o.Version(c.v.Lease.PotKey()); v != "" {
		config.ServerVersion = v
	}
	if slices.Contains(c.h.o.Methods, entry.Password) {
		config.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, c.guess(m, entry.Password, string(password))
		}
	}
	if slices.Contains(c.h.o.Methods, entry.Interactive) {
		config.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil {
				return nil, fmt.Errorf("ask for a password: %w", err)
			}
			if len(answers) != 1 {
				return nil, errDenied
			}
			return nil, c.guess(m, entry.Interactive, answers[0])
		}
	}
	for _, s := range signers {
		config.AddHostKey(s)
	}
	return config
}

// guess decides on an account and a password.
func (c *connection) guess(m ssh.ConnMetadata, method, password string) error {
	guest, err := c.h.entry.Guess(c.ctx, c.v, method, m.User(), password)
	if err != nil {
		c.trouble = err
	}
	if guest != nil {
		c.guest = guest
		return nil
	}
	c.pause()
	return errDenied
}

// pause takes the time that a real server takes for a wrong password.
func (c *connection) pause() {
	d := c.h.o.FailDelay
	timer := time.NewTimer(d - d/4 + rand.N(d/2+1)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}
