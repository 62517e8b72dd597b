package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kokkuri/kokkuri/internal/bus"
)

const (
	duplicateWindow = 2 * time.Minute
	dedupeFile      = "dedupe.key"
	dedupeSize      = 32
)

func (b *Broker) ensureStreams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, s := range []struct {
		name, subject string
		budget        int64
	}{
		{bus.StreamLogs, bus.LogsSubject("*"), b.opts.MaxLogBytes},
		{bus.StreamSessions, bus.SessionsSubject("*"), b.opts.MaxSessionBytes},
	} {
		_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: s.name, Subjects: []string{s.subject}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
			Discard: jetstream.DiscardOld, MaxBytes: s.budget, Duplicates: duplicateWindow, Replicas: 1,
			DenyDelete: true, DenyPurge: true, // nothing but the byte budget removes a message
		})
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.name, err)
		}
	}
	return nil
}

// StreamStats is the state of one stream.
type StreamStats struct {
	Messages  uint64 `json:"messages"`
	Bytes     uint64 `json:"bytes"`
	MaxBytes  int64  `json:"max_bytes"`
	First     uint64 `json:"first"` // sequence of the oldest message kept
	Last      uint64 `json:"last"`
	Discarded uint64 `json:"discarded"` // messages that the byte budget removed since the stream was made
}

// Stats is the state of the bus.
type Stats struct {
	Connections int         `json:"connections"`
	Logs        StreamStats `json:"logs"`
	Sessions    StreamStats `json:"sessions"`
	Refused     uint64      `json:"refused"` // connections refused by certificate, or because too many were enrolling
}

// Stats returns the state of the bus.
func (b *Broker) Stats(ctx context.Context) (Stats, error) {
	b.mu.Lock()
	srv, js, c := b.srv, b.js, b.callout
	b.mu.Unlock()
	if srv == nil {
		return Stats{}, errors.New("state of the bus: it does not run")
	}
	s := Stats{Connections: srv.NumClients(), Refused: c.refused.Load()}
	for name, out := range map[string]*StreamStats{bus.StreamLogs: &s.Logs, bus.StreamSessions: &s.Sessions} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return Stats{}, fmt.Errorf("state of stream %s: %w", name, err)
		}
		info := stream.CachedInfo()
		*out = StreamStats{
			Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes,
			First: info.State.FirstSeq, Last: info.State.LastSeq,
		}
		// Sequences begin at 1 and only the budget removes messages, oldest first.
		out.Discarded = out.Last - out.Messages
	}
	return s, nil
}

// dedupeKey returns the key of the server's own message ids; it must survive restarts, as what the server
// publishes again after a crash is to be dropped as a duplicate.
func dedupeKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, dedupeFile)
	key, err := os.ReadFile(path)
	if err == nil && len(key) == dedupeSize {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("deduplication key: %w", err)
	}
	key = make([]byte, dedupeSize)
	_, _ = rand.Read(key) // never fails
	tmp := path + ".new"
	if err := os.WriteFile(tmp, key, 0o600); err != nil {
		return nil, fmt.Errorf("deduplication key: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("deduplication key: %w", err)
	}
	return key, nil
}
