package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

func deadline(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 60*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

// collect consumes from startAfter until a batch with the id has come, and returns ids by sequence.
func collect(tb testing.TB, c *bus.Conn, startAfter uint64, until string) (ids []string, last uint64) {
	tb.Helper()
	ctx, done := context.WithCancel(deadline(tb))
	defer done()
	require.NoError(tb, c.ConsumeBatches(ctx, "test", startAfter, func(_ context.Context, seq uint64, b event.Batch) error {
		require.Greater(tb, seq, last)
		ids, last = append(ids, b.ID), seq
		if b.ID == until {
			done()
		}
		return nil
	}))
	require.NotEmpty(tb, ids)
	require.Equal(tb, until, ids[len(ids)-1], "it came before the deadline")
	return ids, last
}

func TestDuplicatesAreDropped(t *testing.T) {
	s := newSite(t)
	server, web := s.server(t), s.dial(t, pki.RoleHost, "web")
	ctx := deadline(t)
	for _, id := range []string{"a", "b", "a", "a", "c", "b", "end"} {
		require.NoError(t, web.PublishBatch(ctx, batch("web", id, "line")))
	}
	// Reconnected with the same identity, as after a crash between acknowledgement and cursor.
	again := s.dial(t, pki.RoleHost, "web")
	require.NoError(t, again.PublishBatch(ctx, batch("web", "a", "line")))
	// The same ids by another host, and by the server itself, are other batches.
	require.NoError(t, s.dial(t, pki.RoleHost, "db").PublishBatch(ctx, batch("db", "a", "line")))
	require.NoError(t, server.PublishBatch(ctx, batch("web", "s", "line")))
	require.NoError(t, server.PublishBatch(ctx, batch("web", "s", "line")))
	require.NoError(t, server.PublishBatch(ctx, batch("web", "over", "line")))
	ids, _ := collect(t, server, 0, "over")
	assert.Equal(t, []string{"a", "b", "c", "end", "a", "s", "over"}, ids)
}

// A host that guesses another's batch ids must not be able to have them dropped as duplicates.
func TestNoHostCanHaveAnothersBatchesDropped(t *testing.T) {
	s := newSite(t)
	server := s.server(t)
	a, err := s.attack(t, s.identity(t, pki.RoleHost, "db").TLS)
	require.NoError(t, err)
	for _, id := range []string{"precious", "web/precious", "logs.web/precious"} {
		m := nats.NewMsg("logs.db")
		m.Header.Set("Nats-Msg-Id", id)
		require.NoError(t, a.PublishMsg(m))
	}
	require.NoError(t, s.dial(t, pki.RoleHost, "db").PublishBatch(deadline(t), batch("db", "precious", "x")))
	require.NoError(t, a.Flush())
	require.NoError(t, s.dial(t, pki.RoleHost, "web").PublishBatch(deadline(t), batch("web", "precious", "y")))
	require.NoError(t, server.PublishBatch(deadline(t), batch("web", "end", "z")))
	ids, _ := collect(t, server, 0, "end")
	assert.Equal(t, []string{"precious", "precious", "end"}, ids)
	assert.EqualValues(t, 3, server.Counters().Malformed)
}

func TestByteBudgetKeepsTheNewest(t *testing.T) {
	s := newSite(t, func(o *broker.Options) { o.MaxLogBytes = 256 << 10 })
	server, web := s.server(t), s.dial(t, pki.RoleHost, "web")
	line := strings.Repeat("x", 8<<10)
	for i := range 100 {
		require.NoError(t, web.PublishBatch(deadline(t), batch("web", strconv.Itoa(i), line)))
	}
	stats, err := s.broker.Stats(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 100, stats.Logs.Last)
	assert.LessOrEqual(t, stats.Logs.Bytes, uint64(256<<10))
	assert.Greater(t, stats.Logs.Messages, uint64(20))
	assert.Equal(t, 100-stats.Logs.Messages, stats.Logs.Discarded)
	assert.Equal(t, stats.Logs.Discarded+1, stats.Logs.First)
	ids, last := collect(t, server, 0, "99")
	assert.EqualValues(t, 100, last)
	assert.Len(t, ids, int(stats.Logs.Messages))
	assert.Equal(t, stats.Logs.Discarded, server.Counters().Lost, "what was discarded unread is counted")

	second := s.server(t)
	collect(t, second, last-3, "99")
	assert.Zero(t, second.Counters().Lost, "who had read it lost nothing")
}

func TestConsumeBatchesFromAPosition(t *testing.T) {
	s := newSite(t)
	server, web := s.server(t), s.dial(t, pki.RoleHost, "web")
	for i := range 300 { // more than one prefetch
		require.NoError(t, web.PublishBatch(deadline(t), batch("web", strconv.Itoa(i), "x")))
	}
	ids, last := collect(t, server, 200, "299")
	assert.Len(t, ids, 100)
	assert.Equal(t, "200", ids[0])
	assert.EqualValues(t, 300, last)

	// Live, after the replay.
	got := make(chan string, 16)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.ConsumeBatches(ctx, "live", 300, func(_ context.Context, _ uint64, b event.Batch) error { got <- b.ID; return nil })
	}()
	for i := range 5 {
		require.NoError(t, web.PublishBatch(deadline(t), batch("web", fmt.Sprint("live", i), "x")))
		assert.Equal(t, fmt.Sprint("live", i), receive(t, got))
	}
	stop()
	require.NoError(t, <-ended)

	boom := errors.New("boom")
	calls := 0
	err := server.ConsumeBatches(t.Context(), "test", 0, func(context.Context, uint64, event.Batch) error { calls++; return boom })
	require.ErrorIs(t, err, boom)
	assert.Equal(t, 1, calls)

	// A position beyond the stream's end belongs to a stream that is gone.
	ids, _ = collect(t, server, 1000, "live4")
	assert.Len(t, ids, 305)
}

func TestConsumeSessions(t *testing.T) {
	s := newSite(t)
	server, node := s.server(t), s.dial(t, pki.RoleNode, "n1")
	for i := range 10 {
		require.NoError(t, node.PublishSession(deadline(t), event.SessionReport{Session: event.Session{ID: strconv.Itoa(i), Node: "n1"}}))
	}
	closed := event.SessionReport{Session: event.Session{ID: "9", Node: "n1", EndedAt: time.Now().UTC()}}
	require.NoError(t, node.PublishSession(deadline(t), closed))
	require.NoError(t, node.PublishSession(deadline(t), closed))
	require.ErrorIs(t, node.PublishSession(deadline(t), event.SessionReport{Session: event.Session{ID: "x", Node: "n2"}}), bus.ErrForbidden)

	run := func(n int, fail *atomic.Bool) (ids []string) {
		ctx, done := context.WithCancel(deadline(t))
		defer done()
		require.NoError(t, server.ConsumeSessions(ctx, "store", func(_ context.Context, r event.SessionReport) error {
			if fail.Swap(false) {
				return errors.New("disk full")
			}
			if ids = append(ids, r.Session.ID); len(ids) == n {
				done()
			}
			return nil
		}))
		return ids
	}
	var fail atomic.Bool
	fail.Store(true)
	assert.Equal(t, []string{"0", "1", "2", "3"}, run(4, &fail), "in order, also after an error")
	assert.Equal(t, []string{"4", "5", "6", "7", "8", "9", "9"}, run(7, &fail), "what was done does not come again, nor what was sent twice")
}

func TestPublishRefuses(t *testing.T) {
	s := newSite(t)
	web := s.dial(t, pki.RoleHost, "web")
	ctx := deadline(t)
	require.NoError(t, web.PublishBatch(ctx, batch("web", "empty")))
	require.ErrorIs(t, web.PublishBatch(ctx, batch("db", "1", "x")), bus.ErrForbidden)
	require.ErrorIs(t, web.PublishBatch(ctx, batch("web", "1", "x\ny")), bus.ErrBatch)
	require.ErrorIs(t, web.PublishBatch(ctx, batch("web", "", "x")), bus.ErrBatch)
	require.ErrorIs(t, web.PublishBatch(ctx, batch("web.db", "1", "x")), bus.ErrBatch)
	require.ErrorIs(t, web.PublishBatch(ctx, batch("web", "1", strings.Repeat("x", bus.MaxBatchBytes))), bus.ErrBatch)
	require.ErrorIs(t, web.PublishBatch(ctx, batch("web", "1", make([]string, bus.MaxBatchLines+1)...)), bus.ErrBatch)
	require.NoError(t, web.PublishBatch(ctx, batch("web", "1", strings.Repeat("x", bus.MaxBatchBytes-1))), "the largest travels")
	require.NoError(t, web.PublishBatch(ctx, batch("web", "2", make([]string, bus.MaxBatchLines)...)))
	ids, _ := collect(t, s.server(t), 0, "2")
	assert.Equal(t, []string{"1", "2"}, ids)

	_, err := bus.Subscribe(web, "redirects.db", func(event.Change) {})
	require.ErrorIs(t, err, bus.ErrForbidden)
	_, err = bus.Request[struct{}, event.Desired](ctx, web, "desired.db", struct{}{})
	require.ErrorIs(t, err, bus.ErrForbidden)
	_, err = bus.Request[struct{}, event.Desired](ctx, web, "desired.web", struct{}{})
	require.ErrorIs(t, err, bus.ErrNoResponder)
}
