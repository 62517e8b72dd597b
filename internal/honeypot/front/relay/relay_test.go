package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test's listener
	a, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	b, err = l.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

type running struct {
	attacker, pot *net.TCPConn
	result        chan relay.Result
	mu            sync.Mutex
	in, out       bytes.Buffer
}

func start(t *testing.T, ctx context.Context, idle time.Duration) *running { //nolint:revive // tests say t first
	t.Helper()
	r := &running{result: make(chan relay.Result, 1)}
	attacker, front := tcpPair(t)
	inner, pot := tcpPair(t)
	r.attacker, r.pot = attacker, pot
	go func() {
		r.result <- relay.Run(ctx, relay.Options{
			Attacker: front, Pot: inner, Idle: idle,
			Pass: func(d relay.Direction, p []byte) []byte {
				r.mu.Lock()
				defer r.mu.Unlock()
				if d == relay.In {
					r.in.Write(p)
				} else {
					r.out.Write(p)
				}
				return p
			},
		})
	}()
	return r
}

func (r *running) await(t *testing.T) relay.Result {
	t.Helper()
	select {
	case res := <-r.result:
		return res
	case <-time.After(time.Minute):
		require.FailNow(t, "the relay does not end")
		return relay.Result{}
	}
}

func TestBytesPassAndAreRecorded(t *testing.T) {
	r := start(t, t.Context(), 0)
	_, err := r.pot.Write([]byte("SSH-2.0-x\r\n"))
	require.NoError(t, err)
	buf := make([]byte, 11)
	_, err = io.ReadFull(r.attacker, buf)
	require.NoError(t, err)
	_, err = r.attacker.Write([]byte("hello"))
	require.NoError(t, err)
	// The attacker closes its half; the answer still comes.
	require.NoError(t, r.attacker.CloseWrite())
	got, err := io.ReadAll(r.pot)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))
	_, err = r.pot.Write([]byte("bye"))
	require.NoError(t, err)
	require.NoError(t, r.pot.Close())
	got, err = io.ReadAll(r.attacker)
	require.NoError(t, err)
	assert.Equal(t, "bye", string(got))
	res := r.await(t)
	assert.Equal(t, int64(5), res.BytesIn)
	assert.Equal(t, int64(14), res.BytesOut)
	assert.Equal(t, relay.AttackerClosed, res.Reason)
	assert.WithinDuration(t, time.Now(), res.FirstByte, 5*time.Second)
	assert.Equal(t, "hello", r.in.String())
	assert.Equal(t, "SSH-2.0-x\r\nbye", r.out.String())
}

func TestPotThatClosesEndsIt(t *testing.T) {
	r := start(t, t.Context(), 300*time.Millisecond)
	require.NoError(t, r.pot.Close())
	// The attacker never closes; it is not waited for without end.
	res := r.await(t)
	assert.Equal(t, relay.PotClosed, res.Reason)
	assert.True(t, res.FirstByte.IsZero())
}

func TestSilenceEndsItAndActivityDoesNot(t *testing.T) {
	const idle = 400 * time.Millisecond
	r := start(t, t.Context(), idle)
	begin := time.Now()
	// One direction is busy for twice the time, the other silent.
	for time.Since(begin) < 2*idle {
		_, err := r.pot.Write([]byte("."))
		require.NoError(t, err)
		_, err = r.attacker.Read(make([]byte, 16))
		require.NoError(t, err)
		<-time.After(idle / 8)
	}
	res := r.await(t)
	assert.Equal(t, relay.Idle, res.Reason)
	assert.GreaterOrEqual(t, time.Since(begin), 2*idle)
}

func TestReaderThatDoesNotReadHoldsTheWriter(t *testing.T) {
	r := start(t, t.Context(), 500*time.Millisecond)
	total := 0
	chunk := make([]byte, 64<<10)
	for total < 1<<30 {
		require.NoError(t, r.pot.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		n, err := r.pot.Write(chunk)
		total += n
		if err != nil {
			break
		}
	}
	assert.Less(t, total, 64<<20, "the pot was stopped by what the kernel buffers")
	res := r.await(t)
	assert.Equal(t, relay.Idle, res.Reason)
}

func TestCancelEndsItWithItsCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := start(t, ctx, 0)
	cancel(errors.New("lease ended"))
	assert.Equal(t, "lease ended", r.await(t).Reason)
	_, err := r.attacker.Read(make([]byte, 1))
	assert.Error(t, err)
}

func TestReset(t *testing.T) {
	r := start(t, t.Context(), 0)
	require.NoError(t, r.attacker.SetLinger(0))
	require.NoError(t, r.attacker.Close())
	assert.Equal(t, relay.AttackerClosed, r.await(t).Reason)
}
