package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Persona is what a host's agent learnt.
type Persona struct {
	Host      string
	ChangedAt time.Time
	Persona   event.Persona
}

// PutPersona stores what a host is like. One that is as before changes nothing, not even its time.
func (s *SQLite) PutPersona(ctx context.Context, host string, p event.Persona, at time.Time) error {
	text, err := document(p)
	if err != nil {
		return err
	}
	err = s.writer.do(ctx, lazy, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO personas (host, changed_at, document) VALUES (?, ?, ?)
			ON CONFLICT (host) DO UPDATE SET changed_at = excluded.changed_at, document = excluded.document
			WHERE personas.document <> excluded.document`, host, nanos(at), text)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store persona of host %s: %w", host, err)
	}
	return nil
}

// Persona returns what a host is like, or ErrNotFound.
func (s *SQLite) Persona(ctx context.Context, host string) (Persona, error) {
	p := Persona{Host: host}
	var text string
	var changed int64
	err := s.reads.QueryRowContext(ctx, "SELECT changed_at, document FROM personas WHERE host = ?", host).Scan(&changed, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return p, ErrNotFound
	}
	if err == nil {
		p.ChangedAt = instant(changed)
		err = parse(text, &p.Persona)
	}
	if err != nil {
		return p, fmt.Errorf("read persona of host %s: %w", host, err)
	}
	return p, nil
}

// Personas lists what hosts are like, by host.
func (s *SQLite) Personas(ctx context.Context) (out []Persona, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT host, changed_at, document FROM personas ORDER BY host")
	if err != nil {
		return nil, fmt.Errorf("list personas: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p Persona
		var text string
		var changed int64
		if err := rows.Scan(&p.Host, &changed, &text); err != nil {
			return nil, fmt.Errorf("list personas: %w", err)
		}
		if err := parse(text, &p.Persona); err != nil {
			return nil, fmt.Errorf("read persona of host %s: %w", p.Host, err)
		}
		p.ChangedAt = instant(changed)
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list personas: %w", err)
	}
	return out, nil
}

// AssignPersona stores, durably, which persona a host's pots have; the empty name takes it back.
func (s *SQLite) AssignPersona(ctx context.Context, host, persona string, at time.Time) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		if persona == "" {
			_, err := tx.ExecContext(ctx, "DELETE FROM persona_assignments WHERE host = ?", host)
			return err //nolint:wrapcheck // wrapped below
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO persona_assignments (host, persona, changed_at) VALUES (?, ?, ?)
			ON CONFLICT (host) DO UPDATE SET persona = excluded.persona, changed_at = excluded.changed_at`, host, persona, nanos(at))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("assign a persona to host %s: %w", host, err)
	}
	return nil
}

// AssignedPersonas returns the assigned personas by host.
func (s *SQLite) AssignedPersonas(ctx context.Context) (out map[string]string, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT host, persona FROM persona_assignments")
	if err != nil {
		return nil, fmt.Errorf("read assigned personas: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = map[string]string{}
	for rows.Next() {
		var host, persona string
		if err := rows.Scan(&host, &persona); err != nil {
			return nil, fmt.Errorf("read assigned personas: %w", err)
		}
		out[host] = persona
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read assigned personas: %w", err)
	}
	return out, nil
}

// forgetPersona removes what is known of a host's persona.
func forgetPersona(ctx context.Context, tx *sql.Tx, host string) error {
	for _, query := range []string{"DELETE FROM personas WHERE host = ?", "DELETE FROM persona_assignments WHERE host = ?"} {
		if _, err := tx.ExecContext(ctx, query, host); err != nil {
			return fmt.Errorf("forget its persona: %w", err)
		}
	}
	return nil
}
