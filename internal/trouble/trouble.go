// Package trouble keeps what hinders something now, as findings for doctor, and has the log tell of each once.
package trouble

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Levels of findings.
const (
	Error   = "error"
	Warning = "warning"
)

// Kept is the trouble of one thing: a finding for each kind. It is safe for concurrent use.
type Kept struct {
	log *slog.Logger

	mu  sync.Mutex
	now map[string]event.Finding
}

// New keeps trouble of what, such as "log file", and tells log of it.
func New(log *slog.Logger, what string) *Kept {
	return &Kept{log: log.With("what", what), now: map[string]event.Finding{}}
}

// Set says that there is trouble of a kind. As long as it lasts, the log is told of it once, and at level debug of how it changes.
func (k *Kept) Set(kind string, f event.Finding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	old, again := k.now[kind]
	if again && old == f {
		return
	}
	k.now[kind] = f
	say := k.log.Warn
	switch {
	case again:
		say = k.log.Debug
	case f.Level == Error:
		say = k.log.Error
	}
	say("trouble", "subject", f.Subject, "problem", f.Text, "mend", f.Mend)
}

// Clear says that there is no trouble of a kind any more.
func (k *Kept) Clear(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.now[kind]; ok {
		delete(k.now, kind)
		k.log.Info("trouble is over", "subject", f.Subject, "kind", kind)
	}
}

// List is what there is now, in the order of its kinds.
func (k *Kept) List() []event.Finding {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]event.Finding, 0, len(k.now))
	for _, kind := range slices.Sorted(maps.Keys(k.now)) {
		out = append(out, k.now[kind])
	}
	return out
}
