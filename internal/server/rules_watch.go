package server

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a rules file must stay as it is before it is read again: editors write in several steps.
const settle = 200 * time.Millisecond

// watchRules reloads the rules when the process is told to (SIGHUP), and when their file, or a file of their folder, changes.
func (s *Server) watchRules(ctx context.Context) error {
	changes, stop := s.ruleFiles()
	defer stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.opts.Reload:
			_, _ = s.rules.reload(ctx) // it logs, and doctor tells
		case e, ok := <-changes:
			if !ok {
				changes = nil
				continue
			}
			if s.isRuleFile(e.Name) {
				timer.Reset(settle)
			}
		case <-timer.C:
			_, _ = s.rules.reload(ctx)
			timer.Reset(time.Hour)
		}
	}
}

// ruleFiles watches the folder of the rules; nothing comes where there is none, or the kernel gives no watch.
func (s *Server) ruleFiles() (<-chan fsnotify.Event, func()) {
	path := s.opts.Config.Rules
	if path == "" {
		return nil, func() {}
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		dir := path
		if info, statErr := os.Stat(path); statErr == nil && !info.IsDir() {
			dir = filepath.Dir(path)
		}
		if err = w.Add(dir); err != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		s.log.Warn("changes of the rules are not noticed: use kokkuri rules reload", "path", path, "error", err)
		return nil, func() {}
	}
	return w.Events, func() { _ = w.Close() }
}

func (s *Server) isRuleFile(name string) bool {
	path := filepath.Clean(s.opts.Config.Rules)
	return name == path || filepath.Dir(name) == path && strings.HasSuffix(name, ".yaml")
}
