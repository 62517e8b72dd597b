package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// PutReport adds a session or changes it, and adds evidence that is new, durably. A session that closed
// stays closed: the word that it opened may come again later.
func (s *SQLite) PutReport(ctx context.Context, r event.SessionReport) error {
	e := r.Session
	text, err := document(e)
	if err != nil {
		return err
	}
	err = s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		if err := putEvidence(ctx, tx, e.ID, r.Evidence); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO sessions (id, node, host, attacker, started_at, ended_at, document)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
			node = excluded.node, host = excluded.host, attacker = excluded.attacker, started_at = excluded.started_at,
			ended_at = excluded.ended_at, document = excluded.document
			WHERE sessions.ended_at = 0 OR excluded.ended_at > 0`,
			e.ID, e.Node, e.Host, prefixText(e.Attacker), nanos(e.StartedAt), nanos(e.EndedAt), text)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store session %s: %w", e.ID, err)
	}
	return nil
}

func putEvidence(ctx context.Context, tx *sql.Tx, session string, evidence []event.Evidence) error {
	for _, e := range evidence {
		e.Session = session
		text, err := document(e)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO evidence (session, number, kind, at, document) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (session, number) DO NOTHING`, session, e.Number, string(e.Kind), nanos(e.At), text); err != nil {
			return fmt.Errorf("put evidence: %w", err)
		}
	}
	return nil
}

// Evidence lists what a session left, in order.
func (s *SQLite) Evidence(ctx context.Context, session string) ([]event.Evidence, error) {
	out, err := documents(ctx, s.reads, "SELECT document FROM evidence WHERE session = ? ORDER BY number", []any{session}, 0,
		func(event.Evidence) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("list evidence of session %s: %w", session, err)
	}
	return out, nil
}

// Session returns a session by its id, or ErrNotFound.
func (s *SQLite) Session(ctx context.Context, id string) (event.Session, error) {
	e, err := single[event.Session](ctx, s.reads, "SELECT document FROM sessions WHERE id = ?", id)
	if err != nil {
		return e, fmt.Errorf("session %s: %w", id, err)
	}
	return e, nil
}

// Sessions lists sessions, newest first.
func (s *SQLite) Sessions(ctx context.Context, f Filter) ([]event.Session, error) {
	var w where
	w.equal("host", f.Host)
	w.equal("node", f.Node)
	w.source("attacker", f.Source)
	if f.Live {
		w.and("ended_at = 0")
	}
	out, err := documents(ctx, s.reads, "SELECT document FROM sessions"+w.String()+" ORDER BY started_at DESC, id", w.args, f.Limit,
		func(e event.Session) bool { return f.overlaps(e.Attacker) })
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return out, nil
}

// Attacker sums up what one attacker did.
type Attacker struct {
	Source    netip.Prefix
	FirstSeen time.Time
	LastSeen  time.Time
	Offences  int
	Guesses   int // of all offences
	Redirects int
	Live      int // redirects that have not ended
	Sessions  int
	Hosts     []string
}

// Attackers lists the attackers, the one that was last seen first. Of the filter Host does not apply to
// the sums: it picks the attackers that had to do with the host.
func (s *SQLite) Attackers(ctx context.Context, f Filter) (out []Attacker, err error) {
	var w where
	w.source("source", f.Source)
	if f.Live {
		w.and("live > 0")
	}
	if f.Host != "" {
		w.and(`source IN (SELECT source FROM offences WHERE host = ? UNION SELECT source FROM redirects WHERE host = ?
			UNION SELECT attacker FROM sessions WHERE host = ?)`, f.Host, f.Host, f.Host)
	}
	//nolint:gosec // the conditions are this package's, the values are bound
	query := "SELECT source, first_seen_at, last_seen_at, offences, guesses, redirects, live, sessions FROM attackers" +
		w.String() + " ORDER BY last_seen_at DESC, source"
	rows, err := s.reads.QueryContext(ctx, query, w.args...)
	if err != nil {
		return nil, fmt.Errorf("list attackers: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = []Attacker{}
	for rows.Next() {
		a, err := scanAttacker(rows)
		if err != nil {
			return nil, fmt.Errorf("list attackers: %w", err)
		}
		if !f.overlaps(a.Source) {
			continue
		}
		if out = append(out, a); len(out) == f.Limit {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list attackers: %w", err)
	}
	return out, s.addHosts(ctx, out)
}

func scanAttacker(rows *sql.Rows) (Attacker, error) {
	var a Attacker
	var source string
	var first, last int64
	if err := rows.Scan(&source, &first, &last, &a.Offences, &a.Guesses, &a.Redirects, &a.Live, &a.Sessions); err != nil {
		return a, fmt.Errorf("read row: %w", err)
	}
	prefix, err := netip.ParsePrefix(source)
	if err != nil {
		return a, fmt.Errorf("read source %q: %w", source, err)
	}
	a.Source, a.FirstSeen, a.LastSeen = prefix, instant(first), instant(last)
	return a, nil
}

// addHosts fills in which hosts the attackers had to do with.
func (s *SQLite) addHosts(ctx context.Context, attackers []Attacker) error {
	for i := range attackers {
		a := &attackers[i]
		source := a.Source.String()
		hosts, err := s.strings(ctx, `SELECT host FROM offences WHERE source = ? UNION SELECT host FROM redirects WHERE source = ?
			UNION SELECT host FROM sessions WHERE attacker = ? ORDER BY host`, source, source, source)
		if err != nil {
			return fmt.Errorf("list hosts of attacker %s: %w", source, err)
		}
		a.Hosts = hosts
	}
	return nil
}

func (s *SQLite) strings(ctx context.Context, query string, args ...any) (out []string, err error) {
	rows, err := s.reads.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = []string{}
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, fmt.Errorf("read row: %w", err)
		}
		out = append(out, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return out, nil
}
