package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"time"

	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	reasonFull = "the disk is nearly full"
	maxHeld    = 64 << 10 // bytes of frames that wait to be written
)

// file is a recording that is being written.
type file struct {
	v    *Vault
	f    *os.File
	hash hash.Hash
	size int64  // of all frames
	kept int64  // of those that are written
	buf  []byte // the others
	err  error  // the first one
}

func (v *Vault) create(h recording.Header, suffix string) (*file, error) {
	head, err := recording.EncodeHeader(h)
	if err != nil {
		return nil, fmt.Errorf("begin a recording: %w", err)
	}
	path := v.part(h.Session, suffix)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin a recording: %w", err)
	}
	w := &file{v: v, f: f, hash: sha256.New()}
	w.buf, w.size = head, int64(len(head))
	w.write()
	if w.err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, w.err
	}
	return w, nil
}

// frame takes a frame that write writes.
func (w *file) frame(f recording.Frame) {
	if w.err != nil {
		return
	}
	w.buf = recording.AppendFrame(w.buf, f)
	w.size += int64(recording.FrameHead + len(f.Payload))
	if len(w.buf) > maxHeld {
		w.write()
	}
}

// write writes the frames that are not yet, or notes the error; what was written of them is taken back.
func (w *file) write() {
	p := w.buf
	if w.err != nil || len(p) == 0 {
		return
	}
	if w.buf = p[:0]; cap(p) > maxHeld {
		w.buf = nil // many sessions live long after one large frame
	}
	if _, err := w.f.Write(p); err != nil {
		w.err = fmt.Errorf("write a recording: %w", err)
		if err := w.f.Truncate(w.kept); err == nil {
			_, _ = w.f.Seek(w.kept, 0)
		}
		w.size = w.kept
		return
	}
	w.hash.Write(p)
	w.kept += int64(len(p))
}

// finish ends the recording and moves it into the store.
func (w *file) finish(reason string, offset time.Duration) (string, error) {
	w.write()
	failed := w.err
	w.err = nil // an end fits where a frame did not, perhaps
	if failed != nil {
		w.frame(recording.Frame{Kind: recording.Truncated, Offset: offset, Payload: []byte(failed.Error())})
	}
	w.frame(recording.Frame{Kind: recording.End, Offset: offset, Payload: []byte(reason)})
	w.write()
	path := w.f.Name()
	err := errors.Join(w.err, w.f.Sync(), w.f.Close())
	sum := hex.EncodeToString(w.hash.Sum(nil))
	if err == nil {
		err = w.v.keep(path, sum)
	}
	if err != nil {
		return "", fmt.Errorf("finish a recording: %w", err)
	}
	return sum, nil
}

// keep gives a file its name in the store; its former name stays.
func (v *Vault) keep(path, sum string) error {
	target := v.Path(sum)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("keep evidence: %w", err)
	}
	if err := os.Link(path, target); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keep evidence: %w", err)
	}
	return errors.Join(syncDir(filepath.Dir(target)), syncDir(v.store))
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
