package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	spoolSuffix = ".file"
	nameSuffix  = ".name"

	// maxFiles bounds the files of one session.
	maxFiles = 4096
)

// File is a file that comes with a session. Its methods may be called concurrently, and on nil.
type File struct {
	r       *Recorder
	channel uint32
	note    event.File

	mu     sync.Mutex
	f      *os.File // nil where it could not be made
	path   string
	end    int64 // what is written reaches so far
	closed bool
}

// spooled is what is kept beside a file that is not finished.
type spooled struct {
	Channel uint32     `json:"channel"`
	File    event.File `json:"file"`
}

// Create begins a file. Where it cannot be kept, it is noted as truncated.
func (r *Recorder) Create(channel uint32, how string, path event.Bytes) *File {
	return r.create(channel, event.File{How: how, Path: path})
}

// Fetched begins a file that was fetched for a pot; truncated says that it was larger.
func (r *Recorder) Fetched(url event.Bytes, truncated bool) *File {
	return r.create(0, event.File{How: "fetched", URL: url, Truncated: truncated})
}

func (r *Recorder) create(channel uint32, note event.File) *File {
	if r == nil {
		return nil
	}
	f := &File{r: r, channel: channel, note: note}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.files >= maxFiles {
		return nil
	}
	r.files++
	r.open[f] = true
	if r.silent || r.v.reserve(r.h.Attacker, charge) != "" {
		f.note.Truncated = true
		return f
	}
	f.path = r.v.part(r.h.Session, fmt.Sprintf(".%d%s", r.files, spoolSuffix))
	if err := f.spool(); err != nil {
		f.note.Truncated = true
		r.v.log.Warn("file of a session is not kept", "session", r.h.Session, "error", err)
	}
	return f
}

func (f *File) spool() error {
	data, err := json.Marshal(spooled{Channel: f.channel, File: f.note})
	if err == nil {
		err = os.WriteFile(nameOf(f.path), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("name a file: %w", err)
	}
	if f.f, err = os.OpenFile(f.path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("begin a file: %w", err)
	}
	return nil
}

func nameOf(spool string) string { return strings.TrimSuffix(spool, spoolSuffix) + nameSuffix }

// WriteAt keeps bytes of the file, within its bound. It does not fail.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if f == nil {
		return len(p), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.f == nil || len(p) == 0 {
		return len(p), nil
	}
	room := f.r.v.o.MaxFile - off
	if off < 0 || room <= 0 {
		f.note.Truncated = true
		return len(p), nil
	}
	keep := p[:min(int64(len(p)), room)]
	if grows := off + int64(len(keep)) - f.end; grows > 0 {
		if f.r.v.reserve(f.r.h.Attacker, grows) != "" || !f.r.v.roomLeftFor(f.end, grows) {
			f.note.Truncated = true
			return len(p), nil
		}
		f.end += grows
	}
	if _, err := f.f.WriteAt(keep, off); err != nil {
		f.note.Truncated = true
	}
	f.note.Truncated = f.note.Truncated || len(keep) < len(p)
	return len(p), nil
}

// Close finishes the file, under its SHA-256, and notes it; partial says that it did not come whole.
func (f *File) Close(partial bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	f.note.Partial = partial
	if f.f != nil {
		var err error
		if f.note.SHA256, f.note.Size, err = f.r.v.keepFile(f.f, f.path); err != nil {
			f.note.Truncated = true
			f.r.v.log.Warn("file of a session is not kept", "session", f.r.h.Session, "error", err)
		}
	}
	note := f.note
	f.r.mu.Lock()
	delete(f.r.open, f)
	f.r.mu.Unlock()
	f.r.Note(event.Evidence{Kind: event.EvidenceFile, Channel: f.channel, File: &note})
	if f.path != "" {
		f.r.mu.Lock()
		f.r.write() // the note, even where more is to be written with it: nothing else tells of the file once these are gone
		f.r.mu.Unlock()
		_ = os.Remove(f.path)
		_ = os.Remove(nameOf(f.path))
	}
}

// closeFiles ends the files that are still coming.
func (r *Recorder) closeFiles() {
	r.mu.Lock()
	open := make([]*File, 0, len(r.open))
	for f := range r.open {
		open = append(open, f)
	}
	r.mu.Unlock()
	slices.SortFunc(open, func(a, b *File) int { return strings.Compare(a.path, b.path) })
	for _, f := range open {
		f.Close(true)
	}
}

// keepFile moves a file into the store and closes it.
func (v *Vault) keepFile(f *os.File, path string) (sum string, size int64, err error) {
	hash := sha256.New()
	_, err = f.Seek(0, io.SeekStart)
	if err == nil {
		size, err = io.Copy(hash, f)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	sum = hex.EncodeToString(hash.Sum(nil))
	if err == nil {
		err = v.keep(path, sum)
	}
	if err != nil {
		return "", 0, fmt.Errorf("keep a file: %w", err)
	}
	if full := v.grew(size); full {
		if err := v.prune(); err != nil {
			v.log.Warn("old evidence is not removed", "error", err)
		}
	}
	return sum, size, nil
}

// recoverFiles keeps the files of a session that a killed process left.
func (v *Vault) recoverFiles(session string) []event.Evidence {
	paths, _ := filepath.Glob(v.part(session, ".*"+spoolSuffix)) // the pattern is ours
	var out []event.Evidence
	for _, path := range paths {
		var s spooled
		data, err := os.ReadFile(nameOf(path))
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		var f *os.File
		if err == nil {
			f, err = os.Open(path)
		}
		if err == nil {
			s.File.SHA256, s.File.Size, err = v.keepFile(f, path)
		}
		if err != nil {
			v.log.Warn("file of a session that was cut off is not kept", "file", path, "error", err)
		} else {
			s.File.Partial = true
			out = append(out, event.Evidence{Kind: event.EvidenceFile, Channel: s.Channel, File: &s.File})
		}
	}
	return out
}

// forgetFiles removes what recoverFiles has kept under another name.
func (v *Vault) forgetFiles(session string) {
	for _, suffix := range []string{spoolSuffix, nameSuffix} {
		paths, _ := filepath.Glob(v.part(session, ".*"+suffix))
		for _, path := range paths {
			_ = os.Remove(path)
		}
	}
}
