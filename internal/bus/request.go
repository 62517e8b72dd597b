package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	headerError    = "Kokkuri-Error"
	handlerTimeout = 30 * time.Second
	maxHandlers    = 32 // concurrent calls of one Serve
)

// Request sends in as JSON and decodes the answer. It waits for the connection and for the answer as long
// as ctx lives. Errors: *RemoteError (the other side's), ErrNoResponder, ErrForbidden, ErrDisconnected.
func Request[T, R any](ctx context.Context, c *Conn, subject string, in T) (R, error) {
	var out R
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("request %s: %w", subject, err)
	}
	forbidden, stop := c.watchForbidden(subject)
	defer stop()
	down, err := c.awaitUp(ctx)
	if err != nil {
		return out, fmt.Errorf("request %s: %w", subject, err)
	}
	timeout := handlerTimeout
	if t, ok := ctx.Deadline(); ok {
		timeout = time.Until(t)
	}
	reply, err := c.roundTrip(ctx, down, forbidden, &nats.Msg{Subject: subject, Data: body}, timeout)
	if err != nil {
		return out, fmt.Errorf("request %s: %w", subject, err)
	}
	if reply.Header.Get(headerError) != "" {
		remote := &RemoteError{}
		if err := json.Unmarshal(reply.Data, remote); err != nil {
			return out, fmt.Errorf("request %s: error answer: %w: %w", subject, ErrMalformed, err)
		}
		remote.Subject, remote.Code, remote.Text = subject, printable(remote.Code), printable(remote.Text)
		return out, remote
	}
	if err := json.Unmarshal(reply.Data, &out); err != nil {
		return out, fmt.Errorf("request %s: answer: %w: %w", subject, ErrMalformed, err)
	}
	return out, nil
}

// Serve answers requests on subject, which may end in a wildcard: fn gets the last token of the subject
// that a request came on (the host's or node's name, checked by the broker against its certificate),
// "" where the subject has one token only. Up to 32 calls run at once, each with 30 seconds. An error of
// fn reaches the requester as *RemoteError, with its code if it is one. stop waits for running calls.
func Serve[T, R any](c *Conn, subject string, fn func(ctx context.Context, subjectToken string, in T) (R, error)) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	slots := make(chan struct{}, maxHandlers)
	var running sync.WaitGroup
	sub, err := c.subscribe(subject, func(m *nats.Msg) {
		if !replyAllowed(m.Subject, m.Reply) {
			c.refused.Add(1)
			c.log.Warn("request refused: its reply subject is not the requester's", "subject", m.Subject)
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
			defer cancel()
			c.answer(m, func(data []byte) (any, error) {
				var in T
				if err := json.Unmarshal(data, &in); err != nil {
					c.malformed.Add(1)
					return nil, &RemoteError{Code: "malformed", Text: "the request is not what this subject takes"}
				}
				return fn(ctx, lastToken(m.Subject), in)
			})
		})
	})
	if err != nil {
		cancel()
		return nil, err
	}
	return sync.OnceFunc(func() {
		_ = sub.Unsubscribe()
		cancel()
		running.Wait()
	}), nil
}

func (c *Conn) answer(m *nats.Msg, fn func([]byte) (any, error)) {
	out, err := fn(m.Data)
	reply := nats.NewMsg(m.Reply)
	if err != nil {
		remote := &RemoteError{}
		if !errors.As(err, &remote) {
			remote = &RemoteError{Code: "error", Text: err.Error()}
		}
		reply.Header.Set(headerError, "1")
		out = remote
	}
	if reply.Data, err = json.Marshal(out); err != nil {
		c.log.Error("answer can't be encoded", "subject", m.Subject, "error", err)
		return
	}
	if err := c.nc.PublishMsg(reply); err != nil {
		c.log.Warn("answer not sent", "subject", m.Subject, "error", err)
	}
}

// Publish sends v as JSON to whoever subscribes now. It is not stored; an error says that it was not sent.
func Publish[T any](c *Conn, subject string, v T) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	if err := c.nc.Publish(subject, body); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}

// Subscribe calls fn, one at a time and in order, with what is published on subject. It returns ErrForbidden
// where the certificate does not allow that. What can't be decoded is counted and left out.
func Subscribe[T any](c *Conn, subject string, fn func(T)) (stop func(), err error) {
	sub, err := c.subscribe(subject, func(m *nats.Msg) {
		var v T
		if err := json.Unmarshal(m.Data, &v); err != nil {
			c.malformed.Add(1)
			c.log.Warn("message left out: it can't be decoded", "subject", m.Subject, "error", err)
			return
		}
		fn(v)
	})
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { _ = sub.Unsubscribe() }), nil
}

// subscribe subscribes with bounded queues and, while connected, waits until the server took or refused it.
func (c *Conn) subscribe(subject string, fn nats.MsgHandler) (*nats.Subscription, error) {
	sub, err := c.nc.Subscribe(subject, fn)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	if err := sub.SetPendingLimits(pendingMsgs, pendingBytes); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	// Not connected: the subscription is made when it is. Connected: a refusal is read before the answer to the flush.
	_ = c.nc.FlushTimeout(subscribeWait)
	if err := c.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && quoted(err.Error()) == subject {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, ErrForbidden)
	}
	return sub, nil
}
