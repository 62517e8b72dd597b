package ssh_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// lockedBuffer is a buffer that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// heap is what is in use, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func TestAGibibyteOfBinaryInput(t *testing.T) { each(t, testAGibibyteOfBinaryInput) }

func testAGibibyteOfBinaryInput(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	c := s.dial(t)
	session, err := c.NewSession()
	require.NoError(t, err)
	hash := sha256.New()
	const size = 1 << 30
	source := io.LimitReader(rand.NewChaCha8([32]byte{}), size)
	session.Stdin = io.TeeReader(source, hash)
	before := heap()
	done, most := make(chan struct{}), uint64(0)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				most = max(most, heap())
			}
		}
	})
	out, err := session.Output("sha256sum")
	close(done)
	watching.Wait()
	require.NoError(t, err)
	assert.Equal(t, hex.EncodeToString(hash.Sum(nil)), strings.Fields(string(out))[0])
	assert.Less(t, most, before+48<<20, "memory in use grew by more than 48 MiB")
	require.NoError(t, c.Close())
	files := kinds(s.ended(t, 1), event.EvidenceFile)
	require.Len(t, files, 1)
	assert.Equal(t, int64(64<<20), files[0].File.Size, "the start is kept")
	assert.True(t, files[0].File.Truncated)
}

func TestAHundredSessionsAtOnce(t *testing.T) { each(t, testAHundredSessionsAtOnce) }

func testAHundredSessionsAtOnce(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	const many = 100
	var wg sync.WaitGroup
	for i := range many {
		c := s.dial(t)
		wg.Go(func() {
			session, err := c.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			session.Stdin = strings.NewReader(strconv.Itoa(i))
			out, err := session.Output("cat; head -c 100000 /dev/zero | tr '\\0' x")
			if assert.NoError(t, err) {
				assert.Equal(t, strconv.Itoa(i)+strings.Repeat("x", 100_000), string(out))
			}
			assert.NoError(t, c.Close())
		})
	}
	wg.Wait()
	assert.Len(t, kinds(s.ended(t, many), event.EvidenceExit), many)
}

// Who does not read is not read for: nothing piles up, and nobody else waits.
func TestSlowReaders(t *testing.T) { each(t, testSlowReaders) }

func testSlowReaders(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	before := heap()
	const many = 10
	for range many {
		c := s.dial(t)
		ch, reqs, err := c.OpenChannel("session", nil)
		require.NoError(t, err)
		go func() {
			for range reqs {
			}
		}()
		ok, err := ch.SendRequest("exec", true, append([]byte{0, 0, 0, 13}, "cat /dev/zero"...))
		require.NoError(t, err)
		require.True(t, ok)
	}
	// Everything that can be sent has been when the recordings don't grow any more.
	size := func() (sum int64) {
		entries, err := os.ReadDir(s.dir + "/recordings")
		require.NoError(t, err)
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				sum += info.Size()
			}
		}
		return sum
	}
	last := int64(-1)
	require.Eventually(t, func() bool {
		now := size()
		still := now == last && now > 0
		last = now
		return still
	}, time.Minute, 500*time.Millisecond)
	assert.Less(t, heap(), before+many*12<<20, "at most some windows' worth each: Go's client holds one of them here, too")
	out, _, code := s.openssh(t, "", "127.0.0.1", "echo alive")
	require.Zero(t, code)
	assert.Equal(t, "alive\n", out)
}

// garbage is what is not SSH, or not for long.
func garbage(r *rand.Rand) []byte {
	switch r.IntN(8) {
	case 0:
		return nil
	case 1:
		return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	case 2:
		return []byte("SSH-1.5-old\r\n")
	case 3:
		return []byte("SSH-2.0-\x1b[2J\x00\xff\r\n\x00\x00\x00\x0c\x0a\x14")
	case 4:
		return append([]byte("SSH-2.0-x\r\n\xff\xff\xff\xff"), make([]byte, r.IntN(2000))...)
	case 5:
		return []byte(strings.Repeat("A", r.IntN(70_000)))
	case 6:
		return []byte(strings.Repeat("\r\n", r.IntN(3000)))
	default:
		b := make([]byte, r.IntN(4000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return append([]byte("SSH-2.0-OpenSSH_9.9\r\n"), b...)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func TestTenThousandGarbageConnections(t *testing.T) {
	s := newSite(t, builtin)
	s.garbage(t, 10_000)
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]int{}
	for _, r := range s.reasons {
		seen[r]++
	}
	assert.Positive(t, seen["not SSH"], fmt.Sprint(seen))
	assert.Positive(t, seen["attacker closed"], fmt.Sprint(seen))
}

// Each connection costs the door two processes; BenchmarkDoorSoak has ten thousand.
func TestGarbageConnectionsAtTheDoor(t *testing.T) {
	s := newSite(t, openSSH)
	s.dialUntilUp(t)
	s.forget(t)
	s.garbage(t, 300)
	out, errs, code := s.opensshAs(t, decoy, "", "-o", "NumberOfPasswordPrompts=1", "127.0.0.1", "true")
	assert.Equal(t, 255, code, "%s %s", out, errs)
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]int{}
	for _, r := range s.reasons {
		seen[r]++
	}
	assert.Positive(t, seen["not SSH"], fmt.Sprint(seen))
	assert.Positive(t, seen["attacker closed"], fmt.Sprint(seen))
}

// garbage makes many connections that make no sense, and requires that nothing is left of them.
func (s *site) garbage(t testing.TB, many int) {
	t.Helper()
	before, fds, routines := heap(), descriptors(t), runtime.NumGoroutine()
	const atOnce = 50
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range many {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := net.Dial("tcp", s.Addr.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close() //nolint:errcheck // a test's connection
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = c.Write(garbage(rand.New(rand.NewPCG(1, uint64(i)))))
			_ = c.(*net.TCPConn).CloseWrite()
			_, err = io.Copy(io.Discard, c)
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Errorf("connection %d hangs", i)
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.sessions) == many
	}, time.Minute, 50*time.Millisecond)
	assert.Eventually(t, func() bool {
		return descriptors(t) <= fds+2 && runtime.NumGoroutine() <= routines+2
	}, time.Minute, 50*time.Millisecond, "%d descriptors, %d goroutines; were %d, %d", descriptors(t), runtime.NumGoroutine(), fds, routines)
	assert.Less(t, heap(), before+32<<20)
}
