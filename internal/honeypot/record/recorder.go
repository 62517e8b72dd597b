package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// checkRoom is how many bytes are written between two looks at the file system's free space.
const checkRoom = 8 << 20

// Recorder records one session. Its methods may be called concurrently.
type Recorder struct {
	v         *Vault
	h         Header
	mu        sync.Mutex
	f         *file
	truncated bool
	closed    bool
	sinceRoom int64
}

// Begin starts a recording. What cannot be recorded, for want of room, is not: the recording is then
// truncated from its start.
func (v *Vault) Begin(h Header) (*Recorder, error) {
	f, err := v.create(h, partSuffix)
	if err != nil {
		v.mu.Lock()
		v.counts.Failed++
		v.mu.Unlock()
		return nil, err
	}
	r := &Recorder{v: v, h: h, f: f}
	switch reason := v.reserve(h.Attacker, charge); {
	case reason != "":
		r.truncate(0, reason)
	case !v.roomLeft():
		r.truncate(0, "the disk is nearly full")
	}
	return r, nil
}

// Record keeps bytes that passed now. It returns at once, and never fails: where it cannot keep them,
// the recording says so.
func (r *Recorder) Record(kind Kind, p []byte) {
	offset := time.Since(r.h.StartedAt)
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 && !r.truncated && !r.closed {
		n := min(len(p), MaxFrame)
		need := int64(n + frameHead)
		if r.f.size+need > r.v.o.MaxSession {
			r.truncate(offset, fmt.Sprintf("the recording reached %d bytes", r.v.o.MaxSession))
			return
		}
		// The first bytes are paid for already.
		if over := r.f.size + need - max(r.f.size, charge); over > 0 {
			if reason := r.v.reserve(r.h.Attacker, over); reason != "" {
				r.truncate(offset, reason)
				return
			}
		}
		if r.sinceRoom += need; r.sinceRoom > checkRoom {
			r.sinceRoom = 0
			if !r.v.roomLeft() {
				r.truncate(offset, "the disk is nearly full")
				return
			}
		}
		r.f.frame(kind, offset, p[:n])
		if r.f.err != nil {
			r.truncated = true
			return
		}
		p = p[n:]
	}
}

func (r *Recorder) truncate(offset time.Duration, reason string) {
	r.truncated = true
	r.f.frame(Truncated, offset, []byte(reason))
}

// Close finishes the recording: when it returns, the recording is on the disk under the SHA-256 that
// it returns. Until Forget, a process that starts after a crash finds it again.
func (r *Recorder) Close(reason string) (sha256 string, truncated bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return "", r.truncated, errors.New("finish a recording: it is finished")
	}
	r.closed = true
	sha256, err = r.f.finish(reason, time.Since(r.h.StartedAt))
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

// file is a recording that is being written.
type file struct {
	v    *Vault
	f    *os.File
	hash hash.Hash
	size int64
	buf  []byte
	err  error // the first one
}

func (v *Vault) create(h Header, suffix string) (*file, error) {
	head, err := encodeHeader(h)
	if err != nil {
		return nil, fmt.Errorf("begin a recording: %w", err)
	}
	path := v.part(h.Session, suffix)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin a recording: %w", err)
	}
	w := &file{v: v, f: f, hash: sha256.New()}
	w.write(head)
	if w.err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, w.err
	}
	return w, nil
}

func (w *file) frame(kind Kind, offset time.Duration, payload []byte) {
	w.buf = appendFrame(w.buf[:0], kind, offset, payload)
	w.write(w.buf)
}

// write writes all of p or notes the error; a piece of a frame is taken back.
func (w *file) write(p []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.f.Write(p); err != nil {
		w.err = fmt.Errorf("write a recording: %w", err)
		if err := w.f.Truncate(w.size); err == nil {
			_, _ = w.f.Seek(w.size, 0)
		}
		return
	}
	w.hash.Write(p)
	w.size += int64(len(p))
}

// finish ends the recording and moves it into the store.
func (w *file) finish(reason string, offset time.Duration) (string, error) {
	failed := w.err
	w.err = nil // an end fits where a frame did not, perhaps
	if failed != nil {
		w.frame(Truncated, offset, []byte(failed.Error()))
	}
	w.frame(End, offset, []byte(reason))
	path := w.f.Name()
	err := errors.Join(w.err, w.f.Sync(), w.f.Close())
	sum := hex.EncodeToString(w.hash.Sum(nil))
	target := w.v.Path(sum)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(target), 0o700)
	}
	if err == nil {
		err = os.Link(path, target)
	}
	if err == nil {
		err = errors.Join(syncDir(filepath.Dir(target)), syncDir(w.v.store))
	}
	if err != nil {
		return "", fmt.Errorf("finish a recording: %w", err)
	}
	return sum, nil
}

// discard closes and removes the file under its temporary name.
func (w *file) discard() {
	_ = w.f.Close()
	_ = os.Remove(w.f.Name())
}

// Forget is called when the record of a finished recording's session is safe.
func (v *Vault) Forget(session string) { _ = os.Remove(v.part(session, partSuffix)) }

func (v *Vault) part(session, suffix string) string {
	return filepath.Join(v.parts, filepath.Base(session)+suffix)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	defer d.Close() //nolint:errcheck // read-only
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	return nil
}

// writeFile replaces a file so that a crash leaves the old one or the new one; durable, also a power loss.
func writeFile(path string, data []byte, durable bool) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone once it is renamed
	_, err = tmp.Write(data)
	if err == nil && durable {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil && durable {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
