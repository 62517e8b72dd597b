package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// LoginKey names whose logins a Login remembers.
type LoginKey struct {
	Host   string
	Source netip.Prefix
}

// Login is what is remembered of one source's logins to one host.
type Login struct {
	LoginKey
	TrustedAt time.Time // last login with no failure remembered before it
	FailedAt  time.Time // first failure since
	LastAt    time.Time // last of either kind
	// SucceededAt is the last login, whatever came before it.
	SucceededAt time.Time
	Failures    int
	Account     string
}

// Checkpoint is where the pipeline goes on after a restart: its memory, together with its place in the stream.
type Checkpoint struct {
	Sequence uint64
	State    []byte
	Put      []Login    // logins that changed
	Gone     []LoginKey // logins that were forgotten
}

// SaveCheckpoint stores a checkpoint as a whole. It doesn't wait for the disk: after a power loss the
// pipeline goes on from an earlier one, which makes the same offences again, and these are stored once.
func (s *SQLite) SaveCheckpoint(ctx context.Context, c Checkpoint) error {
	state := c.State
	if state == nil {
		state = []byte{}
	}
	err := s.writer.do(ctx, lazy, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO checkpoint (id, sequence, state, saved_at) VALUES (1, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, state = excluded.state, saved_at = excluded.saved_at`,
			int64(c.Sequence), state, nanos(time.Now()))
		if err != nil {
			return fmt.Errorf("put state: %w", err)
		}
		return putLogins(ctx, tx, c.Put, c.Gone)
	})
	if err != nil {
		return fmt.Errorf("store checkpoint at %d: %w", c.Sequence, err)
	}
	return nil
}

func putLogins(ctx context.Context, tx *sql.Tx, put []Login, gone []LoginKey) error {
	for _, k := range gone {
		if _, err := tx.ExecContext(ctx, "DELETE FROM logins WHERE host = ? AND source = ?", k.Host, prefixText(k.Source)); err != nil {
			return fmt.Errorf("forget login: %w", err)
		}
	}
	if len(put) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO logins (host, source, trusted_at, failed_at, last_at, succeeded_at, failures, account)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host, source) DO UPDATE SET
			trusted_at = excluded.trusted_at, failed_at = excluded.failed_at, last_at = excluded.last_at,
			succeeded_at = excluded.succeeded_at, failures = excluded.failures, account = excluded.account`)
	if err != nil {
		return fmt.Errorf("put logins: %w", err)
	}
	defer insert.Close() //nolint:errcheck // it ends with the transaction
	for _, l := range put {
		_, err := insert.ExecContext(ctx, l.Host, prefixText(l.Source), nanos(l.TrustedAt), nanos(l.FailedAt), nanos(l.LastAt), nanos(l.SucceededAt), l.Failures, l.Account)
		if err != nil {
			return fmt.Errorf("put login: %w", err)
		}
	}
	return nil
}

// LoadCheckpoint returns the last checkpoint; sequence 0 and no state where there is none.
func (s *SQLite) LoadCheckpoint(ctx context.Context) (sequence uint64, state []byte, err error) {
	var at int64
	err = s.reads.QueryRowContext(ctx, "SELECT sequence, state FROM checkpoint WHERE id = 1").Scan(&at, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("load checkpoint: %w", err)
	}
	return uint64(at), state, nil
}

// Logins returns all that is remembered of logins since a time, oldest first.
func (s *SQLite) Logins(ctx context.Context, since time.Time) (out []Login, err error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT host, source, trusted_at, failed_at, last_at, succeeded_at, failures, account
		FROM logins WHERE last_at >= ? ORDER BY last_at`, nanos(since))
	if err != nil {
		return nil, fmt.Errorf("load logins: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var l Login
		var source string
		var trusted, failed, last, succeeded int64
		if err := rows.Scan(&l.Host, &source, &trusted, &failed, &last, &succeeded, &l.Failures, &l.Account); err != nil {
			return nil, fmt.Errorf("load logins: %w", err)
		}
		if l.Source, err = netip.ParsePrefix(source); err != nil {
			return nil, fmt.Errorf("load logins: source %q: %w", source, err)
		}
		l.TrustedAt, l.FailedAt, l.LastAt, l.SucceededAt = instant(trusted), instant(failed), instant(last), instant(succeeded)
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load logins: %w", err)
	}
	return out, nil
}
