// Package store keeps what the server must not forget: hosts, offences with their proof, redirects, sessions and the pipeline's checkpoint, in SQLite.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	_ "modernc.org/sqlite" // the driver
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors that callers match.
var (
	ErrNotFound = fmt.Errorf("not found%w", hidden{fs.ErrNotExist}) // it is fs.ErrNotExist
	ErrNewer    = errors.New("the database was written by a newer kokkuri; install that version, or restore the backup from before it")
)

// hidden is an error without a text.
type hidden struct{ error }

func (hidden) Error() string { return "" }

func (h hidden) Unwrap() error { return h.error }

// Options of Open.
type Options struct {
	Path string // database file; its folder is made where it is missing
	Log  *slog.Logger
}

// SQLite is the store in one file. Its methods may be called concurrently. Writes go through one
// connection, in order; writes that come while another is at work are committed together.
type SQLite struct {
	path   string
	log    *slog.Logger
	writes *sql.DB // one connection
	reads  *sql.DB
	// repeats is repeatsQuery
	repeats *sql.Stmt
	writer  *writer
	stop    context.CancelFunc
	done    chan struct{}
}

// readers is how many reads may be under way at once.
const readers = 4

// Open opens the database, makes it where there is none, and brings its schema up to date.
func Open(ctx context.Context, o Options) (*SQLite, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Path, err)
	}
	return s, nil
}

func open(ctx context.Context, o Options) (*SQLite, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make its folder: %w", err)
	}
	// SQLite gives its other files the permissions of this one.
	f, err := os.OpenFile(o.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the file: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("make the file: %w", err)
	}
	s := &SQLite{path: o.Path, log: o.Log, done: make(chan struct{})}
	if s.writes, err = connect(o.Path, "&_txlock=immediate&_pragma=wal_autocheckpoint(0)", 1); err != nil {
		return nil, err
	}
	if s.reads, err = connect(o.Path, "&_pragma=query_only(1)", readers); err != nil {
		return nil, errors.Join(err, s.writes.Close())
	}
	if err := migrate(ctx, s.writes); err != nil {
		return nil, errors.Join(err, s.writes.Close(), s.reads.Close())
	}
	if s.repeats, err = s.reads.PrepareContext(ctx, repeatsQuery); err != nil {
		return nil, errors.Join(err, s.writes.Close(), s.reads.Close())
	}
	conn, err := s.writes.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, s.writes.Close(), s.reads.Close())
	}
	s.writer = newWriter(conn)
	var running context.Context
	running, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	go s.run(running)
	return s, nil
}

func connect(path, options string, most int) (*sql.DB, error) {
	dsn := (&url.URL{Scheme: "file", Path: path}).String() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" + options
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db, nil
}

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	provider, err := goose.NewProvider(database.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; current > newest {
		return fmt.Errorf("%w (schema %d, this one knows %d)", ErrNewer, current, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// run is the writer's goroutine and, beside it, the log's housekeeping.
func (s *SQLite) run(ctx context.Context) {
	defer close(s.done)
	tidy := make(chan struct{})
	go func() {
		defer close(tidy)
		s.tidy(ctx)
	}()
	s.writer.run(ctx)
	<-tidy
}

// tidyEvery is how often the write-ahead log is copied into the database. It happens beside the
// writer, so that no commit has to wait for it.
const tidyEvery = 2 * time.Second

func (s *SQLite) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.writer.dirty.Swap(false) {
			continue
		}
		if err := s.checkpointLog(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "write-ahead log not copied into the database", "path", s.path, "error", err)
		}
	}
}

// checkpointLog copies the write-ahead log into the database.
func (s *SQLite) checkpointLog(ctx context.Context) error {
	var busy, pages, copied int
	if err := s.reads.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied); err != nil {
		return fmt.Errorf("checkpoint the write-ahead log: %w", err)
	}
	return nil
}

// Close waits for what is being written and closes the database. No other method may be called afterwards.
func (s *SQLite) Close() error {
	s.stop()
	<-s.done
	if err := errors.Join(s.writer.close(), s.repeats.Close(), s.reads.Close(), s.writes.Close()); err != nil {
		return fmt.Errorf("close store %s: %w", s.path, err)
	}
	return nil
}
