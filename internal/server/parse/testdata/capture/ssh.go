package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// ssh logs in to a server on loopback.
func (s *session) ssh(port int, user string, methods ...ssh.AuthMethod) {
	conn, err := s.dial(port)
	if err != nil {
		return
	}
	defer conn.Close()
	client, _, _, err := ssh.NewClientConn(conn, "sshd", sshConfig(user, methods...))
	if err == nil {
		s.logins++
		_ = client.Close()
	}
}

func sshConfig(user string, methods ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: methods, HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil }}
}

// nothingInCommon offers a key exchange that no server has any more.
func (s *session) nothingInCommon(port int) {
	conn, err := s.dial(port)
	if err != nil {
		return
	}
	defer conn.Close()
	config := sshConfig("root")
	config.KeyExchanges = []string{"diffie-hellman-group1-sha1"}
	_, _, _, _ = ssh.NewClientConn(conn, "sshd", config)
}

func newKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

var errNoMore = errors.New("no more")

// guess answers with n wrong passwords, or with the right one after them.
func (s *session) guess(n int, right bool) ssh.AuthMethod {
	i := 0
	return ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		i++
		if i > n {
			if right {
				return password, nil
			}
			return "", errNoMore
		}
		s.guesses++
		return fmt.Sprintf("wrong %d", i), nil
	}), n+1)
}

func (s *session) guessKbd(n int, right bool) ssh.AuthMethod {
	i := 0
	return ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		if len(questions) == 0 {
			return nil, nil
		}
		i++
		if i > n {
			if right {
				return []string{password}, nil
			}
			return nil, errNoMore
		}
		s.guesses++
		return []string{fmt.Sprintf("wrong %d", i)}, nil
	}), n+1)
}

func keys(n int) ssh.AuthMethod {
	var signers []ssh.Signer
	for range n {
		signer, _ := newKey()
		signers = append(signers, signer)
	}
	return ssh.PublicKeys(signers...)
}

// cert makes a certificate with the id by ca (nil: an authority that nobody knows).
func cert(id string, ca ssh.Signer) ssh.AuthMethod {
	signer, _ := newKey()
	if ca == nil {
		ca, _ = newKey()
	}
	crt := &ssh.Certificate{
		Key: signer.PublicKey(), CertType: ssh.UserCert, KeyId: id, ValidPrincipals: []string{"alice"},
		ValidBefore: ssh.CertTimeInfinity, Serial: 7, Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": ""}},
	}
	_ = crt.SignCert(rand.Reader, ca)
	cs, _ := ssh.NewCertSigner(crt, signer)
	return ssh.PublicKeys(cs)
}
