package tail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// headSize is how much of a file's beginning tells it from others.
const headSize = 256

// cursor is what survives a restart.
type cursor struct {
	Version int         `json:"version"`
	Pattern string      `json:"pattern"`
	Looked  time.Time   `json:"looked"`            // until then all files were looked for
	Files   []fileState `json:"files"`             // oldest first
	Pending *pending    `json:"pending,omitempty"` // the batch that was handed on but not known to be taken
}

// fileState is how far a file was taken.
type fileState struct {
	Path     string `json:"path"`
	Device   uint64 `json:"device"`
	Inode    uint64 `json:"inode"`
	Offset   int64  `json:"offset"`
	HeadSize int    `json:"head_size"`
	HeadHash string `json:"head_hash"` // SHA-256 of the first HeadSize bytes
	Nonce    string `json:"nonce"`     // names this content of the file; another after a truncation
}

type pending struct {
	Nonce string `json:"nonce"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
}

const cursorVersion = 1

var errCursorVersion = errors.New("unknown version")

// journalSize is how large a cursor file grows before it is written anew.
const journalSize = 256 << 10

// loadCursor reads the cursor at path; nil where there is none. The file holds one JSON object a line, of which the last
// whole one counts: a crash leaves at worst half a line at the end.
func loadCursor(path string) (*cursor, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no cursor yet is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read cursor: %w", err)
	}
	lines := bytes.Split(b, []byte{'\n'})
	var broken error
	for _, line := range slices.Backward(lines[:len(lines)-1]) {
		var c cursor
		if err := json.Unmarshal(line, &c); err != nil {
			broken = err
			continue
		}
		if c.Version != cursorVersion {
			return nil, fmt.Errorf("read cursor %s: %w: it is %d, this program writes %d", path, errCursorVersion, c.Version, cursorVersion)
		}
		return &c, nil
	}
	if broken == nil {
		broken = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read cursor %s: %w", path, broken)
}

// journal writes cursors into a file: mostly by appending, since replacing a file takes many times as long on some file
// systems (ext4 writes the new one out first).
type journal struct {
	path string
	f    *os.File // nil before the first write and after one that failed
	size int
}

func (j *journal) write(c *cursor) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	b = append(b, '\n')
	if j.f == nil || j.size+len(b) > journalSize {
		return j.replace(b)
	}
	if _, err := j.f.Write(b); err != nil {
		j.close()
		return fmt.Errorf("write cursor: %w", err)
	}
	j.size += len(b)
	return nil
}

// replace makes b all that the file holds, in one step.
func (j *journal) replace(b []byte) error {
	j.close()
	tmp := j.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	if _, err = f.Write(b); err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("write cursor: %w", err)
	}
	j.f, j.size = f, len(b)
	return nil
}

func (j *journal) close() {
	if j.f != nil {
		_ = j.f.Close() // each write was whole
		j.f = nil
	}
}

// makeDir creates the directory that holds the cursor.
func makeDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create directory of cursor: %w", err)
	}
	return nil
}
