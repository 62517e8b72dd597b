package tarpit_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/tarpit"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pit is a tarpit that listens, and records.
type pit struct {
	*tarpit.Tarpit

	addr  string
	vault *record.Vault
	end   context.CancelCauseFunc

	mu      sync.Mutex
	reasons []string
	sums    []string
}

func dig(t *testing.T, service event.Service, o tarpit.Options) *pit {
	t.Helper()
	vault, err := record.OpenVault(record.VaultOptions{Dir: t.TempDir(), MinFree: 1})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, end := context.WithCancelCause(t.Context())
	p := &pit{Tarpit: tarpit.New(o), addr: l.Addr().String(), vault: vault, end: end}
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(ctx, t, conn, service, n) })
		}
	})
	t.Cleanup(func() {
		end(errors.New("test over"))
		_ = l.Close()
		all.Wait()
		assert.Zero(t, p.Held())
	})
	return p
}

func (p *pit) serve(ctx context.Context, t *testing.T, conn net.Conn, service event.Service, n int) { //nolint:thelper // a server
	attacker := netip.MustParsePrefix("203.0.113.66/32")
	rec, err := p.vault.Begin(recording.Header{
		Session: "s" + string(rune('a'+n%26)) + strings.Repeat("x", n/26), Service: service, Attacker: attacker, StartedAt: time.Now(),
	})
	if err != nil {
		t.Errorf("not recorded: %v", err)
		return
	}
	reason := p.Serve(ctx, &front.Visit{Conn: conn, Lease: event.Lease{Service: service, Attacker: attacker}, Rec: rec})
	sum, _, err := rec.Close(reason)
	if err != nil {
		t.Errorf("recording lost: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reasons, p.sums = append(p.reasons, reason), append(p.sums, sum)
}

func (p *pit) ended() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.reasons...)
}

func (p *pit) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// recorded returns what passed in the sessions that are over.
func (p *pit) recorded(t *testing.T) (in, out string, notes []string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sum := range p.sums {
		r, err := os.Open(p.vault.Path(sum))
		require.NoError(t, err)
		read, err := recording.NewReader(r)
		require.NoError(t, err)
		for {
			f, err := read.Next()
			if err != nil {
				break
			}
			switch f.Kind { //nolint:exhaustive // the others are nothing that passed
			case recording.In:
				in += string(f.Payload)
			case recording.Out:
				out += string(f.Payload)
			case recording.Note:
				notes = append(notes, string(f.Payload))
			}
		}
		require.NoError(t, r.Close())
	}
	return in, out, notes
}

// A client of SSH has to pass over lines that are no version, and goes on waiting for that.
func TestSSHClientsWaitForTheVersion(t *testing.T) {
	p := dig(t, event.SSH, tarpit.Options{Every: 50 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, port, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	out, err := exec.CommandContext(ctx, "ssh", "-v", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", port, "root@127.0.0.1", "true").CombinedOutput()
	require.Error(t, err)
	require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded, "it waited: %s", out)
	assert.Contains(t, string(out), "banner line")
	require.Eventually(t, func() bool { return len(p.ended()) == 1 }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, []string{tarpit.AttackerClosed}, p.ended())
	in, told, notes := p.recorded(t)
	assert.True(t, strings.HasPrefix(in, "SSH-2.0-OpenSSH"), in)
	require.NotEmpty(t, told)
	for line := range strings.Lines(told) {
		assert.Regexp(t, `^[a-z0-9]{4,32}\r\n$`, line)
	}
	require.Len(t, notes, 2)
	assert.Contains(t, notes[0], `"client":{"version":"SSH-2.0-OpenSSH`)
}

// Clients of other services are told nothing, and what they send is taken in sips.
func TestOthersWaitForAnAnswer(t *testing.T) {
	p := dig(t, event.Redis, tarpit.Options{Every: 50 * time.Millisecond})
	conn := p.dial(t)
	wrote := make(chan int, 1)
	go func() { // far more than the kernel keeps for it
		n, _ := conn.Write(make([]byte, 16<<20))
		wrote <- n
	}()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.Close())
	assert.Less(t, <-wrote, 16<<20, "it is kept waiting")
	p.end(errors.New("lease ended"))
	require.Eventually(t, func() bool { return len(p.ended()) == 1 }, time.Minute, 10*time.Millisecond)
	in, told, _ := p.recorded(t)
	assert.Empty(t, told)
	assert.NotEmpty(t, in)
	assert.Less(t, len(in), 64<<10)
}

func TestEndsWithTheLeaseAndWithTheClient(t *testing.T) {
	p := dig(t, event.MySQL, tarpit.Options{Every: 20 * time.Millisecond, Most: 2})
	first, second := p.dial(t), p.dial(t)
	require.Eventually(t, func() bool { return p.Held() == 2 }, time.Minute, time.Millisecond)
	third := p.dial(t)
	_, err := third.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "no more than that")
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return p.Held() == 1 }, time.Minute, time.Millisecond)
	p.end(errors.New("lease ended"))
	_, err = second.Read(make([]byte, 1))
	require.Error(t, err)
	require.Eventually(t, func() bool { return len(p.ended()) == 3 }, time.Minute, time.Millisecond)
	assert.ElementsMatch(t, []string{tarpit.Full, tarpit.AttackerClosed, "lease ended"}, p.ended())
}

func TestTwoThousandAtOnceCostLittle(t *testing.T) {
	const many = 2000
	p := dig(t, event.SSH, tarpit.Options{Every: 200 * time.Millisecond, Most: many})
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before, goroutines := memory(), runtime.NumGoroutine()
	conns := make([]net.Conn, many)
	for i := range conns {
		conns[i] = p.dial(t)
	}
	for i, c := range conns { // all of them are told a line
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		line, err := bufio.NewReaderSize(c, 64).ReadString('\n')
		require.NoError(t, err, "connection %d", i)
		require.NotEmpty(t, line)
	}
	require.Equal(t, many, p.Held())
	each := (memory() - before) / many // a session's recorder, and the client's end, are in it
	t.Logf("%d connections: %d bytes and %.1f goroutines each", many, each, float64(runtime.NumGoroutine()-goroutines)/many)
	assert.Less(t, each, uint64(32<<10))
	assert.LessOrEqual(t, runtime.NumGoroutine()-goroutines, many+many/100)
}
