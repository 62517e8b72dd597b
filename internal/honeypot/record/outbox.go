package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	defaultMaxPending = 100_000
	publishTimeout    = 10 * time.Second
	firstRetry        = 100 * time.Millisecond
	lastRetry         = 10 * time.Second

	// reportBytes is about how much evidence one report carries: far below what a message may be.
	reportBytes = 256 << 10
)

// ErrOutboxFull says that too many sessions wait for the server.
var ErrOutboxFull = errors.New("too many session records wait for the server")

// OutboxOptions say where session records go.
type OutboxOptions struct {
	Dir        string                                           // of the node's state
	Publish    func(context.Context, event.SessionReport) error // returns when the server's stream has it
	Vault      *Vault                                           // where the evidence is
	MaxPending int                                              // 100,000 where 0
	Log        *slog.Logger
}

// Outbox keeps session records until the server has them and their evidence, over restarts too. Its
// methods may be called concurrently.
type Outbox struct {
	o   OutboxOptions
	log *slog.Logger
	dir string

	mu      sync.Mutex
	letters map[string]*letter // by session: those that are open, and those that wait
	queue   []string
	dropped uint64
	sent    uint64
	wake    chan struct{}
}

// letter is what the server has to know of one session.
type letter struct {
	session event.Session // as it was put
	summary event.Session // what evidence said of it so far
	next    int64         // where the evidence goes on that the server has not
	version uint64        // of session
	queued  bool
}

// OpenOutbox opens the outbox in a folder with what an earlier process could not publish. Open returns
// the sessions that were open when that process ended.
func OpenOutbox(o OutboxOptions) (box *Outbox, open []event.Session, err error) {
	if o.MaxPending == 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Outbox{
		o: o, log: o.Log, dir: filepath.Join(o.Dir, "sessions"),
		letters: make(map[string]*letter), wake: make(chan struct{}, 1),
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the folder of session records: %w", err)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read session records: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(b.dir, e.Name())
		if strings.HasSuffix(e.Name(), ".tmp") {
			_ = os.Remove(path)
			continue
		}
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		var s event.Session
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		if err != nil {
			b.log.Warn("session record cannot be read; it is put aside", "file", path, "error", err)
			_ = os.Rename(path, path+".broken")
			continue
		}
		if s.EndedAt.IsZero() {
			open = append(open, s)
		} else {
			b.enqueue(s)
		}
	}
	return b, open, nil
}

// Put keeps a session's record and has it published. The record of a session that ended is on the disk
// when Put returns.
func (b *Outbox) Put(s event.Session) error {
	ended := !s.EndedAt.IsZero()
	b.mu.Lock()
	_, known := b.letters[s.ID]
	if !known && !ended && len(b.letters) >= b.o.MaxPending {
		b.dropped++
		b.mu.Unlock()
		return ErrOutboxFull
	}
	b.mu.Unlock()
	data, err := json.Marshal(s)
	if err == nil {
		err = writeFile(b.path(s.ID), data, ended)
	}
	b.enqueue(s) // what the disk refuses may still reach the server
	if err != nil {
		return fmt.Errorf("keep the record of session %s: %w", s.ID, err)
	}
	return nil
}

func (b *Outbox) path(id string) string { return filepath.Join(b.dir, filepath.Base(id)+".json") }

func (b *Outbox) enqueue(s event.Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.letters[s.ID]
	if l == nil {
		l = &letter{}
		b.letters[s.ID] = l
	}
	l.session = s
	l.version++
	b.queueLocked(s.ID, l)
}

func (b *Outbox) queueLocked(id string, l *letter) {
	if !l.queued {
		l.queued = true
		b.queue = append(b.queue, id)
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Noted has the new evidence of an open session published.
func (b *Outbox) Noted(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.letters[id]; l != nil {
		l.version++
		b.queueLocked(id, l)
	}
}

// Pending returns how many records wait, how many were published and how many were dropped.
func (b *Outbox) Pending() (waiting int, sent, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue), b.sent, b.dropped
}

// Run publishes until ctx is done.
func (b *Outbox) Run(ctx context.Context) {
	retry := firstRetry
	for {
		ok, err := b.publishNext(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.log.WarnContext(ctx, "session records wait: the server does not take them", "error", err)
			timer := time.NewTimer(retry)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			retry = min(2*retry, lastRetry)
		case ok:
			retry = firstRetry
		default:
			select {
			case <-ctx.Done():
				return
			case <-b.wake:
			}
		}
	}
}

// Flush publishes what waits, until it fails or ctx is done.
func (b *Outbox) Flush(ctx context.Context) error {
	for {
		ok, err := b.publishNext(ctx)
		if err != nil || !ok {
			return err
		}
	}
}

// publishNext publishes a report of the session that waits longest; ok is false where none does.
func (b *Outbox) publishNext(ctx context.Context) (ok bool, err error) {
	b.mu.Lock()
	if len(b.queue) == 0 {
		b.mu.Unlock()
		return false, nil
	}
	id := b.queue[0]
	l := b.letters[id]
	s, summary, next, version := l.session, l.summary, l.next, l.version
	b.mu.Unlock()

	evidence, next, err := b.evidence(s, next)
	if err != nil {
		b.log.WarnContext(ctx, "evidence of a session is not told", "session", id, "error", err)
	}
	for _, e := range evidence {
		summary.Absorb(e)
	}
	s.Summarise(summary)
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := b.o.Publish(ctx, event.SessionReport{Session: s, Evidence: evidence}); err != nil {
		return false, fmt.Errorf("publish the record of session %s: %w", id, err)
	}
	b.published(s, summary, next, version, len(evidence) > 0)
	return true, nil
}

func (b *Outbox) evidence(s event.Session, from int64) ([]event.Evidence, int64, error) {
	if b.o.Vault == nil {
		return nil, from, nil
	}
	return b.o.Vault.Evidence(s.ID, s.Recording, !s.EndedAt.IsZero(), from, reportBytes)
}

// published notes what the server has now. A session that ended is done with when nothing is left to tell.
func (b *Outbox) published(s, summary event.Session, next int64, version uint64, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.letters[s.ID]
	b.sent++
	b.queue = b.queue[1:]
	l.queued, l.next, l.summary = false, next, summary
	switch {
	case l.version != version || more: // something came meanwhile, or may have
		b.queueLocked(s.ID, l)
	case !s.EndedAt.IsZero():
		delete(b.letters, s.ID)
		_ = os.Remove(b.path(s.ID)) // published twice, at worst
	}
}
