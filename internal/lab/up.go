package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what a later command must know and can't find out: it is written before anything is changed.
type state struct {
	Road Road `json:"road"`
}

func (l *Lab) statePath() string { return filepath.Join(l.o.StateDir, "lab.json") }

// loadState returns nil where no lab was ever brought up.
func (l *Lab) loadState() (*state, error) {
	data, err := os.ReadFile(l.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // documented above
	}
	if err != nil {
		return nil, fmt.Errorf("read the lab's state: %w", err)
	}
	s := &state{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read the lab's state %s: %w", l.statePath(), err)
	}
	return s, nil
}

// saveState writes the state once; a lab that is brought up again keeps what it knew before the first time.
func (l *Lab) saveState() error {
	old, err := l.loadState()
	if err != nil {
		return err
	}
	if old != nil {
		if old.Road != l.o.Road {
			return fmt.Errorf("the lab is up with the road %s: `kokkuri lab down` first", old.Road)
		}
		return nil
	}
	if err := os.MkdirAll(l.o.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the lab's folder: %w", err)
	}
	data, err := json.MarshalIndent(state{Road: l.o.Road}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	if err := os.WriteFile(l.statePath(), data, 0o600); err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	return nil
}

// machinesUp brings up networks and machines, without anything of Kokkuri.
func (l *Lab) machinesUp(ctx context.Context, s *steps) error {
	err := s.do("networks kokkuri-lab-wan (203.0.113.0/24) and kokkuri-lab-core (198.51.100.0/24)", func() error {
		if err := l.saveState(); err != nil {
			return err
		}
		for _, n := range networks() {
			if err := l.ensureNetwork(ctx, n); err != nil {
				return err
			}
		}
		return addCoreAddrs()
	})
	if err != nil {
		return err
	}
	return s.do("machines web (.10), attacker (.66, .67) and user (.20)", func() error {
		for _, m := range l.Machines() {
			if err := l.ensureMachine(ctx, m); err != nil {
				return err
			}
		}
		return l.webReady(ctx)
	})
}
