package tarpit_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/tarpit"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pit is a tarpit that listens, and records.
type pit struct {
	*tarpit.Tarpit
	*fronttest.Site
}

func dig(t *testing.T, service event.Service, o tarpit.Options) *pit {
	t.Helper()
	p := &pit{Tarpit: tarpit.New(o)}
	t.Cleanup(func() { assert.Zero(t, p.Held()) }) // when the site has ended
	p.Site = fronttest.New(t, service, p.Tarpit)
	return p
}

// reasons waits for the ends of n sessions, and returns why they ended.
func (p *pit) reasons(t *testing.T, n int) (out []string) {
	t.Helper()
	for _, s := range p.Ended(t, n) {
		out = append(out, s.Reason)
	}
	return out
}

// recorded returns what passed in a session.
func recorded(t *testing.T, s fronttest.Session) (in, out string) {
	t.Helper()
	f, err := os.Open(s.Recording)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // read-only
	r, err := recording.NewReader(f)
	require.NoError(t, err)
	var passed [2][]byte
	for {
		frame, err := r.Next()
		if errors.Is(err, io.EOF) {
			return string(passed[0]), string(passed[1])
		}
		require.NoError(t, err)
		switch frame.Kind { //nolint:exhaustive // the others are nothing that passed
		case recording.In:
			passed[0] = append(passed[0], frame.Payload...)
		case recording.Out:
			passed[1] = append(passed[1], frame.Payload...)
		}
	}
}

// A client of SSH has to pass over lines that are no version, and goes on waiting for that.
func TestSSHClientsWaitForTheVersion(t *testing.T) {
	p := dig(t, event.SSH, tarpit.Options{Every: 50 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, port, err := net.SplitHostPort(p.Address)
	require.NoError(t, err)
	out, err := exec.CommandContext(ctx, "ssh", "-v", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", port, "root@127.0.0.1", "true").CombinedOutput()
	require.Error(t, err)
	require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded, "it waited: %s", out)
	assert.Contains(t, string(out), "banner line")
	s := p.Ended(t, 1)[0]
	assert.Equal(t, tarpit.AttackerClosed, s.Reason)
	in, told := recorded(t, s)
	assert.True(t, strings.HasPrefix(in, "SSH-2.0-OpenSSH"), in)
	require.NotEmpty(t, told)
	for line := range strings.Lines(told) {
		assert.Regexp(t, `^[a-z0-9]{4,32}\r\n$`, line)
	}
	require.Len(t, s.Evidence, 2)
	require.NotNil(t, s.Evidence[0].Client)
	assert.True(t, strings.HasPrefix(string(s.Evidence[0].Client.Version), "SSH-2.0-OpenSSH"))
}

// Clients of other services are told nothing, and what they send is taken in sips.
func TestOthersWaitForAnAnswer(t *testing.T) {
	p := dig(t, event.Redis, tarpit.Options{Every: 50 * time.Millisecond})
	conn := p.Dial(t)
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
	p.EndLease()
	in, told := recorded(t, p.Ended(t, 1)[0])
	assert.Empty(t, told)
	assert.NotEmpty(t, in)
	assert.Less(t, len(in), 64<<10)
}

func TestEndsWithTheLeaseAndWithTheClient(t *testing.T) {
	p := dig(t, event.MySQL, tarpit.Options{Every: 20 * time.Millisecond, Most: 2})
	first, second := p.Dial(t), p.Dial(t)
	require.Eventually(t, func() bool { return p.Held() == 2 }, time.Minute, time.Millisecond)
	third := p.Dial(t)
	_, err := third.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "no more than that")
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return p.Held() == 1 }, time.Minute, time.Millisecond)
	p.EndLease()
	_, err = second.Read(make([]byte, 1))
	require.Error(t, err)
	assert.ElementsMatch(t, []string{tarpit.Full, tarpit.AttackerClosed, front.LeaseEnded}, p.reasons(t, 3))
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
		conns[i] = p.Dial(t)
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
