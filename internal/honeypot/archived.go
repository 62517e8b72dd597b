package honeypot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/archive"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

// notedChanges bounds the changes of a pot that are evidence of their own; the list in the vault has them all.
const notedChanges = 1000

// archive keeps what an attacker has changed in a pot that is about to go. It fails only where that may be tried again:
// what can't be read is said in the evidence, and the pot goes.
func (p *parts) archive(ctx context.Context, k event.PotKey, id string) error {
	p.watch.Drop(k) // what was seen comes first, and our ending of the pot is not its attacker's doing
	summary := event.Archive{Pot: id}
	found, err := p.differences(ctx, k, id)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, engine.ErrUnreachable):
		return err
	case err != nil:
		summary.Truncated = err.Error()
	default:
		summary.Changes, summary.Files, summary.Bytes, summary.Truncated = len(found.Changes), found.Files, found.Bytes, found.Truncated
		list, err := p.keepList(k, found.Changes)
		if err != nil {
			summary.Truncated = "the list is not kept: " + err.Error()
		}
		summary.SHA256, summary.Size = list.SHA256, list.Size
	}
	p.homes.WithOwn(event.Pot{ID: id, Name: id, Attacker: k.Attacker, Host: k.Host}, func(r *record.Recorder) {
		for _, d := range found.Changes[:min(len(found.Changes), notedChanges)] {
			r.NoteSeen(event.Evidence{Kind: event.EvidenceChange, Change: &d})
		}
		r.NoteSeen(event.Evidence{Kind: event.EvidenceArchive, Archive: &summary})
	})
	return nil
}

func (p *parts) differences(ctx context.Context, k event.PotKey, id string) (archive.Result, error) {
	upper, lower, err := p.engine.Layers(ctx, id)
	if err != nil {
		return archive.Result{}, err
	}
	return archive.Find(ctx, archive.Layers{Upper: upper, Lower: lower}, func(r io.Reader, size int64) (event.Content, error) {
		return p.vault.Keep(k.Attacker, r, size)
	}, archive.Limits{Files: notedChanges})
}

// keepList keeps the list of changes, one a line in JSON.
func (p *parts) keepList(k event.PotKey, changes []event.Difference) (event.Content, error) {
	f, err := os.CreateTemp("", "kokkuri-changes-*")
	if err != nil {
		return event.Content{}, fmt.Errorf("list what was changed: %w", err)
	}
	defer f.Close()           //nolint:errcheck // it is copied
	defer os.Remove(f.Name()) //nolint:errcheck // as above
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for _, d := range changes {
		if err := enc.Encode(d); err != nil {
			return event.Content{}, fmt.Errorf("list what was changed: %w", err)
		}
	}
	err = w.Flush()
	size, seekErr := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, seekErr); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return event.Content{}, fmt.Errorf("list what was changed: %w", err)
	}
	return p.vault.Keep(k.Attacker, f, size)
}
