package honeypot_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// boundThousand is what a node may take, with its 1,000 clients, in bytes.
const boundThousand = 200e6

// BenchmarkThousandSources has 1,000 attackers guess at one node at once, three passwords each that are
// refused; each must be answered. The memory is that of this process: of the node and of the 1,000 clients together.
func BenchmarkThousandSources(b *testing.B) {
	f := newFixture(b)
	f.opts.Least, f.opts.Most = 6, 6
	f.run(b)
	before := resident(b)
	most := thousandSources(b, f, func() int64 { return resident(b) })
	if most > boundThousand {
		b.Errorf("NOT within: %d MB, at most %d MB are wanted", most/1e6, int64(boundThousand/1e6))
	}
	b.ReportMetric(float64(most)/1e6, "MB-resident")
	b.ReportMetric(float64(before)/1e6, "MB-before")
}

// thousandSources has 1,000 attackers guess at once, which is what is measured, and returns the most memory that was used
// meanwhile, in bytes.
func thousandSources(b *testing.B, f *fixture, used func() int64) int64 {
	b.Helper()
	const many, guessesEach = 1000, 3
	leases := make([]event.Lease, many)
	for i := range leases {
		leases[i] = f.grant(b, fmt.Sprintf("203.0.%d.%d/32", 113+i/250, 1+i%250))
	}
	var most, answered atomic.Int64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				most.Store(max(most.Load(), used()))
			}
		}
	})
	began := time.Now()
	for b.Loop() {
		var wg sync.WaitGroup
		for _, l := range leases {
			wg.Go(func() {
				if refused(b, f, l, guessesEach) == guessesEach {
					answered.Add(1)
				}
			})
		}
		wg.Wait()
	}
	took := time.Since(began)
	close(done)
	watching.Wait()
	require.Equal(b, int64(many*b.N), answered.Load(), "each is answered")
	require.Positive(b, most.Load())
	b.ReportMetric(float64(many*guessesEach*b.N)/took.Seconds(), "guesses/s")
	return most.Load()
}

// boundDoor is what the door of 1,000 sources may take, in bytes: all of its sshd, and what the kernel has for them.
const boundDoor = 2 << 30

// BenchmarkThousandSourcesAtTheDoor does the same where OpenSSH speaks with them, which keeps each waiting after a wrong
// password as it does on a real host. The memory is the door's.
func BenchmarkThousandSourcesAtTheDoor(b *testing.B) {
	f := withDoor(b)
	f.opts.Least, f.opts.Most, f.opts.SSH.FailDelay, f.opts.SSH.DoorMemory = 6, 6, 2*time.Second, boundDoor
	f.opts.Log = slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	f.run(b)
	require.Equal(b, 1, refused(b, f, f.grant(b, "203.0.113.1/32"), 1), "it is up")
	_, first := f.door(b)
	most := thousandSources(b, f, func() int64 {
		n, err := engine.Memory(first)
		if err != nil {
			return 0
		}
		return n
	})
	if most > boundDoor {
		b.Errorf("NOT within: %d MB, at most %d MB are wanted", most/1e6, boundDoor/1_000_000)
	}
	b.ReportMetric(float64(most)/1e6, "MB-door")
	b.ReportMetric(float64(resident(b))/1e6, "MB-node-and-clients")
}

// refused counts the guesses of one connection that were refused.
func refused(b *testing.B, f *fixture, l event.Lease, n int) int {
	b.Helper()
	conn, err := f.dial(b.Context(), l.Endpoint)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer conn.Close() //nolint:errcheck // a test's connection
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	tried := 0
	_, _, _, err = ssh.NewClientConn(conn, "web:22", &ssh.ClientConfig{
		User: "root", HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil },
		Auth: []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
			if tried == n {
				return "", errors.New("no more")
			}
			tried++
			return "guess " + strconv.Itoa(tried), nil
		}), n+1)},
	})
	if err == nil || !strings.Contains(err.Error(), "no more") {
		b.Errorf("%s: %v", l.Attacker, err)
		return 0
	}
	return tried
}

// resident is this process's memory in bytes.
func resident(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Error(err)
		return 0
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		b.Error(err)
	}
	return pages * int64(os.Getpagesize())
}
