package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

func parse(text string, into any) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("read %T: %w", into, err)
	}
	return nil
}

// Allowed is an entry of the allow-list.
type Allowed struct {
	Prefix    netip.Prefix
	Note      string
	CreatedAt time.Time
}

// AllowAdd puts a network on the allow-list, or changes its note, durably.
func (s *SQLite) AllowAdd(ctx context.Context, a Allowed) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO allow (prefix, note, created_at) VALUES (?, ?, ?)
			ON CONFLICT (prefix) DO UPDATE SET note = excluded.note`, a.Prefix.Masked().String(), a.Note, nanos(a.CreatedAt))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("allow %s: %w", a.Prefix, err)
	}
	return nil
}

// AllowRemove takes a network off the allow-list, or returns ErrNotFound.
func (s *SQLite) AllowRemove(ctx context.Context, p netip.Prefix) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		return deleteOne(ctx, tx, "DELETE FROM allow WHERE prefix = ?", p.Masked().String())
	})
	if err != nil {
		return fmt.Errorf("disallow %s: %w", p, err)
	}
	return nil
}

// AllowList returns the allow-list, oldest entry first.
func (s *SQLite) AllowList(ctx context.Context) (out []Allowed, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT prefix, note, created_at FROM allow ORDER BY created_at, prefix")
	if err != nil {
		return nil, fmt.Errorf("read allow-list: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = []Allowed{}
	for rows.Next() {
		var a Allowed
		var prefix string
		var created int64
		if err := rows.Scan(&prefix, &a.Note, &created); err != nil {
			return nil, fmt.Errorf("read allow-list: %w", err)
		}
		if a.Prefix, err = netip.ParsePrefix(prefix); err != nil {
			return nil, fmt.Errorf("read allow-list: %w", err)
		}
		a.CreatedAt = instant(created)
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read allow-list: %w", err)
	}
	return out, nil
}

// Set stores a setting, durably.
func (s *SQLite) Set(ctx context.Context, name, value string) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store setting %s: %w", name, err)
	}
	return nil
}

// Get returns a setting; empty where it was never set.
func (s *SQLite) Get(ctx context.Context, name string) (string, error) {
	var value string
	err := s.reads.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return value, nil
}

// paused is the name of the setting that stops redirecting.
const paused = "paused"

// SetPaused stores whether redirecting is stopped.
func (s *SQLite) SetPaused(ctx context.Context, stop bool) error {
	value := ""
	if stop {
		value = "yes"
	}
	return s.Set(ctx, paused, value)
}

// Paused reports whether redirecting is stopped.
func (s *SQLite) Paused(ctx context.Context) (bool, error) {
	value, err := s.Get(ctx, paused)
	return value != "", err
}

// SaveCounters stores counters by name and label; those that are missing keep their value.
func (s *SQLite) SaveCounters(ctx context.Context, counters map[string]map[string]int64) error {
	err := s.writer.do(ctx, lazy, func(ctx context.Context, tx *sql.Tx) error {
		for name, labels := range counters {
			for label, value := range labels {
				_, err := tx.ExecContext(ctx, `INSERT INTO counters (name, label, value) VALUES (?, ?, ?)
					ON CONFLICT (name, label) DO UPDATE SET value = excluded.value`, name, label, value)
				if err != nil {
					return fmt.Errorf("put %s: %w", name, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store counters: %w", err)
	}
	return nil
}

// LoadCounters returns all counters by name and label.
func (s *SQLite) LoadCounters(ctx context.Context) (out map[string]map[string]int64, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT name, label, value FROM counters")
	if err != nil {
		return nil, fmt.Errorf("load counters: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = map[string]map[string]int64{}
	for rows.Next() {
		var name, label string
		var value int64
		if err := rows.Scan(&name, &label, &value); err != nil {
			return nil, fmt.Errorf("load counters: %w", err)
		}
		if out[name] == nil {
			out[name] = map[string]int64{}
		}
		out[name][label] = value
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load counters: %w", err)
	}
	return out, nil
}
