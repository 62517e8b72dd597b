package broker

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kokkuri/kokkuri/internal/pki"
)

const (
	minNonce = 20 // characters of the random name of a connection that enrols
	maxNonce = 64
)

// signer signs the permissions that the callout grants; its key lives as long as the process.
type signer struct {
	pair   nkeys.KeyPair
	public string
}

func newSigner() (*signer, error) {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		return nil, fmt.Errorf("make the permission key: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make the permission key: %w", err)
	}
	return &signer{pair: pair, public: public}, nil
}

// session is who a connection belongs to; role is "" for one that enrols.
type session struct {
	role pki.Role
	name string
}

// callout answers the server's question who a new connection is and what it may do (NATS auth callout).
type callout struct {
	srv          *server.Server
	signer       *signer
	revoked      func(string) bool
	maxEnrolling int
	enrollTime   time.Duration
	log          *slog.Logger
	nc           *nats.Conn
	refused      atomic.Uint64

	mu       sync.Mutex
	sessions map[uint64]session // by the server's connection id; swept of those that ended
	swept    int                // size after the last sweep
}

func newCallout(srv *server.Server, s *signer, opts Options) *callout {
	revoked := opts.Revoked
	if revoked == nil {
		revoked = func(string) bool { return false }
	}
	return &callout{
		srv: srv, signer: s, revoked: revoked, maxEnrolling: opts.MaxEnrolling, enrollTime: opts.EnrollTime, log: opts.Log,
		sessions: make(map[uint64]session),
	}
}

func (c *callout) start(secret string) error {
	nc, err := nats.Connect("", nats.InProcessServer(c.srv), nats.UserInfo(userAuth, secret), nats.Name("callout"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect the permission service: %w", err)
	}
	c.nc = nc
	if _, err := nc.Subscribe(server.AuthCalloutSubject, c.handle); err != nil {
		return fmt.Errorf("start the permission service: %w", err)
	}
	if err := nc.Flush(); err != nil {
		return fmt.Errorf("start the permission service: %w", err)
	}
	return nil
}

func (c *callout) stop() {
	if c.nc != nil {
		c.nc.Close()
	}
}

func (c *callout) handle(m *nats.Msg) {
	req, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		c.log.Error("permission request can't be decoded", "error", err)
		return
	}
	answer := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	answer.Audience = req.Server.ID
	user, err := c.authorize(req)
	if err == nil {
		answer.Jwt, err = user.Encode(c.signer.pair)
	}
	if err != nil {
		c.refused.Add(1)
		c.log.Warn("connection refused", "peer", req.ClientInformation.Host, "error", err)
		answer.Error = err.Error()
	}
	text, err := answer.Encode(c.signer.pair)
	if err != nil {
		c.log.Error("permission answer can't be encoded", "error", err)
		return
	}
	if err := m.Respond([]byte(text)); err != nil {
		c.log.Error("permission answer not sent", "error", err)
	}
}

// authorize says what the connection may do, or why it may do nothing.
func (c *callout) authorize(req *jwt.AuthorizationRequestClaims) (*jwt.UserClaims, error) {
	if req.TLS == nil {
		return nil, errors.New("no TLS")
	}
	user := jwt.NewUserClaims(req.UserNkey)
	user.Audience = accountApp
	user.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)
	if len(req.TLS.VerifiedChains) == 0 {
		if len(req.TLS.Certs) > 0 {
			return nil, errors.New("the certificate was not verified")
		}
		return user, c.admitEnrolling(req, user)
	}
	cert, err := leaf(req.TLS.VerifiedChains[0])
	if err != nil {
		return nil, err
	}
	role, name, err := pki.Identity(cert)
	if err != nil {
		return nil, err
	}
	serial := cert.SerialNumber.Text(16)
	// First known, then asked: whoever revokes it afterwards finds the connection.
	c.enter(req.ClientInformation.ID, session{role: role, name: name})
	if c.revoked(serial) {
		return nil, fmt.Errorf("the certificate of %s %s (serial %s) was revoked", role, name, serial)
	}
	user.Name = string(role) + ":" + name
	user.Expires = cert.NotAfter.Unix()
	user.Permissions = permissions(role, name)
	return user, nil
}

// admitEnrolling lets a bounded number of connections without certificate do one thing for a minute.
func (c *callout) admitEnrolling(req *jwt.AuthorizationRequestClaims, user *jwt.UserClaims) error {
	nonce := req.ConnectOptions.Name
	if !validNonce(nonce) {
		return errors.New("no certificate; enrol first")
	}
	c.mu.Lock()
	n := 0
	for id, s := range c.sessions {
		if s.role == "" && id != req.ClientInformation.ID && c.srv.GetClient(id) != nil {
			n++
		}
	}
	if n < c.maxEnrolling {
		c.sessions[req.ClientInformation.ID] = session{}
	}
	c.mu.Unlock()
	if n >= c.maxEnrolling {
		return fmt.Errorf("%d connections are enrolling already", n)
	}
	c.sweep()
	user.Name = "enroll"
	user.Expires = time.Now().Add(c.enrollTime).Unix()
	user.Permissions = enrollPermissions(nonce)
	return nil
}

func validNonce(s string) bool {
	if len(s) < minNonce || len(s) > maxNonce {
		return false
	}
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

func leaf(chain []string) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("the certificate's chain is empty")
	}
	block, _ := pem.Decode([]byte(chain[0]))
	if block == nil {
		return nil, errors.New("the certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	return cert, nil
}

func (c *callout) enter(id uint64, s session) {
	c.mu.Lock()
	c.sessions[id] = s
	c.mu.Unlock()
	c.sweep()
}

// sweep forgets connections that ended, whenever the map has doubled: it stays within twice the live ones.
func (c *callout) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) < 2*c.swept+64 {
		return
	}
	for id := range c.sessions {
		if c.srv.GetClient(id) == nil {
			delete(c.sessions, id)
		}
	}
	c.swept = len(c.sessions)
}

func (c *callout) disconnect(role pki.Role, name string) int {
	c.mu.Lock()
	var ids []uint64
	for id, s := range c.sessions {
		if s == (session{role: role, name: name}) {
			ids = append(ids, id)
		}
	}
	c.mu.Unlock()
	n := 0
	for _, id := range ids {
		if c.srv.DisconnectClientByID(id) == nil {
			n++
		}
	}
	return n
}
