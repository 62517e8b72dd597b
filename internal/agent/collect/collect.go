// Package collect ships the lines of a host's log files to the bus, each once, with cursors that move only after the bus has acknowledged.
package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/tail"
)

// Options of a Collector.
type Options struct {
	Host    string   // whose lines they are
	Files   []string // followed files of syslog; may have date parts and wildcards
	Logs    []Log    // followed files of other forms
	Journal *Journal // nil: not followed
	// Containers whose logs are followed, and the socket of the Docker Engine that has them.
	Containers   []Container
	DockerSocket string
	Redis        []Redis
	StateDir     string // keeps the cursors
	// Publish returns when the bus has acknowledged the batch.
	Publish func(ctx context.Context, b event.Batch) error
	Log     *slog.Logger

	lost *losses
}

// road is a way by which lines come, beside files of syslog.
type road interface {
	run(ctx context.Context, w *tail.Watcher) error
	findings() []event.Finding
}

// Collector follows logs and publishes their lines.
type Collector struct {
	o         Options
	followers []*tail.Log
	roads     []road
	lost      losses
}

var errTwice = errors.New("it is named twice, and its lines would count twice")

// New makes a collector; it opens no file yet.
func New(o Options) (*Collector, error) {
	dir := filepath.Join(o.StateDir, "cursors")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for cursors: %w", err)
	}
	c := &Collector{o: o}
	c.o.lost = &c.lost
	for i, path := range o.Files {
		if slices.Contains(o.Files[:i], path) {
			return nil, fmt.Errorf("follow %s: %w", path, errTwice)
		}
		f, err := tail.NewLog(tail.Options{Path: path, Cursor: filepath.Join(dir, tail.FileName(path)), Log: o.Log})
		if err != nil {
			return nil, fmt.Errorf("follow %s: %w", path, err)
		}
		c.followers = append(c.followers, f)
	}
	for i, l := range o.Logs {
		if slices.Contains(o.Files, l.Path) || slices.ContainsFunc(o.Logs[:i], func(m Log) bool { return m.Path == l.Path }) {
			return nil, fmt.Errorf("follow %s: %w", l.Path, errTwice)
		}
		n, err := newNativeLog(l, &c.o, dir)
		if err != nil {
			return nil, fmt.Errorf("follow %s: %w", l.Path, err)
		}
		c.roads = append(c.roads, n)
	}
	if len(o.Containers) > 0 {
		c.roads = append(c.roads, newContainers(o.Containers, o.DockerSocket, &c.o, dir))
	}
	for i, r := range o.Redis {
		if slices.ContainsFunc(o.Redis[:i], func(e Redis) bool { return e.Address == r.Address }) {
			return nil, fmt.Errorf("read ACL LOG of %s: %w", r.Address, errTwice)
		}
		c.roads = append(c.roads, newRedisLog(r, &c.o, dir))
	}
	if o.Journal != nil {
		c.roads = append(c.roads, newJournal(*o.Journal, &c.o, dir))
	}
	return c, nil
}

// Run follows all files until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	watcher := tail.NewWatcher(c.o.Log)
	defer watcher.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(c.followers)+len(c.roads))
	var running sync.WaitGroup
	for i, f := range c.followers {
		f.Watch(watcher)
		running.Go(func() {
			if errs[i] = f.Run(ctx, c.take); errs[i] != nil {
				cancel() // one that can't go on must not be overlooked
			}
		})
	}
	for i, r := range c.roads {
		running.Go(func() {
			at := len(c.followers) + i
			if errs[at] = r.run(ctx, watcher); errs[at] != nil {
				cancel()
			}
		})
	}
	if len(errs) == 0 {
		<-ctx.Done()
	}
	running.Wait()
	return errors.Join(errs...)
}

func (c *Collector) take(ctx context.Context, b tail.Batch) error {
	lines := make([][]byte, len(b.Lines))
	for i, l := range b.Lines {
		lines[i] = bytes.Clone(l)
	}
	if err := c.o.Publish(ctx, event.Batch{
		Host: c.o.Host, Road: event.RoadAgent, Origin: b.Path, Received: time.Now(), ID: c.o.Host + "/" + b.ID, Lines: lines,
	}); err != nil {
		return fmt.Errorf("publish lines of %s: %w", b.Path, err)
	}
	return nil
}

// Findings are what hinders the following now.
func (c *Collector) Findings() []event.Finding {
	var out []event.Finding
	for _, f := range c.followers {
		out = append(out, f.Findings()...)
	}
	for _, r := range c.roads {
		out = append(out, r.findings()...)
	}
	return append(out, c.cutFinding()...)
}

// Stats sums up what was counted.
func (c *Collector) Stats() tail.Stats {
	var out tail.Stats
	for _, f := range c.followers {
		out.Add(f.Stats())
	}
	return out
}
