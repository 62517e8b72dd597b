package bus

import (
	"bytes"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Headers of a batch of lines.
const (
	headerRoad     = "Kokkuri-Road"
	headerOrigin   = "Kokkuri-Origin" // percent-encoded
	headerReceived = "Kokkuri-Received"
	headerID       = "Kokkuri-Id" // percent-encoded Batch.ID; Nats-Msg-Id is derived from it
)

// Bounds of one batch. The server's greatest message is 1 MiB.
const (
	MaxBatchLines = 4096
	MaxBatchBytes = 768 << 10
	maxHeader     = 4096 // bytes of one header value
)

// encodeBatch turns a batch into headers and body.
func encodeBatch(b event.Batch) (nats.Header, []byte, error) {
	if err := ValidName(b.Host); err != nil {
		return nil, nil, fmt.Errorf("%w: host: %w", ErrBatch, err)
	}
	if b.ID == "" || len(b.ID) > maxHeader/4 || len(b.Origin) > maxHeader/4 {
		return nil, nil, fmt.Errorf("%w: id of %d and origin of %d bytes; wanted 1 to %d and at most %d",
			ErrBatch, len(b.ID), len(b.Origin), maxHeader/4, maxHeader/4)
	}
	if len(b.Lines) > MaxBatchLines {
		return nil, nil, fmt.Errorf("%w: %d lines; at most %d are allowed", ErrBatch, len(b.Lines), MaxBatchLines)
	}
	size := 0
	for i, line := range b.Lines {
		if bytes.IndexByte(line, '\n') >= 0 {
			return nil, nil, fmt.Errorf("%w: line %d contains a newline", ErrBatch, i)
		}
		size += len(line) + 1
	}
	if size > MaxBatchBytes {
		return nil, nil, fmt.Errorf("%w: %d bytes; at most %d are allowed", ErrBatch, size, MaxBatchBytes)
	}
	h := nats.Header{
		headerRoad:     {url.PathEscape(string(b.Road))},
		headerOrigin:   {url.PathEscape(b.Origin)},
		headerReceived: {b.Received.UTC().Format(time.RFC3339Nano)},
		headerID:       {url.PathEscape(b.ID)},
	}
	return h, bytes.Join(b.Lines, []byte{'\n'}), nil
}

// decodeBatch is the inverse of encodeBatch. The host is taken from the subject, which the broker
// checked against the sender's certificate. Its lines share data's memory.
func decodeBatch(subject string, h nats.Header, data []byte) (event.Batch, error) {
	b := event.Batch{Host: lastToken(subject), Road: event.Road(unescape(h.Get(headerRoad))), Origin: unescape(h.Get(headerOrigin))}
	if err := ValidName(b.Host); err != nil {
		return event.Batch{}, fmt.Errorf("%w: subject %q: %w", ErrMalformed, subject, err)
	}
	if b.ID = unescape(h.Get(headerID)); b.ID == "" {
		return event.Batch{}, fmt.Errorf("%w: no %s", ErrMalformed, headerID)
	}
	switch b.Road {
	case event.RoadAgent, event.RoadJournal, event.RoadSyslogTCP, event.RoadSyslogTLS, event.RoadSyslogUDP, event.RoadFile:
	default:
		return event.Batch{}, fmt.Errorf("%w: unknown road %.40q", ErrMalformed, b.Road)
	}
	var err error
	if b.Received, err = time.Parse(time.RFC3339Nano, h.Get(headerReceived)); err != nil {
		return event.Batch{}, fmt.Errorf("%w: %s: %w", ErrMalformed, headerReceived, err)
	}
	if len(data) > MaxBatchBytes {
		return event.Batch{}, fmt.Errorf("%w: %d bytes; at most %d are allowed", ErrMalformed, len(data), MaxBatchBytes)
	}
	if n := bytes.Count(data, []byte{'\n'}) + 1; n > MaxBatchLines {
		return event.Batch{}, fmt.Errorf("%w: %d lines; at most %d are allowed", ErrMalformed, n, MaxBatchLines)
	}
	b.Lines = bytes.Split(data, []byte{'\n'})
	return b, nil
}

// unescape returns "" for what is not percent-encoded as it should be, or too long.
func unescape(s string) string {
	if len(s) > maxHeader {
		return ""
	}
	u, err := url.PathUnescape(s)
	if err != nil {
		return ""
	}
	return u
}
