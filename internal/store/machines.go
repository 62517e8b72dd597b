package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Host is what the server remembers of a protected host.
type Host struct {
	Name       string
	EnrolledAt time.Time // zero for a host that is known by the configuration only
	LastSeen   time.Time
	Status     event.HostStatus // the last that its agent told
}

// Node is what the server remembers of a honeypot node.
type Node struct {
	Name       string
	EnrolledAt time.Time
	LastSeen   time.Time
	Status     event.NodeStatus // the last that it told
}

// EnrolHost notes that a host got a certificate, durably.
func (s *SQLite) EnrolHost(ctx context.Context, name string, at time.Time) error {
	return s.enrol(ctx, "hosts", name, at)
}

// EnrolNode notes that a node got a certificate, durably.
func (s *SQLite) EnrolNode(ctx context.Context, name string, at time.Time) error {
	return s.enrol(ctx, "nodes", name, at)
}

func (s *SQLite) enrol(ctx context.Context, table, name string, at time.Time) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		//nolint:gosec // table is one of two words of this file
		query := "INSERT INTO " + table + ` (name, enrolled_at, last_seen_at, document) VALUES (?, ?, 0, '{}')
			ON CONFLICT (name) DO UPDATE SET enrolled_at = excluded.enrolled_at`
		_, err := tx.ExecContext(ctx, query, name, nanos(at))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store enrolment of %s in %s: %w", name, table, err)
	}
	return nil
}

// PutHost notes what an agent told and when.
func (s *SQLite) PutHost(ctx context.Context, status event.HostStatus, seen time.Time) error {
	status.Applied = nil // the redirects say it
	text, err := document(status)
	if err != nil {
		return err
	}
	err = s.writer.do(ctx, lazy, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO hosts (name, enrolled_at, last_seen_at, document) VALUES (?, 0, ?, ?)
			ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at, document = excluded.document`,
			status.Host, nanos(seen), text)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store status of host %s: %w", status.Host, err)
	}
	return nil
}

// PutNode notes what a node told and when, with the pots that it has now.
func (s *SQLite) PutNode(ctx context.Context, status event.NodeStatus, seen time.Time) error {
	pots := status.Pots
	status.Pots = nil // they have a table of their own
	text, err := document(status)
	if err != nil {
		return err
	}
	err = s.writer.do(ctx, lazy, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO nodes (name, enrolled_at, last_seen_at, document) VALUES (?, 0, ?, ?)
			ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at, document = excluded.document`,
			status.Node, nanos(seen), text)
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		return replacePots(ctx, tx, status.Node, pots)
	})
	if err != nil {
		return fmt.Errorf("store status of node %s: %w", status.Node, err)
	}
	return nil
}

func replacePots(ctx context.Context, tx *sql.Tx, node string, pots []event.Pot) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM pots WHERE node = ?", node); err != nil {
		return fmt.Errorf("replace pots: %w", err)
	}
	for _, p := range pots {
		p.Node = node
		text, err := document(p)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO pots (node, id, attacker, host, created_at, document) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (node, id) DO NOTHING`, node, p.ID, prefixText(p.Attacker), p.Host, nanos(p.CreatedAt), text)
		if err != nil {
			return fmt.Errorf("put pot %s: %w", p.ID, err)
		}
	}
	return nil
}

// RemoveHost forgets a host, or returns ErrNotFound. Its offences and redirects stay.
func (s *SQLite) RemoveHost(ctx context.Context, name string) error {
	return s.remove(ctx, "hosts", name)
}

// RemoveNode forgets a node and its pots, or returns ErrNotFound.
func (s *SQLite) RemoveNode(ctx context.Context, name string) error {
	return s.remove(ctx, "nodes", name)
}

func (s *SQLite) remove(ctx context.Context, table, name string) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		if table == "nodes" {
			if err := replacePots(ctx, tx, name, nil); err != nil {
				return err
			}
		}
		if table == "hosts" {
			if err := forgetPersona(ctx, tx, name); err != nil {
				return err
			}
		}
		return deleteOne(ctx, tx, "DELETE FROM "+table+" WHERE name = ?", name)
	})
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", name, table, err)
	}
	return nil
}

// deleteOne deletes a row; where there is none it returns ErrNotFound.
func deleteOne(ctx context.Context, tx *sql.Tx, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}

// Hosts lists the hosts by name.
func (s *SQLite) Hosts(ctx context.Context) ([]Host, error) {
	out := []Host{}
	err := s.machines(ctx, "hosts", func(name, text string, enrolled, seen time.Time) error {
		h := Host{Name: name, EnrolledAt: enrolled, LastSeen: seen}
		out = append(out, h)
		return parse(text, &out[len(out)-1].Status)
	})
	return out, err
}

// Nodes lists the nodes by name, with their pots.
func (s *SQLite) Nodes(ctx context.Context) ([]Node, error) {
	out := []Node{}
	err := s.machines(ctx, "nodes", func(name, text string, enrolled, seen time.Time) error {
		n := Node{Name: name, EnrolledAt: enrolled, LastSeen: seen}
		out = append(out, n)
		return parse(text, &out[len(out)-1].Status)
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].Status.Pots, err = s.Pots(ctx, Filter{Node: out[i].Name}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *SQLite) machines(ctx context.Context, table string, add func(name, text string, enrolled, seen time.Time) error) (err error) {
	//nolint:gosec // table is one of two words of this file
	query := "SELECT name, enrolled_at, last_seen_at, document FROM " + table + " ORDER BY name"
	rows, err := s.reads.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("list %s: %w", table, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var name, text string
		var enrolled, seen int64
		if err := rows.Scan(&name, &enrolled, &seen, &text); err != nil {
			return fmt.Errorf("list %s: %w", table, err)
		}
		if err := add(name, text, instant(enrolled), instant(seen)); err != nil {
			return fmt.Errorf("read %s of %s: %w", name, table, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list %s: %w", table, err)
	}
	return nil
}

// Pots lists the pots that the nodes last told of, newest first.
func (s *SQLite) Pots(ctx context.Context, f Filter) ([]event.Pot, error) {
	var w where
	w.equal("node", f.Node)
	w.equal("host", f.Host)
	w.source("attacker", f.Source)
	out, err := documents(ctx, s.reads, "SELECT document FROM pots"+w.String()+" ORDER BY created_at DESC, id", w.args, f.Limit,
		func(p event.Pot) bool { return f.overlaps(p.Attacker) })
	if err != nil {
		return nil, fmt.Errorf("list pots: %w", err)
	}
	return out, nil
}
