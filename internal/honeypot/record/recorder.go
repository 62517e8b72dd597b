package record

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	// checkRoom is how many bytes are written between two looks at the file system's free space.
	checkRoom = 8 << 20

	// What notes of one session may be, beside its bytes.
	maxNotes     = 20_000
	maxNoteBytes = 8 << 20

	// What programs in the pot do may be so much of them, so that what an attacker types is kept, whatever it runs.
	maxSeen      = maxNotes / 2
	maxSeenBytes = maxNoteBytes / 2
)

// Recorder records one session. Its methods may be called concurrently, and on nil, which records nothing.
type Recorder struct {
	v *Vault
	h recording.Header

	mu        sync.Mutex
	f         *file
	truncated bool // no bytes are kept any more; notes are
	silent    bool // nothing is
	closed    bool
	held      int  // how many want what they record written at once
	noted     bool // since the last write
	sinceRoom int64
	notes     int
	noteBytes int
	files     int // begun
	seen      int // notes of what programs in the pot do
	seenBytes int
	unseen    event.Missed // of these
	open      map[*File]bool
	payload   []byte // the last one, to be written over
}

// Begin starts a recording. What cannot be recorded, for want of room, is not: the recording is then
// truncated from its start.
func (v *Vault) Begin(h recording.Header) (*Recorder, error) {
	f, err := v.create(h, partSuffix)
	if err != nil {
		v.mu.Lock()
		v.counts.Failed++
		v.mu.Unlock()
		return nil, err
	}
	r := &Recorder{v: v, h: h, f: f, open: make(map[*File]bool)}
	switch reason := v.reserve(h.Attacker, charge); {
	case reason != "":
		r.truncate(0, reason)
	case !v.roomLeft():
		r.truncate(0, reasonFull)
	}
	return r, nil
}

// Record keeps bytes that passed now. It returns at once, and never fails: where it cannot keep them,
// the recording says so.
func (r *Recorder) Record(kind recording.Kind, channel uint32, p []byte) {
	if r == nil {
		return
	}
	offset := time.Since(r.h.StartedAt)
	r.mu.Lock()
	defer r.unlock()
	for len(p) > 0 && !r.truncated && !r.closed {
		n := min(len(p), recording.MaxFrame)
		if !r.fits(offset, n, r.v.o.MaxSession) {
			return
		}
		r.frame(recording.Frame{Kind: kind, Channel: channel, Offset: offset, Payload: p[:n]})
		p = p[n:]
	}
}

// fits pays for a frame with a payload of n bytes, or ends the recording of bytes.
func (r *Recorder) fits(offset time.Duration, n int, most int64) bool {
	need := int64(n + recording.FrameHead)
	if r.f.size+need > most {
		r.truncate(offset, fmt.Sprintf("the recording reached %d bytes", r.v.o.MaxSession))
		return false
	}
	// The first bytes are paid for already.
	if over := r.f.size + need - max(r.f.size, charge); over > 0 {
		if reason := r.v.reserve(r.h.Attacker, over); reason != "" {
			r.truncate(offset, reason)
			return false
		}
	}
	if r.sinceRoom += need; r.sinceRoom > checkRoom {
		r.sinceRoom = 0
		if !r.v.roomLeft() {
			r.truncate(offset, reasonFull)
			return false
		}
	}
	return true
}

func (r *Recorder) frame(f recording.Frame) {
	r.f.frame(f)
	if r.f.err != nil {
		r.truncated, r.silent = true, true
	}
}

// truncate ends the recording of bytes, and says so once.
func (r *Recorder) truncate(offset time.Duration, reason string) {
	if r.truncated {
		return
	}
	r.truncated = true
	r.note(offset, event.Evidence{Kind: event.EvidenceTruncated, Reason: reason})
	r.f.frame(recording.Frame{Kind: recording.Truncated, Offset: offset, Payload: []byte(reason)})
}

// Note keeps a piece of evidence; session and number are filled in, and the time where it has none.
func (r *Recorder) Note(e event.Evidence) {
	if r == nil {
		return
	}
	offset := time.Since(r.h.StartedAt)
	r.mu.Lock()
	if !r.closed {
		r.note(offset, e)
	}
	r.unlock()
}

// Together has what is recorded meanwhile written at once, when f has returned.
func (r *Recorder) Together(f func()) {
	if r == nil {
		f()
		return
	}
	r.mu.Lock()
	r.held++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.held--
		r.unlock()
	}()
	f()
}

// unlock writes what was recorded, unless somebody wants more written with it, and says that there are notes.
func (r *Recorder) unlock() {
	noted := false
	if r.held == 0 && !r.closed {
		r.write()
		noted, r.noted = r.noted, false
	}
	r.mu.Unlock()
	if noted {
		r.v.o.Noted(r.h.Session)
	}
}

func (r *Recorder) write() {
	r.f.write()
	if r.f.err != nil {
		r.truncated, r.silent = true, true
	}
}

// NoteSeen keeps a piece of evidence of what programs in the pot do. Where there were many, it is counted instead, and
// how many were is told at the session's end.
func (r *Recorder) NoteSeen(e event.Evidence) {
	if r == nil {
		return
	}
	offset := time.Since(r.h.StartedAt)
	r.mu.Lock()
	switch before := r.noteBytes; {
	case r.closed:
	case e.Archive == nil && (r.seen >= maxSeen || r.seenBytes >= maxSeenBytes):
		r.unseen.Add(e)
	default:
		r.note(offset, e)
		r.seen++
		r.seenBytes += r.noteBytes - before
	}
	r.unlock()
}

// note writes a note within the bounds of notes; the last one says that more are missing.
func (r *Recorder) note(offset time.Duration, e event.Evidence) {
	if r.silent {
		return
	}
	if r.notes >= maxNotes || r.noteBytes >= maxNoteBytes {
		r.truncated, r.silent = true, true
		e = event.Evidence{Kind: event.EvidenceTruncated, Reason: fmt.Sprintf("the session left more than %d pieces or %d bytes of evidence", maxNotes, maxNoteBytes)}
	}
	r.notes++
	e.Session, e.Number = r.h.Session, r.notes
	if e.At.IsZero() {
		e.At = r.h.StartedAt.Add(offset)
	}
	payload, err := e.AppendJSON(r.payload[:0])
	if err != nil || len(payload) > recording.MaxFrame {
		r.notes--
		return
	}
	if r.payload = payload; cap(payload) > maxHeld {
		r.payload = nil // as of frames
	}
	r.noteBytes += len(payload)
	if over := r.f.size + int64(len(payload)) + recording.FrameHead - max(r.f.size, charge); over > 0 {
		if reason := r.v.reserve(r.h.Attacker, over); reason != "" && !r.truncated {
			r.truncate(offset, reason) // a bounded number of notes goes on
		}
	}
	r.frame(recording.Frame{Kind: recording.Note, Channel: e.Channel, Offset: offset, Payload: payload})
	r.noted = true
}

// Close finishes the recording: when it returns, the recording is on the disk under the SHA-256 that
// it returns. Until Forget, a process that starts after a crash finds it again.
func (r *Recorder) Close(reason string) (sha256 string, truncated bool, err error) {
	r.closeFiles()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return "", r.truncated, errors.New("finish a recording: it is finished")
	}
	offset := time.Since(r.h.StartedAt)
	if unseen := r.unseen; unseen.Sum() > 0 {
		r.note(offset, event.Evidence{Kind: event.EvidenceMissed, Missed: &unseen, Reason: "the session holds no more of what programs did in its pot"})
	}
	r.note(offset, event.Evidence{Kind: event.EvidenceClosed, Reason: reason})
	r.closed = true
	sha256, err = r.f.finish(reason, offset)
	if full := r.v.finished(r.f.size, r.truncated, err != nil); full {
		if err := r.v.prune(); err != nil {
			r.v.log.Warn("old recordings are not removed", "error", err)
		}
	}
	if err != nil {
		return "", true, err
	}
	return sha256, r.truncated, nil
}
