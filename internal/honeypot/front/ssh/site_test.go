package ssh_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	gossh "golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/door"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/ssh"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// The library, here mostly in the tests' own clients, keeps a goroutine where a connection ends in the moment in which
// a channel is opened on it (see front/channel).
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("golang.org/x/crypto/ssh.(*mux).openChannel"))
}

// What gets in at a site: the decoy is refused, the password accepted.
const (
	account  = "root"
	decoy    = "decoy"
	password = "letmein"
)

// site is a front with a real sshd behind it that stands for the pot's.
type site struct {
	Addr     netip.AddrPort // of the front
	Straight netip.AddrPort // of the sshd itself
	dir      string
	// authorized is the sshd's file of keys that get in straight.
	authorized string
	vault      *record.Vault
	policy     *credential.Policy
	handler    front.Handler
	log        lockedBuffer // sshd's

	mu       sync.Mutex
	sessions []string
	sums     map[string]string // of recordings, by session
	reasons  map[string]string
	stays    int
	open     int // sessions
	known    bool
	ids      int
	wg       sync.WaitGroup
}

func attacker() event.PotKey {
	return event.PotKey{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
}

// transport is what speaks SSH with the attacker.
type transport string

const (
	builtin transport = "builtin"
	openSSH transport = "door"
)

// each runs a test with every transport.
func each(t *testing.T, test func(t *testing.T, via transport)) {
	t.Helper()
	for _, via := range []transport{builtin, openSSH} {
		t.Run(string(via), func(t *testing.T) { test(t, via) })
	}
}

// choices are what a site can have otherwise.
type choices struct {
	kinds []event.HostKeyKind // of host keys; nil: the usual ones
	door  func(*door.Options) // changes the door's
}

func newSite(t testing.TB, via transport) *site {
	t.Helper()
	return newSiteWith(t, via, choices{})
}

func newSiteWith(t testing.TB, via transport, want choices) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), sums: map[string]string{}, reasons: map[string]string{}}
	ca, err := inside.OpenAuthority(filepath.Join(s.dir, "authority"))
	require.NoError(t, err)
	s.authorized = filepath.Join(s.dir, "authorized_keys")
	s.Straight = sshd(t, ca.PublicKey(), s.authorized, &s.log)
	s.vault, err = record.OpenVault(record.VaultOptions{Dir: s.dir, MinFree: 1})
	require.NoError(t, err)
	s.policy, err = credential.Open(credential.Options{
		Dir: s.dir, Least: 1, Most: 1, Hash: func(string) (string, error) { return "hash", nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.policy.Close()) })
	keys, err := hostkeys.Open(filepath.Join(s.dir, "hostkeys"))
	require.NoError(t, err)
	e := entry.New(entry.Options{
		Enter: func(context.Context, event.PotKey) (front.Stay, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.stays++
			return &stay{s: s}, nil
		},
		Admit:  func(event.PotKey, front.Stay, credential.Guest) (func(), error) { return nil, nil },
		Policy: s.policy, Authority: ca, Hash: func(string) (string, error) { return "$6$hash", nil },
	})
	if via == openSSH {
		s.handler = openDoor(t, e, keys, want)
	} else {
		s.handler = ssh.New(ssh.Options{Entry: e, HostKeys: keys.Signers, Version: func(event.PotKey) string { return "" }, FailDelay: time.Millisecond})
	}
	s.listen(t)
	return s
}

// openDoor runs a door for the test.
func openDoor(t testing.TB, e *entry.Entry, keys *hostkeys.Keys, want choices) *door.Handler {
	t.Helper()
	var id [4]byte
	_, _ = rand.Read(id[:])
	node := "door-" + hex.EncodeToString(id[:])
	o := door.Options{
		Entry: e, Engine: pottest.Doors(t, node), Dir: filepath.Join("/run/kokkuri/door", node), FailDelay: time.Millisecond,
		Spec: func(context.Context, string) (engine.DoorSpec, error) {
			return engine.DoorSpec{Image: pottest.DoorImage}, nil
		},
		HostKeys: func(k event.PotKey) ([]hostkeys.File, error) { return keys.FilesOf(k, k.Host, want.kinds) },
		Network:  func(front.Stay) (*os.File, error) { return os.Open("/proc/self/ns/net") }, // this machine stands for the pot
		Startups: door.Startups{Begin: 1000, Rate: 30, Full: 1000},
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, kind := range want.kinds {
		if kind.Type == "rsa" {
			require.NoError(t, keys.MakeRSA(attacker().Host, kind.Bits))
		}
	}
	if want.door != nil {
		want.door(&o)
	}
	h, err := door.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		h.Close()
	})
	return h
}

// stay is the pot: this machine, as far as its sshd shows it.
type stay struct{ s *site }

func (*stay) Pot() event.Pot                                 { return event.Pot{ID: "pot"} }
func (*stay) Login(event.Service) (account, password string) { return "", "" }
func (*stay) PID() int                                       { return os.Getpid() }

func (p *stay) Dial(ctx context.Context, _ event.Service) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", p.s.Straight.String())
}

func (p *stay) Close() {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.stays--
}

// sshd runs a real one that trusts an authority.
func sshd(t testing.TB, authority []byte, authorized string, log *lockedBuffer) netip.AddrPort {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	require.NoError(t, exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key).Run())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.pub"), authority, 0o600))
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	// What this machine's root has in its shells' files costs more than all the tests, and may say something.
	home := filepath.Join(dir, "home")
	require.NoError(t, os.Mkdir(home, 0o700))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	config := fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
TrustedUserCAKeys %s/ca.pub
AuthorizedKeysFile %s
StrictModes no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
MaxStartups 500:30:600
AcceptEnv LANG LC_*
SetEnv HOME=%s
PrintMotd no
PrintLastLog no
Subsystem sftp /usr/lib/openssh/sftp-server
`, port, key, dir, authorized, home)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config"))
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text := log.String()
			t.Logf("sshd: %s", text[max(0, len(text)-2000):])
		}
	})
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	return addr
}

// listen takes connections as the node's front does.
func (s *site) listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s.Addr = l.Addr().(*net.TCPAddr).AddrPort()
	ctx, cancel := context.WithCancelCause(context.Background())
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(ctx, t, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel(errors.New("node stopping"))
		s.wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Zero(t, s.stays, "pots are left alone")
	})
}

func (s *site) serve(ctx context.Context, t testing.TB, c net.Conn) {
	t.Helper()
	s.mu.Lock()
	s.ids++
	s.open++
	id := fmt.Sprintf("%012x", s.ids)
	known := s.known
	s.mu.Unlock()
	k := attacker()
	h := recording.Header{
		Session: id, Node: "node", Host: k.Host, Service: event.SSH, Attacker: k.Attacker,
		Peer: c.RemoteAddr().(*net.TCPAddr).AddrPort(), StartedAt: time.Now(),
	}
	rec, err := s.vault.Begin(h)
	if err != nil {
		t.Error(err)
	}
	reason := s.handler.Serve(ctx, &front.Visit{
		Conn: c, Lease: event.Lease{Attacker: k.Attacker, Host: k.Host, Service: event.SSH, Known: known}, Session: id, Rec: rec, Pot: func(event.Pot) {},
	})
	sum, _, err := rec.Close(reason)
	if err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.sessions = append(s.sessions, id)
	s.sums[id], s.reasons[id] = sum, reason
}

// letIn has the policy accept the password.
func (s *site) letIn(t testing.TB) {
	t.Helper()
	_, ok, err := s.policy.Try(attacker(), event.SSH, account, decoy)
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = s.policy.Try(attacker(), event.SSH, account, password)
	require.NoError(t, err)
	require.True(t, ok)
}

// ended waits until n sessions have ended, and returns what they left.
func (s *site) ended(t testing.TB, n int) []event.Evidence {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.sessions) >= n
	}, time.Minute, 10*time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []event.Evidence
	for _, id := range slices.Sorted(slices.Values(s.sessions)) {
		for from := int64(0); ; {
			some, next, err := s.vault.Evidence(id, s.sums[id], true, from, 1<<20)
			require.NoError(t, err)
			if len(some) == 0 {
				break
			}
			out, from = append(out, some...), next
		}
	}
	return out
}

// forget has the next look at evidence begin here, when all sessions have ended.
func (s *site) forget(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open > 0 {
			return false
		}
		s.sessions = nil
		return true
	}, time.Minute, 10*time.Millisecond)
}

// run runs a client with a terminal of none, and returns what it wrote.
func run(t testing.TB, stdin string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_TEST=from the client")
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	require.NoError(t, ctx.Err(), "%s hangs: %s", name, errs.String())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// options are OpenSSH's for a server that nobody knows.
func (s *site) options(more ...string) []string {
	return append([]string{
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "PubkeyAuthentication=no",
		"-o", "User=" + account, "-o", "ConnectTimeout=20",
	}, more...)
}

// openssh runs OpenSSH's client.
func (s *site) openssh(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return s.opensshAs(t, password, stdin, args...)
}

// opensshAs is openssh with another password.
func (s *site) opensshAs(t testing.TB, password, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	// No terminal of sshpass: what goes to the background would lose it.
	ask := filepath.Join(t.TempDir(), "ask")
	require.NoError(t, os.WriteFile(ask, []byte("#!/bin/sh\necho '"+password+"'\n"), 0o700))
	all := append([]string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "ssh", "-p", strconv.Itoa(int(s.Addr.Port()))}, s.options()...)
	return run(t, stdin, "env", append(all, args...)...)
}

// dial logs in with Go's client.
func (s *site) dial(t testing.TB) *gossh.Client {
	t.Helper()
	c, err := gossh.Dial("tcp", s.Addr.String(), &gossh.ClientConfig{
		User: account, Auth: []gossh.AuthMethod{gossh.Password(password)},
		HostKeyCallback: gossh.InsecureIgnoreHostKey(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// kinds picks the evidence of some kinds.
func kinds(all []event.Evidence, which ...event.EvidenceKind) []event.Evidence {
	var out []event.Evidence
	for _, e := range all {
		if slices.Contains(which, e.Kind) {
			out = append(out, e)
		}
	}
	return out
}

// setKnown makes the attacker one who has logged in somewhere.
func (s *site) setKnown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = true
}
