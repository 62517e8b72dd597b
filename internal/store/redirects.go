package store

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// liveStates are those of event.State.Live.
const liveStates = "state IN ('pending', 'active', 'refused')"

// SaveRedirect adds or changes a redirect, durably.
func (s *SQLite) SaveRedirect(ctx context.Context, r event.Redirect) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error { return putRedirect(ctx, tx, r) })
	if err != nil {
		return fmt.Errorf("store redirect %s: %w", r.ID, err)
	}
	return nil
}

func putRedirect(ctx context.Context, tx *sql.Tx, r event.Redirect) error {
	text, err := document(r)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO redirects (id, offence_id, host, source, node, state, created_at, expires_at, document)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
		offence_id = excluded.offence_id, host = excluded.host, source = excluded.source, node = excluded.node, state = excluded.state,
		created_at = excluded.created_at, expires_at = excluded.expires_at, document = excluded.document`,
		r.ID, r.OffenceID, r.Host, prefixText(r.Source), r.Node, string(r.State), nanos(r.CreatedAt), nanos(r.ExpiresAt), text)
	if err != nil {
		return fmt.Errorf("put redirect: %w", err)
	}
	return nil
}

// Redirect returns a redirect by its id, or ErrNotFound.
func (s *SQLite) Redirect(ctx context.Context, id string) (event.Redirect, error) {
	r, err := single[event.Redirect](ctx, s.reads, "SELECT document FROM redirects WHERE id = ?", id)
	if err != nil {
		return r, fmt.Errorf("redirect %s: %w", id, err)
	}
	return r, nil
}

// Redirects lists redirects, newest first.
func (s *SQLite) Redirects(ctx context.Context, f Filter) ([]event.Redirect, error) {
	var w where
	w.equal("host", f.Host)
	w.equal("node", f.Node)
	w.source("source", f.Source)
	if f.Live {
		w.and(liveStates)
	}
	out, err := documents(ctx, s.reads, "SELECT document FROM redirects"+w.String()+" ORDER BY created_at DESC, id", w.args, f.Limit,
		func(r event.Redirect) bool { return f.overlaps(r.Source) })
	if err != nil {
		return nil, fmt.Errorf("list redirects: %w", err)
	}
	return out, nil
}

// Leases lists the leases of a node: the endpoints of the live redirects. Their ids are the redirects'.
func (s *SQLite) Leases(ctx context.Context, node string) ([]event.Lease, error) {
	redirects, err := documents[event.Redirect](ctx, s.reads, "SELECT document FROM leases WHERE node = ? ORDER BY created_at, id", []any{node}, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("list leases of %s: %w", node, err)
	}
	out := make([]event.Lease, 0, len(redirects))
	for _, r := range redirects {
		out = append(out, event.Lease{
			ID: r.ID, Attacker: r.Source, Host: r.Host, Service: r.Service, Endpoint: r.Endpoint,
			Node: r.Node, Created: r.CreatedAt, Expires: r.ExpiresAt,
		})
	}
	return out, nil
}

// RedirectsOf lists the redirects that an offence caused.
func (s *SQLite) RedirectsOf(ctx context.Context, offence string) ([]event.Redirect, error) {
	out, err := documents[event.Redirect](ctx, s.reads, "SELECT document FROM redirects WHERE offence_id = ? ORDER BY id", []any{offence}, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("list redirects of offence %s: %w", offence, err)
	}
	return out, nil
}

// repeatsQuery is prepared: a redirect waits for its answer.
const repeatsQuery = `SELECT COUNT(DISTINCT offence_id) FROM redirects WHERE source = ? AND offence_id NOT IN ('', ?) AND state <> 'released'`

// Repeats says for how many other offences a source was redirected before, other than those that were released.
func (s *SQLite) Repeats(ctx context.Context, source netip.Prefix, offence string) (int, error) {
	var n int
	err := s.repeats.QueryRowContext(ctx, prefixText(source), offence).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count redirects of %s: %w", source, err)
	}
	return n, nil
}
