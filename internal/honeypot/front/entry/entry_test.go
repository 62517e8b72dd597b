package entry_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
)

// server is a pot's SSH server, which breaks the first connections and refuses some accounts.
type server struct {
	net.Listener

	breaks int // connections that are closed before anything is said; counts down
	dialed int
	closed int
}

func (s *server) Pot() event.Pot                                 { return event.Pot{ID: "pot"} }
func (s *server) Login(event.Service) (account, password string) { return "", "" }
func (s *server) PID() int                                       { return 1 }
func (s *server) Close()                                         { s.closed++ }

func (s *server) Dial(ctx context.Context, _ event.Service) (net.Conn, error) {
	s.dialed++
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Addr().String())
}

func newServer(t *testing.T, breaks int) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	config := &ssh.ServerConfig{PasswordCallback: func(c ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) {
		if c.User() == "gone" {
			return nil, errors.New("no such account")
		}
		return nil, nil //nolint:nilnil // no restrictions
	}}
	config.AddHostKey(signer)
	s := &server{Listener: l, breaks: breaks}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for broke := 0; ; {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if broke++; broke <= breaks {
				_ = conn.Close()
				continue
			}
			_, chans, reqs, err := ssh.NewServerConn(conn, config)
			if err != nil {
				_ = conn.Close()
				continue
			}
			go ssh.DiscardRequests(reqs)
			go func() {
				for nc := range chans {
					_ = nc.Reject(ssh.Prohibited, "")
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return s
}

// guess has an attacker guess right, the second time.
func guess(t *testing.T, s *server, account string) (*entry.Guest, error) {
	t.Helper()
	policy, err := credential.Open(credential.Options{Dir: t.TempDir(), Least: 1, Most: 1, Hash: func(string) (string, error) { return "x", nil }})
	require.NoError(t, err)
	t.Cleanup(func() { _ = policy.Close() })
	ca, err := inside.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	require.NoError(t, err)
	e := entry.New(entry.Options{
		Enter:  func(context.Context, event.PotKey) (front.Stay, error) { return s, nil },
		Admit:  func(event.PotKey, front.Stay, credential.Guest) (func(), error) { return nil, nil },
		Policy: policy, Authority: ca, Within: time.Minute, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	v := &front.Visit{Lease: event.Lease{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}, Pot: func(event.Pot) {}}
	g, err := e.Guess(t.Context(), v, entry.Password, account, "wrong")
	require.NoError(t, err)
	require.Nil(t, g)
	return e.Guess(t.Context(), v, entry.Password, account, "right")
}

// While there is no pot, no guess is right, and none counts as one of those that are refused first.
func TestNoGuessCountsWhileThereIsNoPot(t *testing.T) {
	full := true
	policy, err := credential.Open(credential.Options{Dir: t.TempDir(), Least: 1, Most: 1, Hash: func(string) (string, error) { return "x", nil }})
	require.NoError(t, err)
	t.Cleanup(func() { _ = policy.Close() })
	ca, err := inside.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	require.NoError(t, err)
	s := newServer(t, 0)
	taken := 1
	e := entry.New(entry.Options{
		Enter: func(context.Context, event.PotKey) (front.Stay, error) {
			if taken--; taken >= 0 { // by another attacker, a moment ago
				return nil, fmt.Errorf("start a pot: %w", front.ErrFull)
			}
			return s, nil
		},
		Admit: func(event.PotKey, front.Stay, credential.Guest) (func(), error) { return nil, nil },
		Full:  func(event.PotKey) bool { return full }, Policy: policy, Authority: ca,
	})
	v := &front.Visit{Lease: event.Lease{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}, Pot: func(event.Pot) {}}
	guess := func(password string) *entry.Guest {
		g, err := e.Guess(t.Context(), v, entry.Password, "root", password)
		require.NoError(t, err)
		return g
	}
	for _, password := range []string{"one", "two", "three"} {
		require.Nil(t, guess(password))
	}
	full = false
	require.Nil(t, guess("one"), "the first guess is refused as always")
	require.Nil(t, guess("two"), "it is right, but the last pot was just taken")
	require.Nil(t, guess("three"), "another one is right by now")
	g := guess("two")
	require.NotNil(t, g)
	g.Close()
}

// The pot's server begins anew just when somebody who guessed right comes.
func TestServerThatBeginsAnewRefusesNobody(t *testing.T) {
	for breaks, in := range map[int]bool{0: true, 2: true, 9: false} {
		s := newServer(t, breaks)
		g, err := guess(t, s, "root")
		if !in {
			require.Error(t, err)
			assert.Nil(t, g)
			assert.Equal(t, 3, s.dialed)
			assert.Equal(t, 1, s.closed)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, breaks+1, s.dialed)
		g.Close()
	}
}

// Whose account the attacker removed is refused at once, as by the host.
func TestAccountThatIsGoneIsAskedForOnce(t *testing.T) {
	s := newServer(t, 0)
	_, err := guess(t, s, "gone")
	require.Error(t, err)
	assert.Equal(t, 1, s.dialed)
}
