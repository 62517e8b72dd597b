package tail

import (
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
)

// Watcher tells followers at once when something happened in their directories. One watcher serves many followers: the
// kernel grants a user only a few.
type Watcher struct {
	log  *slog.Logger
	fs   *fsnotify.Watcher // nil where the kernel gave none
	err  error             // why fs is nil
	done chan struct{}

	ops sync.Mutex // serialises additions and removals; never held by dispatch, which fs may wait for

	mu   sync.Mutex
	dirs map[string]map[*subscriber]struct{}
}

// subscriber is woken for events in the directories that it subscribed to.
type subscriber struct {
	wake chan struct{} // capacity 1
	all  atomic.Bool   // wants writes to any file of the directory, not only to name
	name atomic.Pointer[string]
}

func newSubscriber() *subscriber { return &subscriber{wake: make(chan struct{}, 1)} }

func (s *subscriber) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscriber) wants(ev fsnotify.Event, name string) bool {
	if ev.Op&^(fsnotify.Write|fsnotify.Chmod) != 0 || s.all.Load() {
		return true // something came, went or was renamed
	}
	n := s.name.Load()
	return n == nil || *n == name
}

// NewWatcher starts watching; Close ends it. Where the kernel gives no inotify instance the watcher still works, and its
// followers look ten times a second instead.
func NewWatcher(log *slog.Logger) *Watcher {
	w := &Watcher{log: log, done: make(chan struct{}), dirs: make(map[string]map[*subscriber]struct{})}
	if w.fs, w.err = fsnotify.NewWatcher(); w.err != nil {
		w.fs = nil
		close(w.done)
		return w
	}
	go w.dispatch()
	return w
}

// Close ends the watching and waits for its goroutine.
func (w *Watcher) Close() {
	if w.fs != nil {
		if err := w.fs.Close(); err != nil {
			w.log.Debug("close inotify", "error", err)
		}
	}
	<-w.done
}

func (w *Watcher) dispatch() {
	defer close(w.done)
	for {
		select {
		case ev, ok := <-w.fs.Events:
			if !ok {
				return
			}
			w.event(ev)
		case _, ok := <-w.fs.Errors: // an overflow: something was missed
			if !ok {
				return
			}
			w.ringAll()
		}
	}
}

func (w *Watcher) event(ev fsnotify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if subs, ok := w.dirs[ev.Name]; ok && ev.Op&(fsnotify.Remove|fsnotify.Rename) != 0 {
		delete(w.dirs, ev.Name) // the directory itself went: the kernel dropped the watch
		for s := range subs {
			s.ring()
		}
	}
	dir, name := filepath.Split(ev.Name)
	for s := range w.dirs[filepath.Clean(dir)] {
		if s.wants(ev, name) {
			s.ring()
		}
	}
}

func (w *Watcher) ringAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, subs := range w.dirs {
		for s := range subs {
			s.ring()
		}
	}
}

// subscribe makes events in dir wake s; it may be repeated, and is to be where the directory may have gone and come back.
func (w *Watcher) subscribe(dir string, s *subscriber) error {
	if w.fs == nil {
		return w.err
	}
	w.ops.Lock()
	defer w.ops.Unlock()
	if !w.enter(dir, s) {
		return nil
	}
	if err := w.fs.Add(dir); err != nil {
		w.leave(dir, s)
		return err //nolint:wrapcheck // the caller says what was being done
	}
	return nil
}

// unsubscribe ends what subscribe began; a directory without subscribers is no longer watched.
func (w *Watcher) unsubscribe(dir string, s *subscriber) {
	if w.fs == nil {
		return
	}
	w.ops.Lock()
	defer w.ops.Unlock()
	if w.leave(dir, s) {
		_ = w.fs.Remove(dir) // fails only where the watch has gone already
	}
}

// enter notes s under dir and reports whether it is the first there.
func (w *Watcher) enter(dir string, s *subscriber) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	subs, ok := w.dirs[dir]
	if !ok {
		subs = make(map[*subscriber]struct{})
		w.dirs[dir] = subs
	}
	subs[s] = struct{}{}
	return !ok
}

// leave strikes s out under dir and reports whether it was the last there.
func (w *Watcher) leave(dir string, s *subscriber) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	subs, ok := w.dirs[dir]
	if !ok {
		return false
	}
	delete(subs, s)
	if len(subs) > 0 {
		return false
	}
	delete(w.dirs, dir)
	return true
}
