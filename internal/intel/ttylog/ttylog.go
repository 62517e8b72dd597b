// Package ttylog writes recordings as Cowrie keeps them (its core/ttylog.py): records of
//
//	int32 op, uint32 tty, int32 length, int32 direction, uint32 seconds, uint32 microseconds
//
// in little-endian, each followed by length bytes. op is 1 where the terminal opens, 2 where it closes, 3 for
// bytes; direction is 1 for what was typed, 2 for what was shown.
package ttylog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kokkuri/kokkuri/internal/intel/terminal"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	opOpen  = 1
	opClose = 2
	opWrite = 3

	dirInput  = 1
	dirOutput = 2
)

// Write writes the program of a channel, with channel 0 the session's first.
func Write(w io.Writer, r *recording.Reader, channel uint32) error {
	t, err := terminal.Open(r, channel)
	if err != nil {
		return err
	}
	start := r.Header().StartedAt
	last := start
	for {
		m, err := t.Next()
		if errors.Is(err, io.EOF) {
			return record(w, opClose, 0, last, nil)
		}
		if err != nil {
			return err
		}
		last = start.Add(m.At)
		switch {
		case m.Start != nil:
			err = record(w, opOpen, 0, last, nil)
			if err == nil { // players take the first direction for that of the output
				err = record(w, opWrite, dirOutput, last, nil)
			}
		case m.Kind == recording.In:
			err = record(w, opWrite, dirInput, last, m.Data)
		case m.Kind == recording.Out, m.Kind == recording.Err:
			err = record(w, opWrite, dirOutput, last, m.Data)
		}
		if err != nil {
			return err
		}
	}
}

func record(w io.Writer, op, direction int32, at time.Time, data []byte) error {
	b := make([]byte, 0, 24+len(data))
	b = binary.LittleEndian.AppendUint32(b, uint32(op))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(direction))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()/1000))
	if _, err := w.Write(append(b, data...)); err != nil {
		return fmt.Errorf("write ttylog: %w", err)
	}
	return nil
}
