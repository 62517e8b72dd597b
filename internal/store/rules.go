package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// RuleOverride is what an operator said of a rule.
type RuleOverride struct {
	Rule      string
	Disabled  bool
	Redirect  bool // its action is redirect, whatever the file says
	ChangedAt time.Time
}

// SetRuleOverride stores what an operator says of a rule, durably; saying nothing removes what was said before.
func (s *SQLite) SetRuleOverride(ctx context.Context, o RuleOverride) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		if !o.Disabled && !o.Redirect {
			_, err := tx.ExecContext(ctx, "DELETE FROM rule_overrides WHERE rule = ?", o.Rule)
			return err //nolint:wrapcheck // wrapped below
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO rule_overrides (rule, disabled, redirect, changed_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (rule) DO UPDATE SET disabled = excluded.disabled, redirect = excluded.redirect, changed_at = excluded.changed_at`,
			o.Rule, o.Disabled, o.Redirect, nanos(o.ChangedAt))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store what holds of rule %s: %w", o.Rule, err)
	}
	return nil
}

// RuleOverrides lists what operators said of rules, by name.
func (s *SQLite) RuleOverrides(ctx context.Context) (out []RuleOverride, err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT rule, disabled, redirect, changed_at FROM rule_overrides ORDER BY rule")
	if err != nil {
		return nil, fmt.Errorf("read what holds of rules: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var o RuleOverride
		var changed int64
		if err := rows.Scan(&o.Rule, &o.Disabled, &o.Redirect, &changed); err != nil {
			return nil, fmt.Errorf("read what holds of rules: %w", err)
		}
		o.ChangedAt = instant(changed)
		out = append(out, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what holds of rules: %w", err)
	}
	return out, nil
}
