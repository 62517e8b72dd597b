package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// errClosed is returned for a write that comes after Close.
var errClosed = errors.New("the store is closed")

// groupMost bounds how many writes are committed together.
const groupMost = 64

// urgency says how soon a write is made, and what it survives.
type urgency int

const (
	lazy    urgency = iota // after all others; survives the process's death but not, for some moments, a power loss
	prompt                 // before lazy ones, and survives the same
	durable                // likewise, and is on the disk when it returns
)

// op is one write.
type op struct {
	ctx  context.Context //nolint:containedctx // the caller's, to leave out what nobody waits for any more
	how  urgency
	fn   func(ctx context.Context, tx *sql.Tx) error
	done chan error
}

// writer commits writes in groups: what comes while a commit is at work shares the next one, and, where one of them is durable,
// its wait for the disk. A power loss takes back the last writes in the order in which they were made, never one without
// all that came after it: nothing that is kept was made on the ground of something that is not.
type writer struct {
	conn  *sql.Conn
	soon  chan *op
	late  chan *op
	ended chan struct{}
	dirty atomic.Bool
	full  bool // what PRAGMA synchronous is
}

func newWriter(conn *sql.Conn) *writer {
	return &writer{conn: conn, soon: make(chan *op), late: make(chan *op), ended: make(chan struct{}), full: true}
}

// do runs fn in a transaction and returns when it is committed. An fn that fails is undone alone.
func (w *writer) do(ctx context.Context, how urgency, fn func(ctx context.Context, tx *sql.Tx) error) error {
	o := &op{ctx: ctx, how: how, fn: fn, done: make(chan error, 1)}
	into := w.soon
	if how == lazy {
		into = w.late
	}
	select {
	case into <- o:
	case <-ctx.Done():
		return fmt.Errorf("wait for the store: %w", ctx.Err())
	case <-w.ended:
		return errClosed
	}
	return <-o.done // not ctx: the caller's variables belong to fn until then
}

func (w *writer) run(ctx context.Context) {
	defer close(w.ended)
	for {
		o, ok := w.next(ctx)
		if !ok {
			return
		}
		w.commit(context.WithoutCancel(ctx), w.gather(o))
	}
}

// next waits for a write; a lazy one comes last.
func (w *writer) next(ctx context.Context) (o *op, ok bool) {
	select {
	case o = <-w.soon:
		return o, true
	default:
	}
	select {
	case o = <-w.soon:
		return o, true
	case o = <-w.late:
		return o, true
	case <-ctx.Done():
		return nil, false
	}
}

// gather adds the writes that wait already, but for lazy ones.
func (w *writer) gather(first *op) []*op {
	group := []*op{first}
	for len(group) < groupMost {
		select {
		case o := <-w.soon:
			group = append(group, o)
		default:
			return group
		}
	}
	return group
}

// commit writes a group and answers each of its callers.
func (w *writer) commit(ctx context.Context, group []*op) {
	full := slices.ContainsFunc(group, func(o *op) bool { return o.how == durable })
	results := make([]error, len(group))
	err := w.transaction(ctx, group, full, results)
	w.dirty.Store(true)
	for i, o := range group {
		if err != nil {
			o.done <- err
			continue
		}
		o.done <- results[i]
	}
}

func (w *writer) transaction(ctx context.Context, group []*op, full bool, results []error) error {
	if err := w.synchronous(ctx, full); err != nil {
		return err
	}
	tx, err := w.conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	for i, o := range group {
		if results[i], err = one(ctx, tx, o, len(group) > 1); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if len(group) == 1 && results[0] != nil {
		if err := tx.Rollback(); err != nil {
			return fmt.Errorf("roll back: %w", err)
		}
		return nil
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// one runs one write of a group; it is undone where it fails.
func one(ctx context.Context, tx *sql.Tx, o *op, shared bool) (result, err error) {
	if o.ctx.Err() != nil {
		return fmt.Errorf("wait for the store: %w", o.ctx.Err()), nil
	}
	if !shared {
		return o.fn(ctx, tx), nil
	}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT one"); err != nil {
		return nil, fmt.Errorf("set savepoint: %w", err)
	}
	if result = o.fn(ctx, tx); result != nil {
		if _, err := tx.ExecContext(ctx, "ROLLBACK TO one"); err != nil {
			return nil, fmt.Errorf("roll back to savepoint: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "RELEASE one"); err != nil {
		return nil, fmt.Errorf("release savepoint: %w", err)
	}
	return result, nil
}

// synchronous sets whether a commit waits for the disk.
func (w *writer) synchronous(ctx context.Context, full bool) error {
	if w.full == full {
		return nil
	}
	mode := "NORMAL"
	if full {
		mode = "FULL"
	}
	if _, err := w.conn.ExecContext(ctx, "PRAGMA synchronous = "+mode); err != nil {
		return fmt.Errorf("set synchronous to %s: %w", mode, err)
	}
	w.full = full
	return nil
}

func (w *writer) close() error {
	if err := w.conn.Close(); err != nil {
		return fmt.Errorf("close the writing connection: %w", err)
	}
	return nil
}
