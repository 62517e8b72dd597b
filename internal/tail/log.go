package tail

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Log follows what one path stands for: one log, or with wildcards all files that match.
type Log struct {
	one  *Follower
	many *Set
}

// NewLog checks the options; it touches nothing. Of a path with wildcards the cursors lie in a folder that is named as
// Cursor is, without its extension.
func NewLog(o Options) (*Log, error) {
	if !strings.ContainsAny(o.Path, wildcards) {
		f, err := New(o)
		return &Log{one: f}, err
	}
	dir := strings.TrimSuffix(o.Cursor, filepath.Ext(o.Cursor))
	s, err := NewSet(SetOptions{Options: o, Dir: dir})
	return &Log{many: s}, err
}

// Watch makes it share w with others. It is to be called before Run.
func (l *Log) Watch(w *Watcher) {
	if l.many != nil {
		l.many.Watch(w)
		return
	}
	l.one.Watch(w)
}

// Run follows until ctx ends and returns nil then, as [Follower.Run] does. Batches of several files may come at once.
func (l *Log) Run(ctx context.Context, take func(context.Context, Batch) error) error {
	if l.many != nil {
		return l.many.Run(ctx, func(ctx context.Context, _ string, b Batch) error { return take(ctx, b) })
	}
	return l.one.Run(ctx, take)
}

// Stats returns what was counted so far.
func (l *Log) Stats() Stats {
	if l.many != nil {
		return l.many.Stats()
	}
	return l.one.Stats()
}

// Findings returns what hinders the following now, each with its mend.
func (l *Log) Findings() []event.Finding {
	if l.many != nil {
		return l.many.Findings()
	}
	return l.one.Findings()
}
