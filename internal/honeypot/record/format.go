// Package record keeps what passed through a front: raw recordings of connections, and the records of
// the sessions that they belong to until the server has them.
//
// A raw recording is a file
//
//	"KKRAW1\r\n"                 8 bytes, so that a transfer as text is noticed
//	length of the header         uint32, big-endian, at most MaxHeader
//	header                       JSON object, see Header
//	frames until the end:
//	    kind                     1 byte: 'i' from the attacker, 'o' to the attacker,
//	                             't' from here on bytes passed unrecorded, 'e' the end
//	    time                     uint64, big-endian, nanoseconds since the session's start
//	    length                   uint32, big-endian, at most MaxFrame
//	    payload                  bytes as they passed; of 't' and 'e' the reason as text
//
// A recording that was cut off, by a killed process or a full disk, lacks its end frame; what comes
// before the cut is valid.
package record

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	magic = "KKRAW1\r\n"

	// MaxHeader bounds the header's length in bytes.
	MaxHeader = 64 << 10
	// MaxFrame bounds a frame's payload in bytes.
	MaxFrame = 1 << 20

	frameHead = 1 + 8 + 4
)

// ErrFormat is the cause of every error about a recording's content.
var ErrFormat = errors.New("not a valid recording")

// Kind is what a frame holds.
type Kind byte

// Kinds of frames.
const (
	In        Kind = 'i' // from the attacker
	Out       Kind = 'o' // to the attacker
	Truncated Kind = 't'
	End       Kind = 'e'
)

// Header says which session a recording is of.
type Header struct {
	Session   string         `json:"session"`
	Node      string         `json:"node"`
	Host      string         `json:"host"`
	Service   event.Service  `json:"service"`
	Attacker  event.Attacker `json:"attacker"`
	Peer      netip.AddrPort `json:"peer"`
	StartedAt time.Time      `json:"started_at"`
}

// Frame is one piece of what passed.
type Frame struct {
	Kind    Kind
	Offset  time.Duration // since the session's start
	Payload []byte        // valid until the next call of Next
}

func encodeHeader(h Header) ([]byte, error) {
	meta, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the header: %w", err)
	}
	if len(meta) > MaxHeader {
		return nil, fmt.Errorf("encode the header: %d bytes, more than %d", len(meta), MaxHeader)
	}
	b := make([]byte, 0, len(magic)+4+len(meta))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(meta)))
	return append(b, meta...), nil
}

func appendFrame(b []byte, kind Kind, offset time.Duration, payload []byte) []byte {
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint64(b, uint64(max(offset, 0)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// Reader reads a recording.
type Reader struct {
	r      io.Reader
	header Header
	buf    []byte
	ended  bool
}

// NewReader reads the header of a recording.
func NewReader(r io.Reader) (*Reader, error) {
	var head [len(magic) + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: read its start: %w", ErrFormat, err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not start with %q", ErrFormat, magic)
	}
	length := binary.BigEndian.Uint32(head[len(magic):])
	if length > MaxHeader {
		return nil, fmt.Errorf("%w: header of %d bytes, more than %d", ErrFormat, length, MaxHeader)
	}
	meta := make([]byte, length)
	if _, err := io.ReadFull(r, meta); err != nil {
		return nil, fmt.Errorf("%w: read its header: %w", ErrFormat, err)
	}
	rd := &Reader{r: r}
	if err := json.Unmarshal(meta, &rd.header); err != nil {
		return nil, fmt.Errorf("%w: its header: %w", ErrFormat, err)
	}
	return rd, nil
}

// Header returns which session it is of.
func (r *Reader) Header() Header { return r.header }

// Next returns the next frame, io.EOF after the end frame, and io.ErrUnexpectedEOF where the recording
// was cut off.
func (r *Reader) Next() (Frame, error) {
	var head [frameHead]byte
	_, err := io.ReadFull(r.r, head[:])
	switch {
	case r.ended && errors.Is(err, io.EOF):
		return Frame{}, io.EOF
	case r.ended && err == nil:
		return Frame{}, fmt.Errorf("%w: something follows its end", ErrFormat)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Frame{}, io.ErrUnexpectedEOF
	case err != nil:
		return Frame{}, fmt.Errorf("read a frame: %w", err)
	}
	f := Frame{Kind: Kind(head[0])}
	offset := binary.BigEndian.Uint64(head[1:])
	length := binary.BigEndian.Uint32(head[9:])
	switch {
	case f.Kind != In && f.Kind != Out && f.Kind != Truncated && f.Kind != End:
		return Frame{}, fmt.Errorf("%w: frame of kind %d", ErrFormat, head[0])
	case offset > uint64(1<<63-1):
		return Frame{}, fmt.Errorf("%w: frame at an impossible time", ErrFormat)
	case length > MaxFrame:
		return Frame{}, fmt.Errorf("%w: frame of %d bytes, more than %d", ErrFormat, length, MaxFrame)
	}
	f.Offset = time.Duration(offset)
	if uint32(cap(r.buf)) < length {
		r.buf = make([]byte, length)
	}
	f.Payload = r.buf[:length]
	if _, err := io.ReadFull(r.r, f.Payload); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Frame{}, io.ErrUnexpectedEOF
		}
		return Frame{}, fmt.Errorf("read a frame: %w", err)
	}
	r.ended = f.Kind == End
	return f, nil
}
