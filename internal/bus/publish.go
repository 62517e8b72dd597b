package bus

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kokkuri/kokkuri/internal/event"
)

const maxRetryPause = 2 * time.Second

// PublishBatch returns when the stream has stored the batch on disk. Until then it tries again, across
// reconnects and restarts of the server, as long as ctx lives; a batch that was stored already is dropped
// by its ID (within two minutes). A batch without lines is nothing to publish. Errors: ErrBatch, ErrForbidden,
// or why it was not stored when ctx ended.
func (c *Conn) PublishBatch(ctx context.Context, b event.Batch) error {
	if len(b.Lines) == 0 {
		return nil
	}
	h, body, err := encodeBatch(b)
	if err != nil {
		return err
	}
	return c.publishDurably(ctx, LogsSubject(b.Host), b.ID, h, body)
}

// PublishSession returns when the stream has stored the report on disk; otherwise as PublishBatch.
func (c *Conn) PublishSession(ctx context.Context, r event.SessionReport) error {
	if err := ValidName(r.Session.Node); err != nil {
		return fmt.Errorf("publish session %s: node: %w", r.Session.ID, err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("publish session %s: %w", r.Session.ID, err)
	}
	return c.publishDurably(ctx, SessionsSubject(r.Session.Node), string(body), nats.Header{}, body)
}

// publishDurably publishes until the stream acknowledged. id is the same for the same content.
func (c *Conn) publishDurably(ctx context.Context, subject, id string, h nats.Header, body []byte) error {
	h.Set(jetstream.MsgIDHeader, c.messageID(subject, id))
	forbidden, stop := c.watchForbidden(subject)
	defer stop()
	wait := attemptPause
	for attempt := 1; ; attempt++ {
		down, err := c.awaitUp(ctx)
		if err != nil {
			return fmt.Errorf("publish on %s: %w", subject, err)
		}
		err = c.publishOnce(ctx, down, forbidden, &nats.Msg{Subject: subject, Header: h, Data: body})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrForbidden), errors.Is(err, ErrBatch), errors.Is(err, ErrClosed):
			return fmt.Errorf("publish on %s: %w", subject, err)
		case ctx.Err() != nil:
			return fmt.Errorf("publish on %s: not acknowledged: %w", subject, errors.Join(ctx.Err(), err))
		}
		if attempt%10 == 1 && !errors.Is(err, ErrDisconnected) {
			c.log.WarnContext(ctx, "the bus did not store a message; trying again", "subject", subject, "attempt", attempt, "error", err)
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("publish on %s: not acknowledged: %w", subject, err)
		}
		wait = min(2*wait, maxRetryPause)
	}
}

// publishOnce publishes m and waits for the acknowledgement, the end of the connection, or a refusal.
func (c *Conn) publishOnce(ctx context.Context, down <-chan struct{}, forbidden <-chan error, m *nats.Msg) error {
	reply, err := c.roundTrip(ctx, down, forbidden, m, ackTimeout)
	if err != nil {
		return err
	}
	var ack struct {
		Stream string              `json:"stream"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return fmt.Errorf("acknowledgement: %w: %w", ErrMalformed, err)
	}
	if ack.Error != nil {
		return fmt.Errorf("the stream answered: %w", ack.Error)
	}
	if ack.Stream == "" {
		return fmt.Errorf("acknowledgement: %w: it names no stream", ErrMalformed)
	}
	return nil
}

// roundTrip sends m and returns the answer. It gives up when the connection goes down, when the server
// refuses the subject, and after the timeout.
func (c *Conn) roundTrip(
	ctx context.Context, down <-chan struct{}, forbidden <-chan error, m *nats.Msg, timeout time.Duration,
) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cause := make(chan error, 1)
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-down:
			cause <- ErrDisconnected
			cancel()
		case err := <-forbidden:
			cause <- err
			cancel()
		case <-done:
		}
	}()
	reply, err := c.nc.RequestMsgWithContext(ctx, m)
	close(done)
	<-watched
	if err == nil {
		return reply, nil
	}
	select {
	case err := <-cause:
		return nil, err
	default:
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ErrNoResponder
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, fmt.Errorf("%w: %w", ErrBatch, err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return nil, ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected):
		return nil, ErrDisconnected
	}
	return nil, fmt.Errorf("no answer: %w", err)
}

// messageID names a message for the stream's duplicate window. The window is one for the whole
// stream, so an id that others could guess would let them have a host's lines dropped as duplicates
// of their own: it is keyed with a secret of the sender.
func (c *Conn) messageID(subject, id string) string {
	mac := hmac.New(sha256.New, c.opts.DedupeKey)
	_, _ = fmt.Fprintf(mac, "%s\x00%s", subject, id)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
