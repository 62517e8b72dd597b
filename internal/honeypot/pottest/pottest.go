// Package pottest helps tests with a real engine and real pots.
package pottest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/images"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// Image is the tag of the pots' image in tests.
const Image = "kokkuri/ssh:test"

// Subnet6 is what pots have in tests.
func Subnet6() netip.Prefix { return netip.MustParsePrefix("fd12:3456:789a::/64") }

// Name makes a name that no other test on the machine uses.
func Name(t testing.TB, prefix string) string {
	t.Helper()
	return strings.ToLower(fmt.Sprintf("%s-%d-%s", prefix, os.Getpid(), strings.NewReplacer("/", "-", "=", "-").Replace(t.Name())))
}

// Engine returns the machine's engine with the pots' image built. Pots of the node are removed when
// the test ends.
func Engine(t testing.TB, node string) *engine.Docker {
	t.Helper()
	return EngineAt(t, node, "")
}

// EngineAt does the same for an engine at an address.
func EngineAt(t testing.TB, node, host string) *engine.Docker {
	t.Helper()
	d, err := engine.New(engine.Options{Host: host, Node: node})
	require.NoError(t, err)
	t.Cleanup(func() {
		RemovePots(t, d)
		assert.NoError(t, d.Close())
	})
	base, err := d.EnsureBase(t.Context(), t.Output())
	require.NoError(t, err)
	files, err := fs.Sub(images.Files, "ssh")
	require.NoError(t, err)
	require.NoError(t, d.BuildImage(t.Context(), Image, files, map[string]string{"BASE": base}, t.Output()))
	return d
}

// DoorImage is the tag of the doors' image in tests.
const DoorImage = "kokkuri/door:test"

// Doors returns an engine with the doors' image built. The node's doors are removed when the test ends.
func Doors(t testing.TB, node string) *engine.Docker {
	t.Helper()
	d, err := engine.New(engine.Options{Node: node})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, d.RemoveDoors(context.Background()))
		assert.NoError(t, d.Close())
	})
	buildDoor(t, d, DoorImage, engine.DefaultSuite)
	return d
}

// DoorOf builds the image of the doors of one of Debian's suites, and returns its tag.
func DoorOf(t testing.TB, d *engine.Docker, suite string) string {
	t.Helper()
	tag := DoorImage + "-" + suite
	buildDoor(t, d, tag, suite)
	return tag
}

func buildDoor(t testing.TB, d *engine.Docker, tag, suite string) {
	t.Helper()
	base, err := d.EnsureSuite(t.Context(), suite, t.Output())
	require.NoError(t, err)
	files, err := fs.Sub(images.Files, "door")
	require.NoError(t, err)
	require.NoError(t, d.BuildImage(t.Context(), tag, files, map[string]string{"BASE": base}, t.Output()))
}

// RemovePots removes all pots of the engine's node.
func RemovePots(t testing.TB, d *engine.Docker) {
	t.Helper()
	pots, err := d.List(context.Background())
	if !assert.NoError(t, err) { //nolint:testifylint // goes on with the rest of the cleanup
		return
	}
	for _, p := range pots {
		assert.NoError(t, d.Remove(context.Background(), p.ID))
	}
}

// Net opens a network for pots that goes when the test ends.
func Net(t testing.TB) (n *egress.Net, namespace string) {
	t.Helper()
	namespace = Name(t, "kkp")
	n, err := egress.Open(egress.Options{Name: namespace, Subnet6: Subnet6()})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, n.Close())
		assert.NoError(t, egress.Remove(namespace))
		assert.NoFileExists(t, "/run/netns/"+namespace)
	})
	return n, namespace
}

// InPot runs a shell command in a container and returns what it printed.
func InPot(t testing.TB, id, script string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", "exec", id, "sh", "-c", script).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("in pot %s: %w", id, err)
	}
	return string(out), nil
}

// Run runs a program and requires that it succeeds.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return string(out)
}

// Proxy stands between a test and the engine, so that the test can take the engine away.
type Proxy struct {
	path  string
	mu    sync.Mutex
	lis   net.Listener
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// NewProxy starts a proxy; it ends with the test.
func NewProxy(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{path: filepath.Join(t.TempDir(), "docker.sock"), conns: make(map[net.Conn]struct{})}
	p.Up(t)
	t.Cleanup(p.Down)
	return p
}

// Host returns the address of the engine behind the proxy.
func (p *Proxy) Host() string { return "unix://" + p.path }

// Up lets the engine answer.
func (p *Proxy) Up(t testing.TB) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", p.path)
	require.NoError(t, err)
	p.mu.Lock()
	p.lis = l
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
}

func (p *Proxy) serve(c net.Conn) {
	defer c.Close()                                    //nolint:errcheck // a test's connection
	e, err := net.Dial("unix", "/var/run/docker.sock") //nolint:noctx // ends with Down
	if err != nil {
		return
	}
	defer e.Close() //nolint:errcheck // a test's connection
	p.mu.Lock()
	p.conns[c], p.conns[e] = struct{}{}, struct{}{}
	p.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{c, e}, {e, c}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].Close()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, e)
	p.mu.Unlock()
}

// Down takes the engine away and cuts the connections to it.
func (p *Proxy) Down() {
	p.mu.Lock()
	_ = p.lis.Close()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
