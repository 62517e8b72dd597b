package collect

import (
	"context"
	"path/filepath"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Log is a file that software writes in a form of its own.
type Log struct {
	Path   string // may have date parts
	Format native.Format
}

// Plain is the format of a program's log whose lines are its messages as they are.
func Plain(program string) native.Format {
	return native.Format{App: program, New: func() native.Reader { return &plain{} }}
}

type plain struct{ out [1]native.Record }

// Line returns each line as a record.
func (p *plain) Line(line []byte, _ time.Time) []native.Record {
	p.out[0] = native.Record{Text: line}
	return p.out[:]
}

// Flush has nothing: a line does not go on.
func (*plain) Flush() []native.Record { return nil }

// nativeLog follows and converts a Log.
type nativeLog struct {
	follower  *tail.Follower
	converter *converter
	problems  *trouble.Kept
}

func newNativeLog(l Log, c *Options, dir string) (*nativeLog, error) {
	name := tail.FileName(l.Path + "#" + l.Format.Name + l.Format.App)
	f, err := tail.New(tail.Options{Path: l.Path, Cursor: filepath.Join(dir, name), Log: c.Log})
	if err != nil {
		return nil, err
	}
	n := &nativeLog{follower: f, problems: trouble.New(c.Log, "a road for logs")}
	n.converter = newConverter(l.Format, l.Path, filepath.Join(dir, "open-"+name), c, n.problems)
	return n, nil
}

func (n *nativeLog) run(ctx context.Context, w *tail.Watcher) error {
	n.follower.Watch(w)
	return n.converter.run(ctx, n.follower)
}

func (n *nativeLog) stats() tail.Stats { return n.follower.Stats() }

func (n *nativeLog) findings() []event.Finding {
	return append(n.follower.Findings(), n.problems.List()...)
}
