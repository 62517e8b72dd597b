package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/parse"
	"github.com/kokkuri/kokkuri/internal/store"
)

// memory keeps a checkpoint, and in broken many saves fails.
type memory struct {
	mu     sync.Mutex
	kept   Checkpoint
	broken int
}

var errFull = errors.New("the disk is full")

func (m *memory) SaveCheckpoint(_ context.Context, c Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken > 0 {
		m.broken--
		return errFull
	}
	m.kept = c
	return nil
}

func (m *memory) LoadCheckpoint(context.Context) (sequence uint64, state []byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Sequence, m.kept.State, nil
}

// lines is a stream of one failed guess a batch, each of a connection of its own. It calls at before it hands one on.
type lines struct {
	n  int
	at func(seq uint64)
}

func (l lines) ConsumeBatches(ctx context.Context, _ string, after uint64, fn func(context.Context, uint64, event.Batch) error) error {
	for seq := after + 1; seq <= uint64(l.n) && ctx.Err() == nil; seq++ {
		l.at(seq)
		if err := fn(ctx, seq, guess(seq)); err != nil && ctx.Err() == nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (lines) LastBatch(context.Context) (uint64, error) { return 0, nil }

func guess(seq uint64) event.Batch {
	return event.Batch{
		Host: "web", Road: event.RoadAgent, Received: time.Now(),
		Lines: [][]byte{fmt.Appendf(nil, "%s web sshd[%d]: Failed password for root from 192.0.2.66 port %d ssh2", time.Now().UTC().Format(time.RFC3339Nano), seq, 1024+seq)},
	}
}

// newPipeline has no rules, and nobody who decides.
func newPipeline(stream batches, kept checkpoints) *pipeline {
	p := &pipeline{
		stream: stream, store: kept, onList: func(string, netip.Addr) bool { return false },
		newLogins: func(context.Context) (*decide.Logins, error) { return decide.NewLogins(10, time.Hour), nil },
		over:      func(context.Context, string) (bool, error) { return false, nil },
		roads:     &roads{fixed: func(string) string { return "" }}, counters: newCounters(), tail: newTail(), now: time.Now, log: slog.New(slog.DiscardHandler),
	}
	p.decider = decide.New(decide.Options{Logins: decide.NewLogins(10, time.Hour), Log: p.log})
	return p
}

// TestStoppedAnywhereEachLineIsEvaluatedOnce: a pipeline that is stopped again and again, while lines are read and wait, leaves
// checkpoints that know exactly what was evaluated.
func TestStoppedAnywhereEachLineIsEvaluatedOnce(t *testing.T) {
	t.Parallel()
	const n = 400
	var kept memory
	total, stops := int64(0), 0
	for stop := uint64(1); total < n; stop += 7 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := newPipeline(lines{n, func(seq uint64) {
				if seq == stop {
					cancel()
				}
			}}, &kept)
			ended := make(chan error, 1)
			go func() { ended <- p.once(ctx) }()
			synctest.Wait()
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
			counted := p.counters.snapshot()["guesses"]["ssh"]
			total += counted
			require.Equal(t, uint64(total), kept.kept.Sequence, "the checkpoint is where the evaluation is")
			require.Equal(t, counted, p.counters.snapshot()["lines"]["agent"])
			stops++
		})
	}
	require.EqualValues(t, n, total)
	require.Greater(t, stops, n/8)
}

// TestWhatWaitsIsInNoCheckpoint: while nothing can be evaluated, lines are read as far as may wait, and no checkpoint moves.
func TestWhatWaitsIsInNoCheckpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var kept memory
		var handed uint64
		p := newPipeline(lines{1000, func(seq uint64) { handed = seq }}, &kept)
		require.NoError(t, p.load(ctx))
		ended, evaluator, gate := make(chan error, 1), make(chan error, 1), make(chan struct{})
		reader := newAhead(p.http, p.patterns.Load)
		go func() {
			evaluator <- reader.each(ctx, func(ctx context.Context, r *reading) error {
				<-gate
				return p.evaluate(ctx, r)
			})
		}()
		go func() { ended <- p.stream.ConsumeBatches(ctx, "detect", 0, reader.take) }()
		for evaluated := range uint64(3) {
			synctest.Wait()
			require.Equal(t, evaluated+readAhead+2, handed, "as many as may wait, the one that is evaluated, and the one that was just read")
			require.NoError(t, p.save(ctx))
			require.Equal(t, evaluated, kept.kept.Sequence)
			gate <- struct{}{}
		}
		synctest.Wait()
		cancel()
		close(gate)
		require.NoError(t, <-ended)
		require.NoError(t, <-evaluator)
	})
}

// TestAfterAFailureIsReadAgain: what could not be kept is read again from the last checkpoint, in order.
func TestAfterAFailureIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		kept := memory{broken: 2}
		var handed []uint64
		p := newPipeline(lines{20, func(seq uint64) { handed = append(handed, seq) }}, &kept)
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx) }()
		wait := time.NewTimer(10 * checkpointEvery)
		<-wait.C
		cancel()
		<-done
		var once []uint64
		for seq := range uint64(20) {
			once = append(once, seq+1)
		}
		require.Equal(t, slices.Concat(once, once), handed, "the save by the clock and that at the end failed, then all was read once more")
		require.EqualValues(t, 20, kept.kept.Sequence)
	})
}

// TestExchangedPatternsReadWhatWaits: lines that were read by patterns that hold no more are read again by those that do.
func TestExchangedPatternsReadWhatWaits(t *testing.T) {
	t.Parallel()
	patterns, faults := parse.NewPatterns([]parse.Definition{{
		Service: "door", Programs: []string{"doord"}, Patterns: []parse.PatternDefinition{{Text: "refused <account:text> from <source:ip>", Kind: event.AuthFailed}},
	}})
	require.Empty(t, faults)
	p := newPipeline(lines{}, &memory{})
	require.NoError(t, p.load(t.Context()))
	b := guess(1)
	b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web doord[1]: refused root from 192.0.2.66", time.Now().UTC().Format(time.RFC3339Nano)))
	r := reading{seq: 1, batch: b}
	reader := lineReader{}
	reader.read(&r, p.patterns.Load())
	require.Len(t, r.lines, 1)
	p.useRules(detect.Rules{Patterns: patterns}, nil)
	require.NoError(t, p.evaluate(t.Context(), &r))
	require.Equal(t, map[string]int64{"ssh": 1, "door": 1}, p.counters.snapshot()["guesses"])
}

// TestReopenedOutlivesARestart: that a rule may fire again is kept though no line came since.
func TestReopenedOutlivesARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	writeRules(t, path, "service", 3)
	rules, err := detect.LoadRules(path)
	require.NoError(t, err)
	var kept memory
	p := newPipeline(lines{}, &kept)
	p.rules = rules
	require.NoError(t, p.load(t.Context()))
	for i := range 3 {
		e := event.Event{Kind: event.AuthFailed, Service: event.SSH, Host: "web", Source: netip.MustParseAddr("192.0.2.66"), Attempts: 1, Time: time.Now()}
		p.seq = uint64(i + 1)
		p.detector.Observe(event.Position{Sequence: p.seq}, e, nil)
	}
	require.Len(t, p.detector.Open(), 1)
	require.NoError(t, p.save(t.Context()))
	p.useRules(rules, []string{"mine"})
	require.NoError(t, p.save(t.Context()))
	again := newPipeline(lines{}, &kept)
	again.rules = rules
	require.NoError(t, again.load(t.Context()))
	require.Empty(t, again.detector.Open())
	require.Equal(t, uint64(3), again.seq)
}

// TestReadersMemoryIsReused: a short batch after a long one has none of its lines.
func TestReadersMemoryIsReused(t *testing.T) {
	t.Parallel()
	var reader lineReader
	var r reading
	for _, count := range []int{1, 700, 3, 0, 701} {
		r.batch = event.Batch{Received: time.Now()}
		for i := range count {
			r.batch.Lines = append(r.batch.Lines, guess(uint64(i)).Lines[0], []byte("no line of syslog"))
		}
		reader.read(&r, nil)
		require.Len(t, r.lines, count)
		for i, l := range r.lines {
			require.Equal(t, 2*i, l.index)
			require.EqualValues(t, 1024+i, l.Event.SourcePort)
		}
	}
}

// TestLoginsOutliveARestart: all that was learnt of logins comes back, also who logged in at all.
func TestLoginsOutliveARestart(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "kokkuri.db")})
	require.NoError(t, err)
	defer func() { require.NoError(t, st.Close()) }()
	source := netip.MustParsePrefix("192.0.2.20/32")
	learnt := decide.NewLogins(10, time.Hour)
	for _, kind := range []event.Kind{event.AuthFailed, event.AuthFailed, event.AuthFailed, event.AuthOK} {
		learnt.Observe(source, event.Event{Kind: kind, Host: "web", Account: "a", Attempts: 1, Time: time.Now()})
	}
	require.True(t, learnt.Known(source))
	put, gone := learnt.Changed()
	require.NoError(t, savedIn{st}.SaveCheckpoint(t.Context(), Checkpoint{Sequence: 1, Put: put, Gone: gone}))
	back, err := (&Server{store: st}).loadLogins(t.Context())
	require.NoError(t, err)
	require.True(t, back.Known(source))
	learnt.Observe(source, event.Event{Kind: event.AuthFailed, Host: "web", Account: "a", Attempts: 1, Time: time.Now()})
	put, _ = learnt.Changed()
	require.Len(t, put, 1, "what changes again is saved again")
}
