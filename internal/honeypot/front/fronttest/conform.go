package fronttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

// Front is one that is to conform.
type Front struct {
	Service event.Service
	Open    func(front.Reach, time.Duration) front.Handler // with the silence that ends a connection
	Says    string                                         // something that its clients say, and that passes as it is
}

// Conform holds what each front owes that reaches its pots by front.Reach: it ends when it should, says why, keeps nobody, queues
// nothing, and records what passed.
func Conform(t *testing.T, f Front) {
	t.Helper()
	t.Run("with the lease", func(t *testing.T) { EndsWithItsLease(t, f.site(t, stays, 0)) })
	t.Run("with the client", f.withTheClient)
	t.Run("with the pot", f.withThePot)
	t.Run("in silence", f.inSilence)
	t.Run("without a pot", f.withoutAPot)
	t.Run("on a full node", f.onAFullNode)
	t.Run("what passed is recorded", f.recorded)
	t.Run("nothing is queued", f.queued)
	t.Run("1 GiB takes no room", f.large)
}

// stays is a pot's service that says nothing and goes when its client does.
func stays(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// Pot is a service of a pot that does with a connection what it is told.
func Pot(t testing.TB, does func(net.Conn)) front.Stay { //nolint:ireturn // what fronts know of pots
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close() //nolint:errcheck // a test's connection
				does(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return Stay{Address: l.Addr().String()}
}

// site opens the front before such a pot.
func (f Front) site(t testing.TB, does func(net.Conn), idle time.Duration) *Site {
	t.Helper()
	stay := Pot(t, does)
	return New(t, f.Service, f.Open(front.Reach{
		Enter: func(context.Context, event.PotKey) (front.Stay, error) { return stay, nil },
	}, idle))
}

func (f Front) withTheClient(t *testing.T) {
	s := f.site(t, stays, 0)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, f.Says)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	assert.Equal(t, relay.AttackerClosed, s.Ended(t, 1)[0].Reason)
}

func (f Front) withThePot(t *testing.T) {
	s := f.site(t, func(c net.Conn) { _, _ = c.Read(make([]byte, len(f.Says))) }, 0)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, f.Says)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	assert.Equal(t, relay.PotClosed, s.Ended(t, 1)[0].Reason)
}

func (f Front) inSilence(t *testing.T) {
	s := f.site(t, stays, 100*time.Millisecond)
	conn := s.Dial(t)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.Equal(t, relay.Idle, s.Ended(t, 1)[0].Reason)
}

func (f Front) withoutAPot(t *testing.T) {
	s := New(t, f.Service, f.Open(front.Reach{
		Enter: func(context.Context, event.PotKey) (front.Stay, error) { return nil, errors.New("the engine is away") },
	}, 0))
	conn := s.Dial(t)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.Equal(t, front.NoPot+"the engine is away", s.Ended(t, 1)[0].Reason)
}

// overflown serves who finds the node full.
type overflown struct{}

func (overflown) Serve(_ context.Context, v *front.Visit) string {
	_, _ = io.WriteString(v.Conn, "full")
	return front.NodeFull
}

func (f Front) onAFullNode(t *testing.T) {
	s := New(t, f.Service, f.Open(front.Reach{
		Enter: func(context.Context, event.PotKey) (front.Stay, error) { return nil, front.ErrFull }, Full: overflown{},
	}, 0))
	conn := s.Dial(t)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	said, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "full", string(said))
	assert.Equal(t, front.NodeFull, s.Ended(t, 1)[0].Reason)
}

func (f Front) recorded(t *testing.T) {
	const answer = "+an answer that nobody has given before\r\n"
	s := f.site(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(f.Says))); err == nil {
			_, _ = io.WriteString(c, answer)
			stays(c)
		}
	}, 0)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, f.Says)
	require.NoError(t, err)
	got := make([]byte, len(answer))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	assert.Equal(t, answer, string(got))
	require.NoError(t, conn.Close())
	data, err := os.ReadFile(s.Ended(t, 1)[0].Recording)
	require.NoError(t, err)
	assert.True(t, bytes.Contains(data, []byte(f.Says)), "what the client said")
	assert.True(t, bytes.Contains(data, []byte(answer)), "what it was answered")
}

// queued has the pot send without end to a client that does not read.
func (f Front) queued(t *testing.T) {
	const most = 64 << 20
	stalled := make(chan int, 1)
	s := f.site(t, func(c net.Conn) {
		chunk, sent := bytes.Repeat([]byte("+line\r\n"), 10_000), 0
		for sent < most {
			_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
			n, err := c.Write(chunk)
			sent += n
			if err != nil {
				break
			}
		}
		stalled <- sent
	}, 0)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, f.Says)
	require.NoError(t, err)
	assert.Less(t, <-stalled, most, "the pot is kept waiting")
	require.NoError(t, conn.Close())
	s.Ended(t, 1)
}

// large has the client say 1 GiB, whatever the front makes of it.
func (f Front) large(t *testing.T) {
	const size, piece, most = 1 << 30, 1 << 20, 16 << 20
	s := f.site(t, stays, 0)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, f.Says)
	require.NoError(t, err)
	before, chunk := Held(), make([]byte, piece)
	for sent := 0; sent < size; sent += piece {
		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(time.Minute)))
		if _, err := conn.Write(chunk); err != nil {
			break // it may end what no server takes
		}
		if sent%(128<<20) == 0 {
			assert.Less(t, Held(), before+most, "after %d bytes", sent)
		}
	}
	assert.Less(t, Held(), before+most)
	require.NoError(t, conn.Close())
	s.Ended(t, 1)
}
