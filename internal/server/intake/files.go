package intake

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/tail"
)

// FileSource is a log, the same log of many hosts, or all that a pattern with wildcards stands for, that a syslog daemon
// writes on the server. Whose its lines are says Host, else what stands in the place of %HOST% (a name or an address), else each line.
type FileSource struct {
	Pattern string // path; may have date parts, one %HOST% and the wildcards of path.Match
	Host    string
}

// fileSource follows a FileSource.
type fileSource struct {
	in     *Intake
	source FileSource
	one    *tail.Follower
	many   *tail.Set
}

func (in *Intake) newFileSource(source FileSource) (*fileSource, error) {
	f := &fileSource{in: in, source: source}
	o := tail.Options{Path: source.Pattern, Poll: in.o.Poll, Clock: in.o.Clock, Log: in.o.Log}
	// What is followed under another owner is followed anew.
	cursor := filepath.Join(in.o.StateDir, "cursors", tail.FileName(strings.Trim(source.Pattern+" "+source.Host, " ")))
	var err error
	if tail.IsSet(source.Pattern) {
		f.many, err = tail.NewSet(tail.SetOptions{Options: o, Dir: strings.TrimSuffix(cursor, ".json")})
	} else {
		o.Cursor = cursor
		f.one, err = tail.New(o)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *fileSource) run(ctx context.Context) error {
	if f.many != nil {
		f.many.Watch(f.in.watcher)
		if err := f.many.Run(ctx, f.take); err != nil {
			return fmt.Errorf("follow %s: %w", f.source.Pattern, err)
		}
		return nil
	}
	f.one.Watch(f.in.watcher)
	if err := f.one.Run(ctx, func(ctx context.Context, b tail.Batch) error { return f.take(ctx, "", b) }); err != nil {
		return fmt.Errorf("follow %s: %w", f.source.Pattern, err)
	}
	return nil
}

func (f *fileSource) stats() tail.Stats {
	if f.many != nil {
		return f.many.Stats()
	}
	return f.one.Stats()
}

func (f *fileSource) findings() []event.Finding {
	if f.many != nil {
		return f.many.Findings()
	}
	return f.one.Findings()
}

// take hands lines of a file on, in one batch for each host. Each batch is tried until it is taken, for the bus forgets the
// IDs of the first while the last one waits.
func (f *fileSource) take(ctx context.Context, label string, b tail.Batch) error {
	at := f.in.o.Clock()
	var batches []*event.Batch
	index := make(map[string]*event.Batch)
	for _, line := range b.Lines {
		line = withoutPRI(line)
		host, reason := f.owner(label, line)
		if reason != "" {
			f.in.counts.putAside(Quarantined{At: at, Host: host, File: b.Path, Reason: reason}, line)
			continue
		}
		batch := index[host]
		if batch == nil {
			batch = &event.Batch{Host: host, Road: event.RoadFile, Origin: b.Path, Received: at, ID: host + "/file/" + b.ID}
			index[host] = batch
			batches = append(batches, batch)
		}
		batch.Lines = append(batch.Lines, bytes.Clone(line))
	}
	for _, batch := range batches {
		if !f.in.publish(ctx, *batch) {
			return fmt.Errorf("hand on lines of %s: %w", b.Path, ctx.Err())
		}
	}
	return nil
}

func (f *fileSource) owner(label string, line []byte) (host, reason string) {
	switch {
	case f.source.Host != "":
		return f.source.Host, ""
	case label == "":
		return f.in.owner(line, "")
	}
	var ok bool
	if a, err := netip.ParseAddr(label); err == nil {
		host, ok = f.in.o.HostOf(event.Canonical(a))
	} else {
		host, ok = f.in.o.HostByName(label)
	}
	if !ok {
		return "", reasonUnknownHost
	}
	// A name that nobody knows is no lie: hosts call themselves many things. That of another host is.
	if named, unknown := f.in.owner(line, ""); unknown == "" && named != host {
		return host, reasonOtherHost
	}
	return host, ""
}
