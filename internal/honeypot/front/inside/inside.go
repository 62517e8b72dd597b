package inside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/channel"
)

const (
	loginWithin = 20 * time.Second
	closeWithin = 2 * time.Second
)

// Client is a login to a pot's SSH server.
type Client struct {
	conn  ssh.Conn
	chans <-chan ssh.NewChannel

	opener *channel.Opener
	// opening is held while a channel is being opened, so that none is when we end the connection.
	opening sync.RWMutex
	closed  bool
}

// Login logs in as an account, by its password, so that the pot's log says what its attacker did, or by certificate
// where there is none, or the pot's attacker has changed it. The connection is the client's from then on.
func (a *Authority) Login(ctx context.Context, conn net.Conn, account, password string) (*Client, error) {
	signer, err := a.certify(account)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	config := &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: []string{"curve25519-sha256"},
			Ciphers:      []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"},
		},
		User:          account,
		ClientVersion: "SSH-2.0-OpenSSH_9.2p1",
		Auth:          []ssh.AuthMethod{ssh.PublicKeys(signer)},
		// Nobody can stand between node and pot, and the pot's keys are its attacker's to change.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // see above
	}
	if password != "" {
		config.Auth = slices.Insert(config.Auth, 0, ssh.Password(password))
	}
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, chans, reqs, err := ssh.NewClientConn(conn, conn.RemoteAddr().String(), config)
	if err == nil && !stop() {
		err = context.Cause(ctx)
		_ = c.Close()
	}
	stop()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("log in to the pot as %q: %w", account, err)
	}
	go ssh.DiscardRequests(reqs) // ends with the connection
	return &Client{conn: c, chans: chans, opener: channel.New(c)}, nil
}

// Close ends the login and all that it started.
func (c *Client) Close() {
	// A pot that does not answer is not waited for: then the connection breaks while the channel is known.
	timer := time.AfterFunc(closeWithin, func() { _ = c.conn.Close() })
	defer timer.Stop()
	c.opening.Lock()
	defer c.opening.Unlock()
	c.closed = true
	_ = c.conn.Close()
}

// open opens a channel, unless the login has ended.
func (c *Client) open(name string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) { //nolint:ireturn // the library has channels as interfaces only
	c.opening.RLock()
	defer c.opening.RUnlock()
	if c.closed {
		return nil, nil, channel.ErrEnded
	}
	return c.opener.Open(name, payload)
}

// Wait returns when the connection has ended.
func (c *Client) Wait() { _ = c.conn.Wait() }

// Channels are the channels that the pot opens: connections to ports that were forwarded.
func (c *Client) Channels() <-chan ssh.NewChannel { return c.chans }

// Open opens a channel of any other type than a session's.
func (c *Client) Open(name string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) { //nolint:ireturn // the library has channels as interfaces only
	ch, reqs, err := c.open(name, payload)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s in the pot: %w", name, err)
	}
	return ch, reqs, nil
}

// Ask sends a global request and returns the answer.
func (c *Client) Ask(name string, wantReply bool, payload []byte) (bool, []byte, error) {
	ok, reply, err := c.conn.SendRequest(name, wantReply, payload)
	if err != nil {
		return false, nil, fmt.Errorf("ask the pot for %s: %w", name, err)
	}
	return ok, reply, nil
}

// Refusal returns why the pot's server did not open a channel.
func Refusal(err error) (ssh.RejectionReason, string) {
	if refused, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return refused.Reason, refused.Message
	}
	return ssh.ConnectionFailed, "open failed"
}
