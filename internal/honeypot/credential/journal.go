package credential

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

const secretSize = 32

// secretIn returns the secret in a file, which is made where it does not exist.
func secretIn(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) == secretSize {
		return secret, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("key of the credentials: %w", err)
	}
	secret = make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("key of the credentials: %w", err)
	}
	return secret, nil
}

// journal is a file of one JSON object a line; a later line of the same attacker replaces the former.
type journal struct {
	path string
	f    *os.File
}

// openJournal calls each for what an earlier process wrote. A line that was cut off is left out.
func openJournal(path string, each func(state), log *slog.Logger) (*journal, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	bad := 0
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var s state
		if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
			bad++
			continue
		}
		if s.Pair != "" && s.Guest == nil {
			bad++
			continue
		}
		each(s)
	}
	if bad > 0 || scan.Err() != nil {
		log.Warn("credentials cannot be read in part; those attackers begin anew", "file", path, "lines", bad, "error", scan.Err())
	}
	return &journal{path: path}, nil
}

// rewrite replaces the file.
func (j *journal) rewrite(all []state) error {
	var b bytes.Buffer
	for _, s := range all {
		line, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("keep credentials: %w", err)
		}
		b.Write(append(line, '\n'))
	}
	tmp := j.path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep credentials: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep credentials: %w", err), f.Close())
	}
	j.f = f
	return syncDir(filepath.Dir(j.path))
}

// write appends; durable: also over a power loss.
func (j *journal) write(s state, durable bool) error {
	line, err := json.Marshal(s)
	if err == nil {
		_, err = j.f.Write(append(line, '\n'))
	}
	if err == nil && durable {
		err = j.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("keep credentials: %w", err)
	}
	return nil
}

func (j *journal) close() error {
	if j.f == nil {
		return nil
	}
	if err := j.f.Close(); err != nil {
		return fmt.Errorf("close the credentials: %w", err)
	}
	return nil
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
