package transfer

import (
	"encoding/binary"
	"math"
	"sync"
)

// Packets and flags of SFTP version 3 (draft-ietf-secsh-filexfer-02).
const (
	fxpOpen    = 3
	fxpClose   = 4
	fxpWrite   = 6
	fxpOpenDir = 11
	fxpStatus  = 101
	fxpHandle  = 102

	flagWrite  = 0x02
	flagAppend = 0x04
)

const maxHandle = 256 // bytes; the draft's bound

// SFTP watches an SFTP session for files that are written. Content that the server copies within the pot
// (OpenSSH's copy-data) does not pass and is not seen.
type SFTP struct {
	mu      sync.Mutex
	in, out packets
	handles handles
	current *file // takes the data of the WRITE that is passing
	data    int   // bytes of it that are still to come
	stopped bool
	ended   bool
}

// NewSFTP returns the tap of an SFTP server: version 3, as every OpenSSH speaks it.
func NewSFTP(create Create) *SFTP {
	s := &SFTP{handles: newHandles(create)}
	s.in = newPackets(s.request, s.written)
	s.out = newPackets(s.reply, func([]byte) {})
	return s
}

// In takes requests.
func (s *SFTP) In(p []byte) { s.feed(&s.in, p) }

// Out takes replies.
func (s *SFTP) Out(p []byte) { s.feed(&s.out, p) }

// End closes what is open as partial.
func (s *SFTP) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	s.handles.end()
}

// Lost reports whether files may be missing.
func (s *SFTP) Lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped || s.handles.lost
}

func (s *SFTP) feed(direction *packets, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.ended {
		return
	}
	s.stopped = !direction.feed(p)
}

// request looks at the head of a packet to the server.
func (s *SFTP) request(b []byte, left int) (more int, ok bool) {
	s.current, s.data = nil, 0
	switch b[0] {
	case fxpOpen:
		return s.requestOpen(b), true
	case fxpOpenDir:
		if len(b) < 5 {
			return 4, true
		}
		s.handles.asked(opening{id: id(b)})
	case fxpClose:
		handle, more := handleOf(b, 0)
		if more == 0 {
			s.handles.close(handle)
		}
		return more, true
	case fxpWrite:
		return s.requestWrite(b, left)
	}
	return 0, true
}

// requestOpen reads id, path, flags; what follows are attributes.
func (s *SFTP) requestOpen(b []byte) (more int) {
	if len(b) < 9 {
		return 8
	}
	length := binary.BigEndian.Uint32(b[5:])
	if length > maxPath {
		return 0 // the server can't open it
	}
	end := 9 + int(length)
	if len(b) < end+4 {
		return end + 4 - len(b)
	}
	flags := binary.BigEndian.Uint32(b[end:])
	s.handles.asked(opening{
		id: id(b), path: string(b[9:end]), write: flags&flagWrite != 0, append: flags&flagAppend != 0,
	})
	return 0
}

// requestWrite reads id, handle, offset and the length of the data.
func (s *SFTP) requestWrite(b []byte, left int) (more int, ok bool) {
	handle, more := handleOf(b, 8+4)
	if more > 0 || handle == "" {
		return more, true
	}
	tail := b[len(b)-12:]
	offset, length := binary.BigEndian.Uint64(tail), binary.BigEndian.Uint32(tail[8:])
	if int64(length) > int64(left) {
		return 0, false
	}
	u := s.handles.writing(handle)
	if u == nil || offset > math.MaxInt64-maxPacket {
		return 0, true
	}
	if !u.append {
		u.file.at = int64(offset)
	}
	s.current, s.data = u.file, int(length)
	return 0, true
}

// written takes what follows the head of a packet to the server.
func (s *SFTP) written(p []byte) {
	if s.current == nil {
		return
	}
	n := min(s.data, len(p))
	s.current.write(p[:n])
	s.data -= n
}

// reply looks at the head of a packet from the server.
func (s *SFTP) reply(b []byte, _ int) (more int, ok bool) {
	switch b[0] {
	case fxpStatus:
		if len(b) < 5 {
			return 4, true
		}
		s.handles.refused(id(b))
	case fxpHandle:
		handle, more := handleOf(b, 0)
		if more == 0 {
			s.handles.answered(id(b), handle)
		}
		return more, true
	}
	return 0, true
}

func id(b []byte) uint32 { return binary.BigEndian.Uint32(b[1:]) }

// handleOf reads id and handle, and wants to see further bytes after them. An impossible handle is "".
func handleOf(b []byte, further int) (handle string, more int) {
	if len(b) < 9 {
		return "", 8
	}
	length := binary.BigEndian.Uint32(b[5:])
	if length > maxHandle {
		return "", 0
	}
	end := 9 + int(length)
	if len(b) < end+further {
		return "", end + further - len(b)
	}
	return string(b[9:end]), 0
}
