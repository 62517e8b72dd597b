package collect

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// problems holds what hinders a road now, one finding for each kind of trouble, and logs each once.
type problems struct {
	log *slog.Logger

	mu  sync.Mutex
	now map[string]event.Finding
}

func (p *problems) set(kind string, f event.Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, again := p.now[kind]
	if p.now == nil {
		p.now = make(map[string]event.Finding)
	}
	p.now[kind] = f
	if again {
		return
	}
	say := p.log.Warn
	if f.Level == levelError {
		say = p.log.Error
	}
	say("a road for logs", "subject", f.Subject, "problem", f.Text, "mend", f.Mend)
}

func (p *problems) clear(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f, ok := p.now[kind]; ok {
		delete(p.now, kind)
		p.log.Info("a road for logs: problem over", "subject", f.Subject, "kind", kind)
	}
}

func (p *problems) list() []event.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]event.Finding, 0, len(p.now))
	for _, k := range slices.Sorted(maps.Keys(p.now)) {
		out = append(out, p.now[k])
	}
	return out
}

// Levels of findings.
const (
	levelError   = "error"
	levelWarning = "warning"
)

// wait pauses for d and reports whether ctx still lives.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
