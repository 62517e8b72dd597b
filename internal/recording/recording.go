// Package recording is the format in which sessions are recorded.
//
// A recording is a file
//
//	"KKREC2\r\n"                 8 bytes, so that a transfer as text is noticed
//	length of the header         uint32, big-endian, at most MaxHeader
//	header                       JSON object, see Header
//	frames until the end:
//	    kind                     1 byte: 'i' from the attacker, 'o' to the attacker, 'x' to the
//	                             attacker as standard error, 'n' a note, 't' from here on bytes
//	                             passed unrecorded, 'e' the end
//	    channel                  uint32, big-endian: which of the session's programs, from 1; 0 is
//	                             the connection itself
//	    time                     uint64, big-endian, nanoseconds since the session's start
//	    length                   uint32, big-endian, at most MaxFrame
//	    payload                  bytes as they passed; of 'n' a piece of evidence in JSON
//	                             (event.Evidence), of 't' and 'e' the reason as text
//
// A recording that was cut off, by a killed process or a full disk, lacks its end frame; what comes
// before the cut is valid.
package recording

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
	magic = "KKREC2\r\n"

	// MaxHeader bounds the header's length in bytes.
	MaxHeader = 64 << 10
	// MaxFrame bounds a frame's payload in bytes.
	MaxFrame = 1 << 20
	// FrameHead is how many bytes a frame has before its payload.
	FrameHead = 1 + 4 + 8 + 4
)

// ErrFormat is the cause of every error about a recording's content.
var ErrFormat = errors.New("not a valid recording")

// Kind is what a frame holds.
type Kind byte

// Kinds of frames.
const (
	In        Kind = 'i' // from the attacker
	Out       Kind = 'o' // to the attacker
	Err       Kind = 'x' // to the attacker, as standard error
	Note      Kind = 'n' // a piece of evidence
	Truncated Kind = 't'
	End       Kind = 'e'
)

func (k Kind) valid() bool {
	switch k {
	case In, Out, Err, Note, Truncated, End:
		return true
	}
	return false
}

// Header says which session a recording is of.
type Header struct {
	Session   string         `json:"session"`
	Node      string         `json:"node"`
	Host      string         `json:"host"`
	Service   event.Service  `json:"service"`
	Attacker  event.Attacker `json:"attacker"`
	Peer      netip.AddrPort `json:"peer"`
	Target    event.Target   `json:"target,omitzero"` // where the attacker believes to be
	StartedAt time.Time      `json:"started_at"`
}

// Frame is one piece of what passed.
type Frame struct {
	Kind    Kind
	Channel uint32
	Offset  time.Duration // since the session's start
	Payload []byte        // valid until the next call of Next
}

// EncodeHeader returns how a recording begins.
func EncodeHeader(h Header) ([]byte, error) {
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

// AppendFrame appends a frame's bytes to b.
func AppendFrame(b []byte, f Frame) []byte {
	b = append(b, byte(f.Kind))
	b = binary.BigEndian.AppendUint32(b, f.Channel)
	b = binary.BigEndian.AppendUint64(b, uint64(max(f.Offset, 0)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	return append(b, f.Payload...)
}

// Reader reads a recording.
type Reader struct {
	r      io.Reader
	header Header
	head   [FrameHead]byte
	buf    []byte
	pos    int64
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
	rd := &Reader{r: r, pos: int64(len(head)) + int64(length)}
	if err := json.Unmarshal(meta, &rd.header); err != nil {
		return nil, fmt.Errorf("%w: its header: %w", ErrFormat, err)
	}
	return rd, nil
}

// Header returns which session it is of.
func (r *Reader) Header() Header { return r.header }

// Position returns how many bytes the header and the frames so far have.
func (r *Reader) Position() int64 { return r.pos }

// Next returns the next frame, io.EOF after the end frame, and io.ErrUnexpectedEOF where the recording
// was cut off.
func (r *Reader) Next() (Frame, error) {
	_, err := io.ReadFull(r.r, r.head[:])
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
	f, length, err := r.frameHead()
	if err != nil {
		return Frame{}, err
	}
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
	r.pos += FrameHead + int64(length)
	return f, nil
}

func (r *Reader) frameHead() (f Frame, length uint32, err error) {
	f = Frame{Kind: Kind(r.head[0]), Channel: binary.BigEndian.Uint32(r.head[1:])}
	offset := binary.BigEndian.Uint64(r.head[5:])
	length = binary.BigEndian.Uint32(r.head[13:])
	switch {
	case !f.Kind.valid():
		return f, 0, fmt.Errorf("%w: frame of kind %d", ErrFormat, r.head[0])
	case offset > uint64(1<<63-1):
		return f, 0, fmt.Errorf("%w: frame at an impossible time", ErrFormat)
	case length > MaxFrame:
		return f, 0, fmt.Errorf("%w: frame of %d bytes, more than %d", ErrFormat, length, MaxFrame)
	}
	f.Offset = time.Duration(offset)
	return f, length, nil
}

// Evidence reads what a note states.
func (f Frame) Evidence() (event.Evidence, error) {
	var e event.Evidence
	if f.Kind != Note {
		return e, fmt.Errorf("%w: a frame of kind %q is no note", ErrFormat, byte(f.Kind))
	}
	if err := json.Unmarshal(f.Payload, &e); err != nil {
		return e, fmt.Errorf("%w: a note: %w", ErrFormat, err)
	}
	return e, nil
}

// Continue reads frames from a position that Position returned; the header stays empty.
func Continue(r io.Reader, position int64) *Reader { return &Reader{r: r, pos: position} }
