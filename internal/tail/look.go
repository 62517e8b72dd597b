package tail

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxFiles bounds how many files of one log are open at once.
const maxFiles = 64

// look compares the files that are open with those that should be: it opens what came and lets go of what is over.
func (f *Follower) look() {
	now := f.o.Clock()
	if !f.began && f.last.IsZero() || f.last.After(now.Add(time.Hour)) {
		f.last = now // a clock that went back must not make the past the future
	}
	paths, current := f.pattern.between(f.last, now)
	today := f.pattern.at(now)
	f.watch(paths[len(paths)-current:])
	live := make([]*file, 0, 2)
	for i, path := range paths {
		if g := f.consider(path, path == today); g != nil && i >= len(paths)-current {
			live = append(live, g)
		}
	}
	f.last = now
	if !f.began {
		f.began, f.dirty = true, true // from now on what appears is new
	}
	if f.o.Optional || len(f.files) > 0 {
		f.problems.Clear("missing")
	}
	f.dropOld(live)
	f.sub.all.Store(len(f.files) > len(live) || f.pattern.dated)
}

// consider makes sure that the file at path, if there is one, is read.
func (f *Follower) consider(path string, expected bool) *file {
	info, err := os.Stat(path)
	if err != nil {
		switch {
		case !expected:
		case errors.Is(err, fs.ErrNotExist):
			f.problems.Clear("open")
			if len(f.files) == 0 && !f.o.Optional {
				f.problems.Set("missing", event.Finding{
					Level: "warning", Subject: path, Text: "there is no such file (yet)",
					Mend: "is the path right, and does a syslog daemon write it? (Debian 12 and later: apt install rsyslog)",
				})
			}
		default:
			f.unreadable(path, err)
		}
		return nil
	}
	dev, ino := identity(info)
	for _, g := range f.files {
		if g.ino == ino && g.dev == dev {
			g.path, g.grown = path, time.Now()
			if expected {
				f.problems.Clear("open")
			}
			return g
		}
	}
	if len(f.files) >= maxFiles {
		return nil // the oldest are let go first
	}
	g, opened, err := openFile(path)
	if err != nil {
		if !f.began && !f.o.FromHead {
			f.held[ino] = info.Size()
		}
		f.unreadable(path, err)
		return nil
	}
	if expected {
		f.problems.Clear("open")
	}
	f.enter(g, opened.Size())
	return g
}

// enter takes a newly opened file up.
func (f *Follower) enter(g *file, size int64) {
	held, known := f.held[g.ino]
	delete(f.held, g.ino)
	switch {
	case known && held <= size:
		f.counts.skipped.Add(g.skipToEnd(held))
	case !f.began && !f.o.FromHead && len(f.files) == 0:
		f.counts.skipped.Add(g.skipToEnd(size))
	default:
		f.enterMissed(g)
		if len(f.files) > 0 {
			f.counts.rotations.Add(1)
		}
	}
	f.files = append(f.files, g)
	f.dirty = true
}

func (f *Follower) unreadable(path string, err error) {
	mend := "check the path in the configuration"
	if errors.Is(err, fs.ErrPermission) {
		mend = fmt.Sprintf("let this program read it: run it as root, or add its user to the group that owns %s (on Debian: adm)", path)
	}
	f.problems.Set("open", event.Finding{Level: "error", Subject: path, Text: fmt.Sprintf("cannot be read: %v; tried again every second", err), Mend: mend})
}

// dropOld lets go of files that were read to their end and have a successor that is written to.
func (f *Follower) dropOld(live []*file) {
	successor := false
	for i, g := range slices.Backward(f.files) {
		size, _ := g.size()
		crowded := len(f.files) >= maxFiles
		over := g.scan >= size && !slices.Contains(live, g) && (successor && time.Since(g.grown) >= f.o.Linger || crowded)
		if !over {
			successor = successor || size > 0
			continue
		}
		if g.start < g.scan && !g.over {
			g.over = true // its last line has no end and will get none: it is handed on first
			continue
		}
		g.close()
		f.files = slices.Delete(f.files, i, i+1)
		f.dirty = true
	}
}

// watch makes sure that events in the directories of paths, and of what they link to, wake the follower.
func (f *Follower) watch(paths []string) {
	if f.watcher.fs == nil {
		return
	}
	want := make(map[string]struct{}, 2)
	for _, path := range paths {
		want[existing(filepath.Dir(path))] = struct{}{}
		if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
			want[filepath.Dir(target)] = struct{}{}
			f.sub.name.Store(nil)
		} else {
			name := filepath.Base(path)
			f.sub.name.Store(&name)
		}
	}
	failed := false
	for dir := range want {
		if err := f.watcher.subscribe(dir, f.sub); err != nil {
			failed = true
			f.problems.Set("watch", event.Finding{
				Level: "warning", Subject: dir, Text: fmt.Sprintf("cannot be watched: %v; looking every %s instead", err, f.o.Poll),
				Mend: "let this program read the directory; or raise fs.inotify.max_user_watches with sysctl",
			})
			continue
		}
		f.dirs[dir] = struct{}{}
	}
	for _, path := range paths {
		if _, watched := want[existing(filepath.Dir(path))]; !watched && !failed {
			f.sub.ring() // it came before the one above it was watched, and nothing will tell of it
		}
	}
	if !failed {
		f.problems.Clear("watch")
	}
	for dir := range f.dirs {
		if _, ok := want[dir]; !ok {
			f.watcher.unsubscribe(dir, f.sub)
			delete(f.dirs, dir)
		}
	}
}

// existing returns dir or the nearest directory above it that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
