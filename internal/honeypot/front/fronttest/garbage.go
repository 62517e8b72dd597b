package fronttest

import (
	"context"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Garbage makes 10,000 connections that begin like one of seeds and go on at random, and holds that all end and that nothing of them
// is left.
func Garbage(t *testing.T, s *Site, seeds ...string) {
	t.Helper()
	const (
		many, atOnce = 10_000, 50
		most         = 64 << 20
	)
	before := Held()
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for i := worker; i < many; i += atOnce {
				if err := s.garbage(t.Context(), seeds[i%len(seeds)], i%3 == 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	require.Eventually(t, func() bool { return s.Open() == 0 }, time.Minute, 10*time.Millisecond)
	after := Held()
	t.Logf("%d MiB before, %d MiB after %d connections", before>>20, after>>20, many)
	assert.Less(t, after, before+most)
}

// garbage is one such connection.
func (s *Site) garbage(ctx context.Context, seed string, listens bool) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return err //nolint:wrapcheck // a test's
	}
	defer conn.Close()                   //nolint:errcheck // a test's connection
	junk := make([]byte, rand.IntN(300)) //nolint:gosec // garbage
	for i := range junk {
		junk[i] = byte(rand.Uint32()) //nolint:gosec // garbage
	}
	_, _ = conn.Write(append([]byte(seed), junk...))
	if listens {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 100))
	}
	return nil
}

// Held is what the process holds in memory.
func Held() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
