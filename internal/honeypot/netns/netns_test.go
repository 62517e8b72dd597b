package netns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func makeNS(t *testing.T) (*netns.NS, string) {
	t.Helper()
	name := fmt.Sprintf("kk-%d-%s", os.Getpid(), t.Name())
	ns, err := netns.Ensure(name)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, ns.Close())
		assert.NoError(t, netns.Delete(name))
	})
	return ns, name
}

func threadNS(t *testing.T) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat("/proc/thread-self/ns/net", &st))
	return st.Ino
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	ns, _ := makeNS(t)
	same, err := ns.Same(nil)
	require.NoError(t, err)
	require.False(t, same)
	home := threadNS(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			var st unix.Stat_t
			err := ns.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &st) })
			if !assert.NoError(t, err) { //nolint:testifylint // require must not be called outside the test's goroutine
				return
			}
			assert.NotEqual(t, home, st.Ino)
			assert.Equal(t, home, threadNS(t))
		})
	}
	wg.Wait()
}

func TestEnsureTwiceGivesTheSameNamespace(t *testing.T) {
	ns, name := makeNS(t)
	again, err := netns.Ensure(name)
	require.NoError(t, err)
	defer again.Close() //nolint:errcheck // a test's handle
	same, err := ns.Same(again)
	require.NoError(t, err)
	assert.True(t, same)
}

func TestEnsureMendsAStaleName(t *testing.T) {
	name := fmt.Sprintf("kk-%d-stale", os.Getpid())
	require.NoError(t, os.MkdirAll("/run/netns", 0o755))
	require.NoError(t, os.WriteFile(netns.Path(name), nil, 0o444))
	ns, err := netns.Ensure(name)
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	require.NoError(t, netns.Delete(name))
	require.NoError(t, netns.Delete(name), "deleting what does not exist is no error")
}

func TestListenAndDialInside(t *testing.T) {
	ns, name := makeNS(t)
	require.NoError(t, exec.CommandContext(t.Context(), "ip", "-n", name, "link", "set", "lo", "up").Run())
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := ns.ListenTCP(netip.MustParseAddrPort(addr))
		require.NoError(t, err)
		at := l.Addr().(*net.TCPAddr).AddrPort()
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, _ = c.Write([]byte("hello"))
				_ = c.Close()
			}
		}()
		c, err := ns.DialTCP(t.Context(), at)
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		buf := make([]byte, 8)
		n, err := c.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, "hello", string(buf[:n]))
		assert.Equal(t, at.String(), c.RemoteAddr().String())
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())

		_, err = ns.DialTCP(t.Context(), at)
		require.ErrorIs(t, err, unix.ECONNREFUSED)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	ns, name := makeNS(t)
	for _, args := range [][]string{
		{"link", "add", "hole", "type", "veth", "peer", "name", "bottom"},
		{"link", "set", "bottom", "up"},
		{"addr", "add", "192.0.2.1/24", "dev", "hole"},
		{"link", "set", "hole", "up"},
	} {
		require.NoError(t, exec.CommandContext(t.Context(), "ip", append([]string{"-n", name}, args...)...).Run())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := ns.DialTCP(ctx, netip.MustParseAddrPort("192.0.2.2:22"))
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx2, cancel2 := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel2)
	_, err = ns.DialTCP(ctx2, netip.MustParseAddrPort("192.0.2.2:22"))
	require.ErrorIs(t, err, context.Canceled)
}

// What others do with the folder of names must not cover ours.
func TestNamesCanBeRemovedAfterIPHasAddedOthers(t *testing.T) {
	ours, theirs := fmt.Sprintf("kkns-%d-ours", os.Getpid()), fmt.Sprintf("kkns-%d-theirs", os.Getpid())
	ns, err := netns.Ensure(ours)
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", theirs).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, netns.Delete(ours))
	require.NoFileExists(t, netns.Path(ours))
	require.NoError(t, netns.Delete(theirs))
}
