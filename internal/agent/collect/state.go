package collect

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
)

// stateFile keeps a value across crashes: a journal of one JSON object a line, of which the last whole one counts. Appending
// is much cheaper than replacing the file, and a killed process leaves at worst half a line at the end.
type stateFile struct {
	path string
	f    *os.File // nil before the first write and after one that failed
	size int
}

// stateSize is how large a state file grows before it is written anew.
const stateSize = 1 << 20

// load fills v with what was saved last; false where nothing was. A file that can't be understood is put aside.
func (s *stateFile) load(v any, log *slog.Logger) (bool, error) {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read cursor: %w", err)
	}
	lines := bytes.Split(b, []byte{'\n'})
	for _, line := range slices.Backward(lines[:len(lines)-1]) {
		if json.Unmarshal(line, v) == nil {
			return true, nil
		}
	}
	log.Warn("the cursor is unusable and put aside; the road begins anew", "cursor", s.path)
	if err := os.Rename(s.path, s.path+".broken"); err != nil {
		return false, fmt.Errorf("put a broken cursor aside: %w", err)
	}
	return false, nil
}

func (s *stateFile) save(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	b = append(b, '\n')
	if s.f == nil || s.size+len(b) > stateSize {
		return s.replace(b)
	}
	if _, err := s.f.Write(b); err != nil {
		s.close()
		return fmt.Errorf("write cursor: %w", err)
	}
	s.size += len(b)
	return nil
}

// replace makes b all that the file holds, in one step.
func (s *stateFile) replace(b []byte) error {
	s.close()
	tmp := s.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	if _, err = f.Write(b); err == nil {
		err = os.Rename(tmp, s.path)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("write cursor: %w", err)
	}
	s.f, s.size = f, len(b)
	return nil
}

func (s *stateFile) close() {
	if s.f != nil {
		_ = s.f.Close() // each write was whole
		s.f = nil
	}
}

func newNonce() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
