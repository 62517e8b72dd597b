package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	fetchWithin = 20 * time.Second // one piece
	maxContent  = 16 << 30         // bytes; more is no evidence of ours
)

// Evidence implements api.Evidence.
func (b backend) Evidence(ctx context.Context, session string) ([]event.Evidence, error) {
	if _, err := b.s.store.Session(ctx, session); err != nil {
		return nil, err
	}
	return b.s.store.Evidence(ctx, session)
}

// Content implements api.Evidence. It comes from the node piece by piece, and is checked against its sum.
func (b backend) Content(ctx context.Context, id, sum string, w io.Writer) error {
	s, err := b.s.store.Session(ctx, id)
	if err != nil {
		return err
	}
	if err := b.belongs(ctx, s, sum); err != nil {
		return err
	}
	hash := sha256.New()
	for offset := int64(0); ; {
		data, size, err := b.piece(ctx, s.Node, sum, offset)
		if err != nil {
			return err
		}
		hash.Write(data)
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("pass evidence on: %w", err)
		}
		offset += int64(len(data))
		if offset >= size {
			break
		}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("evidence %s of node %s was damaged: its SHA-256 is %s", sum, s.Node, got)
	}
	return nil
}

// belongs reports whether a session left something with that sum.
func (b backend) belongs(ctx context.Context, s event.Session, sum string) error {
	if sum != "" && sum == s.Recording {
		return nil
	}
	evidence, err := b.s.store.Evidence(ctx, s.ID)
	if err != nil {
		return err
	}
	if sum == "" || !slices.ContainsFunc(evidence, func(e event.Evidence) bool { c := e.Content(); return c != nil && c.SHA256 == sum }) {
		return fmt.Errorf("session %s has no file %q: %w", s.ID, sum, fs.ErrNotExist)
	}
	return nil
}

func (b backend) piece(ctx context.Context, node, sum string, offset int64) ([]byte, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	reply, err := bus.Request[event.EvidenceRequest, event.EvidenceReply](ctx, b.s.conn, bus.EvidenceSubject(node),
		event.EvidenceRequest{SHA256: sum, Offset: offset})
	if errors.Is(err, bus.ErrNoResponder) || errors.Is(err, context.DeadlineExceeded) {
		return nil, 0, &api.Error{
			Status: 503, Message: "node " + node + ", which holds it, does not answer",
			Hint: "kokkuri nodes show " + node + " says when it was heard of last",
		}
	}
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("ask node %s for evidence: %w", node, err)
	case reply.Error != "":
		return nil, 0, &api.Error{
			Status: 404, Message: "node " + node + ": " + cut(reply.Error),
			Hint: "the oldest recordings go first when honeypot.limits.recordings is reached",
		}
	case reply.Size < 0 || reply.Size > maxContent || offset+int64(len(reply.Data)) > reply.Size || len(reply.Data) == 0 && offset < reply.Size:
		return nil, 0, fmt.Errorf("ask node %s for evidence: its answer makes no sense", node)
	}
	return reply.Data, reply.Size, nil
}
