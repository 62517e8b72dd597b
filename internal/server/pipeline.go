package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// batches is the stream of log lines.
type batches interface {
	ConsumeBatches(ctx context.Context, durable string, startAfter uint64, fn func(ctx context.Context, seq uint64, b event.Batch) error) error
	LastBatch(ctx context.Context) (uint64, error)
}

// pipeline reads the stream of lines: parse, detect, decide.
type pipeline struct {
	stream    batches
	store     checkpoints
	rules     detect.Rules // changes under mu
	onList    func(list string, source netip.Addr) bool
	newLogins func(ctx context.Context) (*decide.Logins, error)
	over      func(ctx context.Context, offence string) (bool, error) // its redirect has ended
	offence   func(ctx context.Context, id string) (event.Offence, error)
	decider   *decide.Decider
	trustUDP  []netip.Prefix
	http      parse.HTTPOptions
	roads     *roads
	counters  *counters
	tail      *tail
	now       func() time.Time
	log       *slog.Logger

	patterns atomic.Pointer[parse.Patterns] // of rules, for who reads lines without mu

	mu        sync.Mutex // over all below
	joiner    *parse.Joiner
	again     lineReader // for batches that were read by patterns that hold no more
	detector  *detect.Detector
	tally     tally
	weighed   []weighed // memory for a weigher
	clocks    clocks
	origins   origins
	second    map[string]time.Time            // host and road that last brought what another brings already
	seq       uint64                          // of the last batch that was evaluated
	current   atomic.Pointer[detect.Detector] // detector, for who must not wait for mu
	begun     uint64                          // of the last batch that was begun to be evaluated
	before    uint64                          // of the last batch that may have been evaluated before the last checkpoint was loaded
	saved     uint64                          // of the last checkpoint
	reopened  bool                            // since the last checkpoint rules were let fire again
	restUntil time.Time                       // no other is made by the clock before
}

// run reads until ctx ends. What can't be stored is read again from the last checkpoint.
func (p *pipeline) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.once(ctx); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "the pipeline starts again from its last checkpoint", "error", err)
			pause(ctx, time.Second)
		}
	}
}

// once reads from the last checkpoint on. Lines are read by one goroutine and evaluated by another, both in the order of the stream.
// A checkpoint knows of what was evaluated alone: what was read and waits is read again.
func (p *pipeline) once(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	parts.Go(func() { stop(p.saveRegularly(ctx)) })
	ahead := newAhead(p.http, p.patterns.Load)
	parts.Go(func() {
		if err := ahead.each(ctx, p.evaluate); err != nil {
			stop(err)
		}
	})
	err := p.stream.ConsumeBatches(ctx, "detect", p.seq, ahead.take)
	stop(err)
	parts.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	// Once more with a context of its own: at a graceful stop nothing needs to be read again.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if saveErr := p.save(last); saveErr != nil {
		return saveErr
	}
	return err
}

func (p *pipeline) newDetector() *detect.Detector {
	p.mu.Lock()
	defer p.mu.Unlock()
	return detect.New(detect.Options{Rules: p.rules, OnList: p.onList})
}

// parserOptions are what the lines are read by. It reads the rules, over which the lock must be held.
func (p *pipeline) parserOptions() parse.Options {
	return parse.Options{HTTP: p.http, Patterns: p.rules.Patterns}
}

// evaluate takes what was read of a batch of lines to its end: settle, detect, decide.
func (p *pipeline) evaluate(ctx context.Context, r *reading) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.tally.flush(p.counters)
	if r.patterns != p.rules.Patterns { // they were exchanged while it waited
		p.again.read(r, p.rules.Patterns)
	}
	p.begun = r.seq
	p.tally.add("lines", string(r.batch.Road), int64(len(r.batch.Lines)))
	w := p.weigher(&r.batch)
	for i := range r.lines {
		if err := p.line(ctx, r, &r.lines[i], &w); err != nil {
			return err
		}
	}
	w.learn(&r.last)
	p.seq = r.seq
	if p.seq-p.saved >= checkpointBatches && !p.now().Before(p.restUntil) {
		return p.saveLocked(ctx)
	}
	return nil
}

func (p *pipeline) line(ctx context.Context, r *reading, l *lineReading, w *weigher) error {
	p.joiner.Settle(&l.Reading)
	e, n := &l.Event, l.Note()
	if n.Forged || e.Kind != event.None {
		p.note(&r.batch, e.Kind, n)
	}
	if e.Kind == event.None {
		return nil
	}
	switch w.weigh(e, n) {
	case untrusted:
		p.tally.add("events_untrusted", r.batch.Host, 1)
		return nil
	case bySecondRoad:
		label := r.batch.Host + " " + string(r.batch.Road)
		p.second[label] = p.now()
		p.tally.add("events_second_road", label, 1)
		return nil
	case counts:
	}
	p.tally.add("events", string(e.Kind), 1)
	if e.Attempts > 0 {
		p.tally.add("guesses", string(e.Service), int64(e.Attempts))
	}
	if p.tail.watched() {
		seen := *e
		p.tail.publish(api.Watched{Event: &seen})
	}
	offences := p.detector.Observe(event.Position{Sequence: r.seq, Index: l.index}, *e, r.batch.Lines[l.index])
	if e.Kind == event.AuthFailed || parse.ProvesLogin(*e) {
		p.decider.ObserveLogin(event.SourcePrefix(e.Source, 64), *e)
	}
	if len(offences) == 0 {
		return nil
	}
	return p.offend(ctx, offences, r)
}

// offend has it decided what follows from offences that a batch completed.
func (p *pipeline) offend(ctx context.Context, offences []event.Offence, r *reading) error {
	at := p.now() // reading a line and detecting take microseconds
	for _, o := range offences {
		// Read again after a crash: perhaps the offence is stored, and its redirect has ended already.
		if r.seq <= p.before && o.Action == event.ActionRedirect {
			over, err := p.over(ctx, o.ID)
			if err != nil {
				return err
			}
			if over {
				p.detector.Close(o.ID)
				continue
			}
		}
		o.ReceivedAt, o.EventAt, o.FiredAt = r.batch.Received, at, p.now()
		p.counters.add("offences", o.Rule)
		if err := p.decider.Offence(ctx, o); err != nil {
			return fmt.Errorf("decide about offence %s: %w", o.ID, err)
		}
	}
	return nil
}

// note counts what of a line does not show in its event.
func (p *pipeline) note(b *event.Batch, k event.Kind, n parse.Note) {
	p.origins.note(b.Host, b.Road, k, n, b.Received)
	switch {
	case n.Forged:
		p.counters.add("lines_forged", b.Host+" "+string(n.Service))
	case n.NoAddress:
		p.counters.add("events_without_address", b.Host+" "+string(n.Service))
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
