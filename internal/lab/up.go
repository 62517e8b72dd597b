package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
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
	return l.writeState()
}

func (l *Lab) writeState() error {
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
		if err := l.webReady(ctx); err != nil {
			return err
		}
		return l.servicesReady(ctx)
	})
}

// Up brings the whole lab up: machines, server, node, agent. What is up already is left as it is.
func (l *Lab) Up(ctx context.Context) error {
	s := &steps{l: l, n: 6}
	err := s.do("images: the base, machines and pots (some minutes the first time)", func() error {
		if err := l.reach(ctx); err != nil {
			return err
		}
		if err := l.aloneHere(ctx); err != nil {
			return err
		}
		return l.buildImages(ctx)
	})
	if err != nil {
		return err
	}
	if err := l.machinesUp(ctx, s); err != nil {
		return err
	}
	err = s.do("server on 198.51.100.2", func() error { return l.StartServer(ctx) })
	if err != nil {
		return err
	}
	err = s.do("honeypot node on 198.51.100.20", func() error { return l.StartNode(ctx) })
	if err != nil {
		return err
	}
	return s.do("agent on web: enrol it, start it", func() error { return l.installAgent(ctx) })
}

// aloneHere refuses where another server holds the socket.
func (l *Lab) aloneHere(ctx context.Context) error {
	pids, err := l.Server().PIDs()
	if err != nil || len(pids) > 0 {
		return err
	}
	if _, err := l.API().Status(ctx); err == nil {
		return fmt.Errorf("another Kokkuri server answers on %s: stop it, or use another machine for the lab", l.o.Socket)
	}
	return nil
}

// StartServer starts the server and waits until it answers.
func (l *Lab) StartServer(ctx context.Context) error {
	if err := os.WriteFile(l.configPath(), []byte(l.serverConfig("")), 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return l.Server().Start(ctx, func(ctx context.Context) error {
		_, err := l.API().Status(ctx)
		return err
	})
}

// StartNode starts the node, enrolled with a token of the server, and waits until the server sees it.
func (l *Lab) StartNode(ctx context.Context) error {
	token, err := l.API().Enroll(ctx, api.RoleNode, NodeName, 0)
	if err != nil {
		return fmt.Errorf("get a token for the node: %w", err)
	}
	if err := os.WriteFile(l.configPath(), []byte(l.serverConfig(token.Token)), 0o600); err != nil {
		return fmt.Errorf("write the node's configuration: %w", err)
	}
	began := time.Time{}
	if pids, err := l.Node().PIDs(); err == nil && len(pids) == 0 {
		began = time.Now()
	}
	return l.Node().Start(ctx, func(ctx context.Context) error {
		return connectedSince[api.Node](ctx, l, api.PathNodes, NodeName, began)
	})
}
