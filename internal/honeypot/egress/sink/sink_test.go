package sink_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/sink"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a sinkhole with pots that are network namespaces without anything in them.
type site struct {
	sink *sink.Sink
	pots []*netns.NS

	mu   sync.Mutex
	told []event.Egress
}

func newSite(t *testing.T, pots int, change func(*sink.Options)) *site {
	t.Helper()
	s := &site{}
	n, _ := pottest.Net(t)
	places := map[int]bool{}
	for i := range pots {
		cmd := exec.Command("unshare", "--net", "sleep", "infinity")
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		require.Eventually(t, func() bool {
			return n.Wire(egress.Port{Pot: fmt.Sprintf("pot%d", i), Run: "1", Index: i, PID: cmd.Process.Pid}) == nil
		}, time.Minute, 5*time.Millisecond)
		ns, err := netns.OpenPID(cmd.Process.Pid)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, ns.Close()) })
		s.pots = append(s.pots, ns)
		places[i] = true
	}
	require.NoError(t, n.Sink(places))
	sockets, err := n.OpenSockets()
	require.NoError(t, err)
	o := sink.Options{
		Sockets: sockets, Secret: []byte("secret"),
		Pot: func(a netip.Addr) (sink.Pot, bool) {
			i, ok := n.Place(a)
			return sink.Pot{
				Pot: event.Pot{ID: strconv.Itoa(i), Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}, Policy: event.EgressSinkhole,
				Addresses: n.Addresses(i),
			}, ok && i < pots
		},
		Note: func(_ event.Pot, e event.Evidence) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, *e.Egress)
		},
	}
	if change != nil {
		change(&o)
	}
	s.sink, err = sink.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { s.sink.Run(ctx); close(ran) }()
	t.Cleanup(func() { cancel(); <-ran })
	return s
}

// garbage is what programs send that nobody wrote this for.
func garbage(r *rand.Rand) []byte {
	starts := []string{
		"", "GET / HTTP/1.1\r\n", "GET /", "\x16\x03\x01\x02\x00\x01\x00", "\x16\x03", "SSH-2.0-x\r\n", "EHLO a\r\nDATA\r\n", "NICK a\r\nUSER\r\nJOIN\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "\x00\x20", "\x05\x01\x00", "*1\r\n$4\r\n", "a1 LOGIN\r\n",
	}
	b := []byte(starts[r.IntN(len(starts))])
	for range r.IntN(600) {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// Ten thousand connections with garbage, to every port that has a protocol, leave the sinkhole as it was: bounded in
// memory and goroutines meanwhile, all of them counted, and answering.
func TestTenThousandGarbageConnections(t *testing.T) {
	const pots, each = 10, 1000
	s := newSite(t, pots, func(o *sink.Options) { o.PerPot, o.Total = 40, 200 })
	ports := []uint16{21, 22, 23, 25, 53, 80, 110, 143, 443, 853, 3333, 6667, 8080, 31337}
	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	var connected, failed atomic.Int64
	var clients sync.WaitGroup
	for i, pot := range s.pots {
		jobs := make(chan int)
		for range 8 {
			clients.Go(func() {
				for n := range jobs {
					r := rand.New(rand.NewPCG(uint64(i), uint64(n)))
					to := netip.AddrPortFrom(netip.MustParseAddr("45.32.1.2"), ports[n%len(ports)])
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					c, err := pot.DialTCP(ctx, to)
					cancel()
					if err != nil {
						failed.Add(1)
						continue
					}
					connected.Add(1)
					_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
					_, _ = c.Write(garbage(r))
					if n%3 == 0 {
						_, _ = io.CopyN(io.Discard, c, 4096)
					}
					_ = c.SetLinger(n % 2) // half of them are reset
					_ = c.Close()
				}
			})
		}
		clients.Go(func() {
			for n := range each {
				jobs <- n
			}
			close(jobs)
		})
	}
	clients.Wait()
	runtime.GC()
	runtime.ReadMemStats(&peak)
	most := runtime.NumGoroutine()
	assert.Less(t, most-goroutines, 300, "goroutines while calls end")
	assert.Less(t, int64(peak.HeapAlloc)-int64(before.HeapAlloc), int64(64<<20), "bytes")
	require.Eventually(t, func() bool {
		c, open := s.sink.Counts()
		return open == 0 && int64(c.Connections+c.OverPot+c.OverTotal) >= connected.Load()
	}, 2*time.Minute, 50*time.Millisecond)
	c, _ := s.sink.Counts()
	t.Logf("%d connected, %d failed; %+v; heap %d KiB, goroutines %d", connected.Load(), failed.Load(), c, (int64(peak.HeapAlloc)-int64(before.HeapAlloc))>>10, most-goroutines)
	assert.Greater(t, connected.Load(), int64(9000))
	s.mu.Lock()
	told := len(s.told)
	s.mu.Unlock()
	assert.Less(t, told, 10_000, "evidence has a bound")
	assert.Positive(t, c.Untold)

	// It answers as before.
	conn, err := s.pots[0].DialTCP(t.Context(), netip.MustParseAddrPort("45.32.1.2:80"))
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "GET /x.sh HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(all), "HTTP/1.1 200 OK\r\n")
	assert.Contains(t, string(all), "#!/bin/sh\n")
}

// What was too much to be told is told to be missing.
func TestWhatIsTooMuchIsCounted(t *testing.T) {
	s := newSite(t, 1, func(o *sink.Options) { o.PerPot = 1 })
	var conns []net.Conn
	for range 5 {
		if c, err := s.pots[0].DialTCP(t.Context(), netip.MustParseAddrPort("[2606:4700::1]:31337")); err == nil {
			conns = append(conns, c)
		} // else it was reset already
	}
	require.Eventually(t, func() bool { c, _ := s.sink.Counts(); return c.OverPot == 4 && c.Connections == 1 }, time.Minute, 5*time.Millisecond)
	require.NotEmpty(t, conns)
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.told {
			if e.What == "dropped" && e.Count == 4 {
				return true
			}
		}
		return false
	}, time.Minute, 50*time.Millisecond)
}
