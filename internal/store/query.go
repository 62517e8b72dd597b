package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Filter narrows a list. Its zero value wants everything.
type Filter struct {
	Limit  int          // most records, newest first; 0: all
	Host   string       // of this host only
	Node   string       // of this node only
	Source netip.Prefix // of sources that overlap with it only
	Live   bool         // only what has not ended
}

// nanos is a time as it is stored.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// instant is a stored time.
func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// prefixText is a source as it is stored; none is empty.
func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func document(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write %T: %w", v, err)
	}
	return string(data), nil
}

// where collects conditions of a query.
type where struct {
	conditions []string
	args       []any
}

func (w *where) and(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) equal(column, value string) {
	if value != "" {
		w.and(column+" = ?", value)
	}
}

// source narrows to the prefixes that an address may be stored under; what a wider prefix overlaps
// with is for the caller to pick out.
func (w *where) source(column string, p netip.Prefix) {
	if !p.IsValid() || !p.IsSingleIP() {
		return
	}
	w.and(column+" IN (?, ?)", p.String(), event.SourcePrefix(p.Addr(), 64).String())
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// documents reads records in the order of the query until limit are wanted; limit 0 is no limit.
func documents[T any](ctx context.Context, db *sql.DB, query string, args []any, limit int, want func(T) bool) (out []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = []T{}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read row: %w", err)
		}
		var record T
		if err := json.Unmarshal([]byte(text), &record); err != nil {
			return nil, fmt.Errorf("read %T: %w", record, err)
		}
		if want != nil && !want(record) {
			continue
		}
		if out = append(out, record); len(out) == limit {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return out, nil
}

// single reads one record; where there is none: ErrNotFound.
func single[T any](ctx context.Context, db *sql.DB, query string, args ...any) (T, error) {
	var record T
	found, err := documents[T](ctx, db, query, args, 1, nil)
	if err != nil {
		return record, err
	}
	if len(found) == 0 {
		return record, ErrNotFound
	}
	return found[0], nil
}

// overlaps picks sources that overlap with the filter's.
func (f Filter) overlaps(source netip.Prefix) bool {
	return !f.Source.IsValid() || source.IsValid() && f.Source.Overlaps(source)
}
