package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// SaveOffence stores an offence and its redirects, at once. An offence that is stored already changes nothing and reports false.
// It doesn't wait for the disk: after a power loss the pipeline goes on from an earlier checkpoint, as old as what else is kept,
// and the lines of the stream, which are on the disk, make the same offence again.
func (s *SQLite) SaveOffence(ctx context.Context, o event.Offence, redirects ...event.Redirect) (stored bool, err error) {
	text, err := document(o)
	if err != nil {
		return false, err
	}
	err = s.writer.do(ctx, prompt, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO offences (id, host, source, guesses, fired_at, document)
			VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			o.ID, o.Host, prefixText(o.Source), o.Count, nanos(o.FiredAt), text)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if stored = n == 1; !stored {
			return nil
		}
		for _, r := range redirects {
			if err := putRedirect(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("store offence %s: %w", o.ID, err)
	}
	return stored, nil
}

// Offence returns an offence by its id, or ErrNotFound.
func (s *SQLite) Offence(ctx context.Context, id string) (event.Offence, error) {
	o, err := single[event.Offence](ctx, s.reads, "SELECT document FROM offences WHERE id = ?", id)
	if err != nil {
		return o, fmt.Errorf("offence %s: %w", id, err)
	}
	return o, nil
}

// Offences lists offences, newest first.
func (s *SQLite) Offences(ctx context.Context, f Filter) ([]event.Offence, error) {
	var w where
	w.equal("host", f.Host)
	w.source("source", f.Source)
	out, err := documents(ctx, s.reads, "SELECT document FROM offences"+w.String()+" ORDER BY fired_at DESC, id", w.args, f.Limit,
		func(o event.Offence) bool { return f.overlaps(o.Source) })
	if err != nil {
		return nil, fmt.Errorf("list offences: %w", err)
	}
	return out, nil
}

// Prune forgets what ended before a time: redirects that are over, sessions that closed, offences
// without a live redirect, logins and tokens. It returns how many records it forgot.
func (s *SQLite) Prune(ctx context.Context, before time.Time) (int64, error) {
	t := nanos(before)
	var total int64
	for _, step := range []struct {
		what, query string
	}{
		{"redirects", `DELETE FROM redirects WHERE expires_at < ? AND state IN ('released', 'expired')`},
		{"offences", `DELETE FROM offences WHERE fired_at < ? AND NOT EXISTS (
			SELECT 1 FROM redirects r WHERE r.offence_id = offences.id AND r.state IN ('pending', 'active', 'refused'))`},
		{"sessions", `DELETE FROM sessions WHERE started_at < ? AND ended_at < ?`},
		{"evidence", `DELETE FROM evidence WHERE at < ? AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = evidence.session)`},
		{"logins", `DELETE FROM logins WHERE last_at < ?`},
		{"tokens", `DELETE FROM tokens WHERE expires_at < ?`},
	} {
		err := s.writer.do(ctx, lazy, func(ctx context.Context, tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, step.query, slices.Repeat([]any{t}, strings.Count(step.query, "?"))...)
			if err != nil {
				return fmt.Errorf("delete: %w", err)
			}
			n, err := result.RowsAffected()
			total += n
			return err //nolint:wrapcheck // wrapped below
		})
		if err != nil {
			return total, fmt.Errorf("forget old %s: %w", step.what, err)
		}
	}
	return total, nil
}
