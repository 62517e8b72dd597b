package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	prefetch      = 64 // batches of at most MaxBatchBytes each
	consumerIdle  = time.Minute
	redeliverWait = time.Second
	ackWait       = 5 * time.Second // after which a session comes again whose taker died
)

// ConsumeBatches calls fn with each batch of the stream after the sequence startAfter (0: all there are), in the
// order of the stream and one at a time, until ctx ends (returning nil) or fn returns an error (returning
// it). The caller remembers the position: nothing is acknowledged, and who starts again after the last
// sequence whose effects it kept misses nothing and sees nothing twice. Batches that the stream's byte
// budget discarded before they were read are counted in Counters.Lost and logged. Where the stream ends
// before startAfter, it is another stream (its files were removed): it is read from its beginning.
// Only the server's own connection may do this.
func (c *Conn) ConsumeBatches(
	ctx context.Context, durable string, startAfter uint64, fn func(ctx context.Context, seq uint64, b event.Batch) error,
) error {
	stream, err := c.js.Stream(ctx, StreamLogs)
	if err != nil {
		return fmt.Errorf("consume %s: %w", StreamLogs, err)
	}
	if last := stream.CachedInfo().State.LastSeq; startAfter > last {
		c.log.WarnContext(ctx, "the stream is younger than the position; reading it from its beginning",
			"stream", StreamLogs, "position", startAfter, "last", last)
		startAfter = 0
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: startAfter + 1,
		InactiveThreshold: consumerIdle, NamePrefix: durable + "_" + nuid.Next(),
	})
	if err != nil {
		return fmt.Errorf("consume %s: %w", StreamLogs, err)
	}
	last := startAfter
	return c.run(ctx, consumer, func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		seq := meta.Sequence.Stream
		if seq <= last {
			return nil
		}
		if lost := seq - last - 1; lost > 0 {
			c.lost.Add(lost)
			c.log.ErrorContext(ctx, "batches were discarded by the byte budget before they were read; raise the budget",
				"stream", StreamLogs, "lost", lost, "after", last)
		}
		last = seq
		b, err := decodeBatch(m.Subject(), m.Headers(), m.Data())
		if err != nil {
			c.malformed.Add(1)
			c.log.WarnContext(ctx, "batch left out", "subject", m.Subject(), "sequence", seq, "error", err)
			return nil
		}
		return fn(ctx, seq, b)
	}, nil)
}

// LastBatch is the sequence of the newest batch that was ever put into the stream; 0 where there was none. Only the server's own
// connection may ask for it.
func (c *Conn) LastBatch(ctx context.Context) (uint64, error) {
	stream, err := c.js.Stream(ctx, StreamLogs)
	if err != nil {
		return 0, fmt.Errorf("ask for the end of %s: %w", StreamLogs, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// errRead ends reading at the last batch that there was.
var errRead = errors.New("all was read")

// ReadBatches calls fn with each batch that the stream holds at this moment, in order and one at a time, and returns when
// the last was given, ctx ends or fn returns an error (returning it). It changes nothing, neither in the stream nor for
// who consumes it. Only the server's own connection may do this.
func (c *Conn) ReadBatches(ctx context.Context, fn func(ctx context.Context, seq uint64, b event.Batch) error) error {
	stream, err := c.js.Stream(ctx, StreamLogs)
	if err != nil {
		return fmt.Errorf("read %s: %w", StreamLogs, err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: state.FirstSeq, InactiveThreshold: consumerIdle,
		NamePrefix: "read_" + nuid.Next(),
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", StreamLogs, err)
	}
	err = c.run(ctx, consumer, func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		seq := meta.Sequence.Stream
		if seq <= state.LastSeq {
			if b, err := decodeBatch(m.Subject(), m.Headers(), m.Data()); err == nil { // what is malformed was told when it came
				if err := fn(ctx, seq, b); err != nil {
					return err
				}
			}
		}
		if seq >= state.LastSeq {
			return errRead
		}
		return nil
	}, nil)
	if errors.Is(err, errRead) {
		return nil
	}
	if err == nil && ctx.Err() != nil {
		return fmt.Errorf("read %s: %w", StreamLogs, context.Cause(ctx))
	}
	return err
}

// ConsumeSessions calls fn with each report of a session, in order and one at a time, until ctx ends (returning nil). The
// server remembers under the durable name what was done: a report for which fn returned an error, or
// during which the process ended, comes again; so fn must be repeatable.
func (c *Conn) ConsumeSessions(ctx context.Context, durable string, fn func(ctx context.Context, r event.SessionReport) error) error {
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, StreamSessions, jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		MaxAckPending: 1, AckWait: ackWait,
	})
	if err != nil {
		return fmt.Errorf("consume %s: %w", StreamSessions, err)
	}
	return c.run(ctx, consumer, func(m jetstream.Msg) error {
		var r event.SessionReport
		if err := json.Unmarshal(m.Data(), &r); err != nil {
			c.malformed.Add(1)
			c.log.WarnContext(ctx, "session left out", "subject", m.Subject(), "error", err)
			return c.settled(m.Term())
		}
		r.Session.Node = lastToken(m.Subject())
		if err := fn(ctx, r); err != nil {
			if ctx.Err() == nil {
				c.log.ErrorContext(ctx, "session not taken; it comes again", "session", r.Session.ID, "error", err)
			}
			return c.settled(m.NakWithDelay(redeliverWait))
		}
		return c.settled(m.Ack())
	}, func(m jetstream.Msg) { _ = c.settled(m.Nak()) })
}

// settled logs an acknowledgement that could not be sent; the message comes again then.
func (c *Conn) settled(err error) error {
	if err != nil {
		c.log.Warn("acknowledgement not sent", "stream", StreamSessions, "error", err)
	}
	return nil
}

// run hands the consumer's messages to fn until ctx ends or fn fails, and returns when no call of fn runs any
// more. Messages that came and are not handed on any more go to leave, if there is one.
func (c *Conn) run(ctx context.Context, consumer jetstream.Consumer, fn func(jetstream.Msg) error, leave func(jetstream.Msg)) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var (
		mu     sync.Mutex
		failed error
	)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if running.Err() != nil {
			if leave != nil {
				leave(m)
			}
			return
		}
		if failed = fn(m); failed != nil {
			stop()
		}
	}, jetstream.PullMaxMessages(prefetch), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		c.log.WarnContext(ctx, "consuming", "error", err)
	}))
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	select {
	case <-running.Done():
	case <-c.closed:
	}
	stop()
	mu.Lock() // until the running call has returned
	err = failed
	mu.Unlock()
	if leave == nil {
		consuming.Stop()
	} else {
		consuming.Drain()
		select {
		case <-consuming.Closed():
		case <-c.closed:
		case <-time.After(closeTimeout):
		}
	}
	switch {
	case err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())):
		return err
	case ctx.Err() == nil:
		return ErrClosed
	}
	return nil
}
