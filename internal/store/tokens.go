package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/pki"
)

// PutToken implements pki.TokenStore.
func (s *SQLite) PutToken(ctx context.Context, t pki.StoredToken) error {
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO tokens (hash, role, name, expires_at, claimant) VALUES (?, ?, ?, ?, '')",
			t.Hash, string(t.Role), t.Name, nanos(t.Expires))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("store token for %s %s: %w", t.Role, t.Name, err)
	}
	return nil
}

// TakeToken implements pki.TokenStore.
func (s *SQLite) TakeToken(ctx context.Context, hash, claimant string, now time.Time) (pki.StoredToken, pki.TokenStatus, error) {
	t, status := pki.StoredToken{Hash: hash}, pki.TokenUnknown
	err := s.writer.do(ctx, durable, func(ctx context.Context, tx *sql.Tx) error {
		var role, by string
		var expires int64
		err := tx.QueryRowContext(ctx, "SELECT role, name, expires_at, claimant FROM tokens WHERE hash = ?", hash).
			Scan(&role, &t.Name, &expires, &by)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		t.Role, t.Expires = pki.Role(role), instant(expires)
		switch {
		case by != "" && by != claimant:
			status = pki.TokenUsed
			return nil
		case now.After(t.Expires):
			status = pki.TokenExpired
			return nil
		}
		if _, err := tx.ExecContext(ctx, "UPDATE tokens SET claimant = ? WHERE hash = ?", claimant, hash); err != nil {
			return fmt.Errorf("mark as used: %w", err)
		}
		status = pki.TokenOK
		return nil
	})
	if err != nil {
		return pki.StoredToken{}, pki.TokenUnknown, fmt.Errorf("take enrolment token: %w", err)
	}
	if status == pki.TokenUnknown {
		return pki.StoredToken{}, status, nil
	}
	return t, status, nil
}
