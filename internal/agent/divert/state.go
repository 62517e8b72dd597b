package divert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const stateFile = "divert.json"

// state is what must be put back, written before it is changed, so that whoever comes next can put it back.
type state struct {
	Identity string   `json:"identity"` // boot and network namespace that the rest holds for
	All4     string   `json:"all4,omitempty"`
	All6     string   `json:"all6,omitempty"`
	Sysctls  []sysctl `json:"sysctls,omitempty"` // in the order in which they were changed
	Rules    []rule   `json:"rules,omitempty"`
}

// sysctl is a file below /proc/sys that we changed, or that changed with what we changed.
type sysctl struct {
	Path string `json:"path"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// rule is one that we put into DOCKER-USER.
type rule struct {
	Program  string `json:"program"`
	Endpoint string `json:"endpoint"`
}

func (s *state) empty() bool { return len(s.Sysctls) == 0 && len(s.Rules) == 0 }

// load reads the state of this boot and namespace; that of another is void.
func load(dir string, sp space) (*state, error) {
	id, err := sp.identity()
	if err != nil {
		return nil, err
	}
	s := &state{}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read what to put back: %w", err)
	default:
		if err := json.Unmarshal(b, s); err != nil {
			return nil, fmt.Errorf("read what to put back: %s: %w", filepath.Join(dir, stateFile), err)
		}
	}
	if s.Identity != id {
		s = &state{Identity: id}
	}
	return s, nil
}

// save writes the state in one step and waits until the disk has it. An empty one is no file.
func (s *state) save(dir string) error {
	path := filepath.Join(dir, stateFile)
	if s.empty() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("note what to put back: %w", err)
		}
		return nil
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("note what to put back: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("note what to put back: %w", err)
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note what to put back: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("note what to put back: %w", err)
	}
	return nil
}
