package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// ErrNoEvidence says that the node does not hold what was asked for: it was removed for want of room,
// perhaps.
var ErrNoEvidence = errors.New("no such evidence here")

// Read returns a piece of what the store has under a SHA-256, of at most n bytes, and its whole size.
func (v *Vault) Read(sum string, offset int64, n int) (data []byte, size int64, err error) {
	f, err := os.Open(v.Path(sum))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, ErrNoEvidence
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read evidence: %w", err)
	}
	defer f.Close() //nolint:errcheck // read-only
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("read evidence: %w", err)
	}
	if offset < 0 || offset > info.Size() {
		return nil, 0, fmt.Errorf("read evidence: it has %d bytes, asked was from %d on", info.Size(), offset)
	}
	data = make([]byte, min(int64(n), info.Size()-offset))
	if _, err := io.ReadFull(io.NewSectionReader(f, offset, int64(len(data))), data); err != nil {
		return nil, 0, fmt.Errorf("read evidence: %w", err)
	}
	return data, info.Size(), nil
}

// Evidence returns what a session has left so far from a position of its recording on, up to about
// most bytes, and where to go on. The recording may be going on, or be finished under sum. The session's end is told only where
// it has ended: it is noted before all is on the disk.
func (v *Vault) Evidence(session, sum string, ended bool, from int64, most int) (out []event.Evidence, next int64, err error) {
	f, err := os.Open(v.part(session, partSuffix))
	if errors.Is(err, os.ErrNotExist) && sum != "" {
		f, err = os.Open(v.Path(sum))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, from, nil
	}
	if err != nil {
		return nil, from, fmt.Errorf("read the evidence of session %s: %w", session, err)
	}
	defer f.Close() //nolint:errcheck // read-only
	rd, err := reader(f, from)
	if !ended && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return nil, from, nil // it has hardly begun
	}
	if err != nil {
		return nil, from, fmt.Errorf("read the evidence of session %s: %w", session, err)
	}
	for size := 0; size < most; {
		before := rd.Position()
		frame, err := rd.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // as far as it goes now
		}
		if err != nil {
			return out, rd.Position(), fmt.Errorf("read the evidence of session %s: %w", session, err)
		}
		if frame.Kind != recording.Note {
			continue
		}
		e, err := frame.Evidence()
		if err != nil {
			return out, rd.Position(), fmt.Errorf("read the evidence of session %s: %w", session, err)
		}
		if e.Kind == event.EvidenceClosed && !ended {
			return out, before, nil
		}
		out = append(out, e)
		size += len(frame.Payload)
	}
	return out, rd.Position(), nil
}

func reader(f *os.File, from int64) (*recording.Reader, error) {
	if from == 0 {
		return recording.NewReader(bufio.NewReaderSize(f, 64<<10))
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was done
	}
	return recording.Continue(bufio.NewReaderSize(f, 64<<10), from), nil
}
