package containment_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/sink"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
	"github.com/kokkuri/kokkuri/internal/honeypot/guise"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// release is that of the kernel that pots are told of.
const release = "6.1.0-28-amd64"

// patience bounds what is waited for on a busy machine.
const patience = 90 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ward is a node's pots.
type ward struct {
	engine    *engine.Docker
	net       *egress.Net
	namespace string
	guises    *guise.Guises
	ca        *inside.Authority
}

// pot is one of them, as its attacker has it.
type pot struct {
	w       *ward
	id      string
	pid     int
	address netip.Addr
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{engine: pottest.Engine(t, pottest.Name(t, "kkc")), guises: guise.New(guise.Options{})}
	w.net, w.namespace = pottest.Net(t)
	t.Cleanup(w.guises.Close)
	require.NoError(t, w.guises.Covered())
	var err error
	w.ca, err = inside.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	require.NoError(t, err)
	return w
}

// sinkhole has the first pots meet the node's sinkhole, as they do unless told otherwise.
func (w *ward) sinkhole(t *testing.T, pots int) *sink.Sink {
	t.Helper()
	places := make(map[int]bool)
	for i := range pots {
		places[i] = true
	}
	require.NoError(t, w.net.Sink(places))
	sockets, err := w.net.OpenSockets()
	require.NoError(t, err)
	s, err := sink.New(sink.Options{
		Sockets: sockets, Secret: []byte("secret"), Note: func(event.Pot, event.Evidence) {},
		Pot: func(a netip.Addr) (sink.Pot, bool) {
			i, ok := w.net.Place(a)
			who := event.Pot{ID: strconv.Itoa(i), Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
			return sink.Pot{Pot: who, Policy: event.EgressSinkhole, Addresses: w.net.Addresses(i)}, ok && i < pots
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { s.Run(ctx); close(ran) }()
	t.Cleanup(func() { cancel(); <-ran })
	return s
}

func (w *ward) start(t *testing.T, index int) *pot {
	t.Helper()
	p := &pot{w: w, address: w.net.Address(index)}
	name := fmt.Sprintf("%s-%d", pottest.Name(t, "kkc"), index)
	var err error
	p.id, err = w.engine.Create(t.Context(), engine.Spec{Name: name, Image: pottest.Image, Hostname: "web", Index: index, Resolver: w.net.Gateway(), Guised: true})
	require.NoError(t, err)
	require.NoError(t, w.engine.Start(t.Context(), p.id))
	c, _, err := w.engine.Inspect(t.Context(), p.id)
	require.NoError(t, err)
	p.pid = c.PID
	require.NoError(t, w.guises.Wear(t.Context(), p.id, p.pid, machine))
	require.NoError(t, w.net.Wire(egress.Port{Pot: name, Run: c.Run, Index: index, PID: c.PID}))
	inner, err := furnish.Open(c.PID)
	require.NoError(t, err)
	defer inner.Close()
	require.NoError(t, inner.Make(furnish.Machine{Hostname: "web", Address: p.address, Authority: w.ca.PublicKey()}))
	return p
}

func machine() guise.Machine {
	return guise.Machine{
		Nodename: "web", Release: release, Version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)", Hardware: "x86_64",
		Cmdline: "quiet", Memory: 2 << 30, Usage: func() guise.Usage { return guise.Usage{Memory: 100 << 20, Procs: 92} },
	}
}

// login logs in as root, by the pot's own server.
func (p *pot) login(ctx context.Context) (*inside.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := p.w.net.Dial(ctx, netip.AddrPortFrom(p.address, 22))
		if err == nil {
			var client *inside.Client
			if client, err = p.w.ca.Login(ctx, conn, "root", ""); err == nil {
				return client, nil
			}
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// answer is what a command printed.
type answer struct {
	out string
	err error
}

// ask runs a command as root.
func (p *pot) ask(ctx context.Context, command string) answer {
	client, err := p.login(ctx)
	if err != nil {
		return answer{err: err}
	}
	defer client.Close()
	program, err := client.Program()
	if err != nil {
		return answer{err: err}
	}
	if !program.Ask("exec", true, ssh.Marshal(struct{ Command string }{"exec 2>&1; " + command})) {
		return answer{err: errors.New("the server runs no command")}
	}
	out, err := io.ReadAll(program)
	return answer{strings.TrimSpace(string(out)), err}
}

// askWhile does the same, and calls fn over and over meanwhile.
func (p *pot) askWhile(t *testing.T, command string, fn func()) answer {
	t.Helper()
	asked := make(chan answer, 1)
	go func() { asked <- p.ask(t.Context(), command) }()
	for {
		select {
		case a := <-asked:
			return a
		default:
			fn()
		}
	}
}

// say runs a command as root and returns what it printed.
func (p *pot) say(t *testing.T, command string) string {
	t.Helper()
	a := p.ask(t.Context(), command)
	require.NoError(t, a.err)
	return a.out
}

// begin runs a command as root until the pot ends, or stop is called.
func (p *pot) begin(t *testing.T, command string) (stop func()) {
	t.Helper()
	client, err := p.login(t.Context())
	require.NoError(t, err)
	program, err := client.Program()
	require.NoError(t, err)
	require.True(t, program.Ask("exec", true, ssh.Marshal(struct{ Command string }{"exec >/dev/null 2>&1; " + command})))
	t.Cleanup(client.Close)
	return client.Close
}

// isWell requires that a pot serves its attacker.
func (p *pot) isWell(t *testing.T) {
	t.Helper()
	assert.Equal(t, release+"\nMemTotal:        2097152 kB", p.say(t, "uname -r; head -n 1 /proc/meminfo"))
}

// build compiles one of the programs of testdata, static, so that it runs anywhere.
func build(t *testing.T, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	pottest.Run(t, "gcc", "-static", "-O1", "-w", "-o", out, filepath.Join("testdata", name+".c"), "-lpthread")
	return out
}

// bring puts a program into a pot.
func (p *pot) bring(t *testing.T, program string) {
	t.Helper()
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	inner, err := furnish.Open(p.pid)
	require.NoError(t, err)
	defer inner.Close()
	require.NoError(t, inner.Write("/root/"+filepath.Base(program), data, 0o755, 0, 0))
}

// outside runs a shell command on the machine itself, in namespaces that are thrown away.
func outside(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "unshare", "-m", "-u", "-i", "-n", "sh", "-c", command).CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}
