package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Pending is a batch that was sent and of which it isn't known yet that the stream has stored it.
type Pending struct {
	conn    *Conn
	subject string
	id      string
	header  nats.Header
	body    []byte
	ack     jetstream.PubAckFuture // nil where it could not be sent
}

// SendBatch sends a batch and does not wait, so that many can be under way at once; they are stored in the order of the
// calls, as long as the connection holds. It keeps nothing of b's lines. Only what [Pending.Wait] returned without an error is
// stored. Errors: ErrBatch.
func (c *Conn) SendBatch(b event.Batch) (*Pending, error) {
	h, body, err := encodeBatch(b)
	if err != nil {
		return nil, err
	}
	p := &Pending{conn: c, subject: LogsSubject(b.Host), id: b.ID, header: h, body: body}
	h.Set(jetstream.MsgIDHeader, c.messageID(p.subject, p.id))
	if c.nc.IsConnected() {
		if p.ack, err = c.js.PublishMsgAsync(&nats.Msg{Subject: p.subject, Header: h, Data: body}); err != nil {
			p.ack = nil // Wait sends it
		}
	}
	return p, nil
}

// Wait returns when the stream has stored the batch on disk. What was not acknowledged is sent again as by
// [Conn.PublishBatch], with the same errors. After an error it may be called again.
func (p *Pending) Wait(ctx context.Context) error {
	if p.ack != nil {
		ack := p.ack
		p.ack = nil // an answer comes once
		select {
		case <-ack.Ok():
			return nil
		case <-ack.Err(): // it is stored once, whoever stores it: it keeps its id
		case <-p.conn.closed:
		case <-ctx.Done():
			p.ack = ack
			return fmt.Errorf("publish on %s: not acknowledged: %w", p.subject, ctx.Err())
		}
	}
	return p.conn.publishDurably(ctx, p.subject, p.id, p.header, p.body)
}
