package honeypot_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
	"github.com/kokkuri/kokkuri/internal/intel/schema/schematest"
)

// fakeBus is a server that knows the leases it asked for.
type fakeBus struct {
	mu            sync.Mutex
	away          bool
	serve         func(context.Context, event.LeaseRequest) event.LeaseReply
	leases        map[string]event.Lease
	status        event.NodeStatus
	sessions      map[string]event.Session
	evidence      map[string][]event.Evidence
	personas      map[string]event.PersonaOf
	keys          map[string]event.HostKeys
	serveEvidence func(context.Context, event.EvidenceRequest) event.EvidenceReply

	schema schematest.Schema // that all evidence has to be of
	faults []error
}

func newBus() *fakeBus {
	evidence, err := schematest.Open("Evidence")
	if err != nil {
		panic(err) // the schema's own tests say why
	}
	return &fakeBus{schema: evidence, leases: make(map[string]event.Lease), sessions: make(map[string]event.Session), evidence: make(map[string][]event.Evidence), personas: map[string]event.PersonaOf{}, keys: map[string]event.HostKeys{}}
}

func (b *fakeBus) ServeLeases(_ string, fn func(context.Context, event.LeaseRequest) event.LeaseReply) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serve = fn
	return func() { b.mu.Lock(); defer b.mu.Unlock(); b.serve = nil }, nil
}

func (b *fakeBus) Status(_ context.Context, s event.NodeStatus) (event.NodeDesired, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return event.NodeDesired{}, errors.New("no server")
	}
	b.status = s
	return event.NodeDesired{Leases: slices.Collect(maps.Values(b.leases))}, nil
}

func (b *fakeBus) ServeEvidence(_ string, fn func(context.Context, event.EvidenceRequest) event.EvidenceReply) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serveEvidence = fn
	return func() {}, nil
}

func (b *fakeBus) Persona(_ context.Context, _, host string) (event.PersonaOf, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return event.PersonaOf{}, errors.New("no server")
	}
	return b.personas[host], nil
}

func (b *fakeBus) HostKeys(_ context.Context, _, host string) (event.HostKeys, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[host], nil
}

// left is what a session left, as far as the server knows.
func (b *fakeBus) left(id string) []event.Evidence {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.evidence[id])
}

func (b *fakeBus) PublishSession(_ context.Context, r event.SessionReport) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errors.New("no server")
	}
	for _, e := range r.Evidence {
		if err := b.schema.Check(e); err != nil {
			b.faults = append(b.faults, err)
		}
	}
	b.sessions[r.Session.ID] = r.Session
	b.evidence[r.Session.ID] = append(b.evidence[r.Session.ID], r.Evidence...)
	return nil
}

func (b *fakeBus) request(ctx context.Context, req event.LeaseRequest) event.LeaseReply {
	b.mu.Lock()
	serve := b.serve
	b.mu.Unlock()
	if serve == nil {
		return event.LeaseReply{Error: "nobody serves"}
	}
	reply := serve(ctx, req)
	if reply.Error == "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		if req.Op == "grant" {
			b.leases[reply.Lease.ID] = reply.Lease
		} else {
			delete(b.leases, reply.Lease.ID)
		}
	}
	return reply
}

func (b *fakeBus) ended() []event.Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []event.Session
	for _, s := range b.sessions {
		if !s.EndedAt.IsZero() {
			out = append(out, s)
		}
	}
	return out
}

type fixture struct {
	*pottest.Machines
	bus  *fakeBus
	opts honeypot.Options
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{Machines: pottest.NewMachines(t), bus: newBus()}
	name := strings.Trim(fmt.Sprintf("hp-%d-%.30s", os.Getpid(), strings.ToLower(t.Name())), "-")
	pottest.Engine(t, name) // builds the image, and removes the pots at the end
	f.opts = honeypot.Options{
		Name: name, Version: "test", Bus: f.bus, StateDir: t.TempDir(), NetNS: f.Node,
		Advertise: []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:2::20")},
		Namespace: pottest.Name(t, "kkp"), Image: pottest.Image, Least: 1, Most: 1, SSH: honeypot.SSH{FailDelay: time.Millisecond, Front: honeypot.FrontBuiltin},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	t.Cleanup(func() {
		assert.Empty(t, f.bus.faults, "evidence that is not as the schema says")
		assert.NoError(t, honeypot.Cleanup(context.Background(), f.opts))
		assert.NoFileExists(t, netns.Path(f.opts.Namespace))
		out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=kokkuri.node="+name).CombinedOutput()
		assert.NoError(t, err)
		assert.Empty(t, string(out))
		out, err = exec.Command("docker", "ps", "-aq", "--filter", "label=kokkuri.door="+name).CombinedOutput()
		assert.NoError(t, err)
		assert.Empty(t, string(out))
		assert.NoFileExists(t, "/run/kokkuri/door/"+name)
		out, err = exec.Command("ip", "netns", "exec", f.NodeName, "nft", "list", "ruleset").CombinedOutput()
		assert.NoError(t, err)
		assert.Empty(t, string(out))
	})
	return f
}

// run runs a node until stop.
func (f *fixture) run(t testing.TB) (n *honeypot.Node, stop func()) {
	t.Helper()
	n, err := honeypot.New(f.opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		f.bus.mu.Lock()
		defer f.bus.mu.Unlock()
		return f.bus.serve != nil
	}, time.Minute, 5*time.Millisecond)
	return n, stop
}

func (f *fixture) grant(t testing.TB, attacker string) event.Lease {
	t.Helper()
	return f.grantService(t, attacker, event.SSH)
}

func (f *fixture) grantService(t testing.TB, attacker string, service event.Service) event.Lease {
	t.Helper()
	reply := f.bus.request(t.Context(), event.LeaseRequest{
		Op: "grant", Attacker: netip.MustParsePrefix(attacker), Host: "web", Service: service,
		Seen:    []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:2::10"), netip.MustParseAddr("2001:db8:2::11")},
		Expires: time.Now().Add(time.Hour),
	})
	require.Empty(t, reply.Error)
	return reply.Lease
}

func (f *fixture) release(t *testing.T, l event.Lease) {
	t.Helper()
	reply := f.bus.request(t.Context(), event.LeaseRequest{Op: "release", Attacker: l.Attacker, Host: l.Host, Service: l.Service})
	require.Empty(t, reply.Error)
}

// dial connects from the host to an endpoint.
func (f *fixture) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return f.Host.DialTCP(ctx, to)
}

// decoy is what is guessed first, and refused.
const decoy = "hunter2"

// guesses tries passwords, one after the other.
func guesses(passwords ...string) ssh.AuthMethod { //nolint:ireturn // the library has methods as interfaces only
	next := 0
	return ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		next++
		if next > len(passwords) {
			return "", errors.New("no more")
		}
		return passwords[next-1], nil
	}), len(passwords))
}

// login logs in as root with ssh; the connection is the attacker's.
func (f *fixture) login(ctx context.Context, to netip.AddrPort, password string) (*ssh.Client, error) {
	return f.loginAs(ctx, to, "root", password)
}

func (f *fixture) loginAs(ctx context.Context, to netip.AddrPort, account, password string) (*ssh.Client, error) {
	conn, err := f.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
	c, chans, reqs, err := ssh.NewClientConn(conn, "web:22", &ssh.ClientConfig{
		User: account, Auth: []ssh.AuthMethod{guesses(decoy, password)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

// shell logs in and runs a command.
func (f *fixture) shell(ctx context.Context, to netip.AddrPort, command string) (string, error) {
	c, err := f.login(ctx, to, "123456")
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // a test's connection
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close() //nolint:errcheck // a test's connection
	out, err := s.CombinedOutput(command)
	return string(out), err
}
