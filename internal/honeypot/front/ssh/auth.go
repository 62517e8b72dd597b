package ssh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
)

const (
	maxAccount  = 256  // bytes of an account's name that are kept
	maxPassword = 1024 // bytes of a password that are kept
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
			c.key(m, key)
			return nil, errDenied
		},
	}
	if v := c.h.o.Version(); v != "" {
		config.ServerVersion = v
	}
	if slices.Contains(c.h.o.Methods, Password) {
		config.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, c.guess(m, Password, string(password))
		}
	}
	if slices.Contains(c.h.o.Methods, Interactive) {
		config.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil {
				return nil, fmt.Errorf("ask for a password: %w", err)
			}
			if len(answers) != 1 {
				return nil, errDenied
			}
			return nil, c.guess(m, Interactive, answers[0])
		}
	}
	for _, s := range signers {
		config.AddHostKey(s)
	}
	return config
}

// key notes a public key. None ever opens anything: the accounts are not the attacker's.
func (c *connection) key(m ssh.ConnMetadata, key ssh.PublicKey) {
	line := ssh.MarshalAuthorizedKey(key)
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceKey, Key: &event.Key{
		Account: clip(m.User(), maxAccount), Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key),
		MD5: ssh.FingerprintLegacyMD5(key), Key: string(line[:len(line)-1]),
	}})
}

func clip(s string, most int) event.Bytes { return event.Bytes(s[:min(len(s), most)]) }

// guess decides on an account and a password, and brings who gets in into the pot.
func (c *connection) guess(m ssh.ConnMetadata, method, password string) error {
	login := &event.Login{Account: clip(m.User(), maxAccount), Method: method}
	if err := c.conceal(login, password); err != nil {
		return err
	}
	guest, ok, err := c.h.o.Policy.Try(c.v.Lease.PotKey(), m.User(), password)
	if err == nil && ok {
		err = c.enter(guest, password)
	}
	if err != nil {
		c.trouble = err
		c.h.log.ErrorContext(c.ctx, "attacker is not let in", "session", c.v.Session, "error", err)
	}
	login.Success = ok && err == nil
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: login})
	if login.Success {
		return nil
	}
	c.pause()
	return errDenied
}

// conceal keeps a password, or of somebody who may be honest a salted hash only.
func (c *connection) conceal(login *event.Login, password string) error {
	if !c.v.Lease.Known {
		login.Password = clip(password, maxPassword)
		return nil
	}
	hash, err := c.h.o.Hash(string(clip(password, maxPassword)))
	if err != nil {
		return fmt.Errorf("hash a password: %w", err)
	}
	login.Hash = hash
	return nil
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

// enter wakes the pot and logs in to it as the guest.
func (c *connection) enter(g credential.Guest, password string) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.h.o.Grace)
	defer cancel()
	k := c.v.Lease.PotKey()
	stay, err := c.h.o.Enter(ctx, k)
	if err != nil {
		return fmt.Errorf("enter the pot: %w", err)
	}
	c.v.Pot(stay.Pot())
	settled, err := c.h.o.Admit(k, stay, g)
	if err != nil {
		stay.Close()
		return fmt.Errorf("make the guest's account: %w", err)
	}
	conn, err := stay.Dial(ctx, event.SSH)
	var pot *inside.Client
	if err == nil {
		pot, err = c.h.o.Authority.Login(ctx, conn, g.Account, password)
	}
	if err != nil {
		stay.Close()
		return err
	}
	if settled != nil {
		settled()
	}
	c.stay, c.pot, c.guest = stay, pot, g
	return nil
}
