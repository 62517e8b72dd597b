// Package archive finds what an attacker has changed in a pot, by the pot's layer of its overlay file system.
//
// The layer is the attacker's work, and read when no process of the pot runs: names, links, devices and sizes are made
// up by somebody who expects to be read. So every entry is resolved by the kernel below the layer's folder, no link is
// followed and no mount crossed (openat2(2)), nothing but regular files and folders is opened, and time, number and
// bytes are bounded.
package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// What was done to a file.
const (
	Added   = "added"
	Changed = "changed"
	Deleted = "deleted"
)

const (
	resolve    = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	chunk      = 1024 // names that are read of a folder at once
	maxTarget  = 4096
	largest    = 64 << 20 // bytes that a file counts for at most: of a larger one the start is kept
	opaqueAttr = "trusted.overlay.opaque"
)

// Limits bound an archive; 0 means the default.
type Limits struct {
	Time    time.Duration // 30 s
	Entries int           // that are looked at; 1,000,000
	Changes int           // that are listed; 100,000
	Depth   int           // of folders; 64
	Files   int           // whose content is kept; 1,000
	Bytes   int64         // of these; 256 MiB. The last one may exceed it.
}

func (l Limits) withDefaults() Limits {
	l.Time = cmp.Or(l.Time, 30*time.Second)
	l.Entries = cmp.Or(l.Entries, 1_000_000)
	l.Changes = cmp.Or(l.Changes, 100_000)
	l.Depth = cmp.Or(l.Depth, 64)
	l.Files = cmp.Or(l.Files, 1000)
	l.Bytes = cmp.Or(l.Bytes, 256<<20)
	return l
}

// Layers are a pot's file system: what was changed, and what it was made of, the topmost first.
type Layers struct {
	Upper string
	Lower []string
}

// Result is what was found.
type Result struct {
	Changes []event.Difference // those with content first
	Files   int                // whose content is kept
	Bytes   int64
	// Truncated says what was left out, and why; empty: nothing.
	Truncated string
}

// Keep keeps a file that is said to hold size bytes.
type Keep func(r io.Reader, size int64) (event.Content, error)

type walk struct {
	limits Limits
	lower  []int // descriptors
	out    []event.Difference
	looked int
	cut    string
}

// Find lists the changes and has the content of files kept: programs first, then the small ones. It fails only where
// the layers can't be read, and where ctx is done; what a limit, time among them, leaves out is said.
func Find(ctx context.Context, from Layers, keep Keep, limits Limits) (Result, error) {
	w := &walk{limits: limits.withDefaults()}
	within, cancel := context.WithTimeout(ctx, w.limits.Time)
	defer cancel()
	upper, err := openRoot(from.Upper)
	if err != nil {
		return Result{}, err
	}
	defer unix.Close(upper) //nolint:errcheck // read-only
	for _, dir := range from.Lower {
		fd, err := openRoot(dir)
		if err != nil {
			continue // without it more is told as added
		}
		defer unix.Close(fd) //nolint:errcheck // read-only
		w.lower = append(w.lower, fd)
	}
	w.folder(within, upper, "/", 0, false)
	r := Result{Changes: w.out, Truncated: w.cut}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	w.contents(within, upper, keep, &r)
	slices.SortStableFunc(r.Changes, func(a, b event.Difference) int {
		return cmp.Or(cmp.Compare(kept(b), kept(a)), cmp.Compare(a.Path, b.Path))
	})
	return r, ctx.Err()
}

func kept(d event.Difference) int {
	if d.File != nil && d.File.SHA256 != "" {
		return 1
	}
	return 0
}

func openRoot(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the layer %s of a pot: %w", dir, err)
	}
	return fd, nil
}

// leave notes that something was left out, the first reason only.
func (w *walk) leave(format string, args ...any) {
	if w.cut == "" {
		w.cut = fmt.Sprintf(format, args...)
	}
}

// folder lists what is in a folder of the layer.
func (w *walk) folder(ctx context.Context, dir int, name string, depth int, fresh bool) {
	if depth > w.limits.Depth {
		w.leave("folders deeper than %d", w.limits.Depth)
		return
	}
	f, err := reopen(dir, unix.O_DIRECTORY)
	if err != nil {
		w.leave("a folder that can't be read")
		return
	}
	defer f.Close() //nolint:errcheck // read-only
	for {
		names, err := f.Readdirnames(chunk)
		slices.Sort(names)
		for _, n := range names {
			switch {
			case ctx.Err() != nil:
				w.leave("it took longer than %v", w.limits.Time)
				return
			case w.looked >= w.limits.Entries:
				w.leave("more than %d entries", w.limits.Entries)
				return
			case len(w.out) >= w.limits.Changes:
				w.leave("more than %d changes", w.limits.Changes)
				return
			}
			w.looked++
			w.entry(ctx, dir, path.Join(name, n), n, depth, fresh)
		}
		if err != nil {
			return
		}
	}
}

// entry lists one. Everything below what is fresh was made by the attacker.
func (w *walk) entry(ctx context.Context, dir int, full, name string, depth int, fresh bool) {
	fd, st, err := open(dir, name)
	if err != nil {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // read-only
	d := event.Difference{Path: event.Bytes(full), What: Changed, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Modified: time.Unix(st.Mtim.Unix()).UTC()}
	was, had := w.below(full)
	if fresh || !had {
		d.What = Added
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			w.out = append(w.out, event.Difference{Path: d.Path, What: Deleted})
			return
		}
		d.Type = "character device"
	case unix.S_IFBLK:
		d.Type = "block device"
	case unix.S_IFIFO:
		d.Type = "fifo"
	case unix.S_IFSOCK:
		d.Type = "socket"
	case unix.S_IFLNK:
		d.Type, d.Target = "link", target(fd)
	case unix.S_IFREG:
		d.Type, d.Size = "file", st.Size
	case unix.S_IFDIR:
		d.Type = "folder"
		opaque := d.What == Added || isOpaque(fd)
		same := had && was.Mode == st.Mode && was.Uid == st.Uid && was.Gid == st.Gid && !isOpaque(fd)
		if d.What == Added || !same {
			w.out = append(w.out, d)
		}
		w.folder(ctx, fd, full, depth+1, fresh || opaque)
		return
	}
	w.out = append(w.out, d)
}

// below looks a path up in the layers that the pot was made of.
func (w *walk) below(full string) (st unix.Stat_t, had bool) {
	for _, layer := range w.lower {
		fd, st, err := open(layer, full[1:])
		if err != nil {
			continue
		}
		_ = unix.Close(fd)
		return st, st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0
	}
	return st, false
}

// open finds an entry, and opens it for nothing but looking at it.
func open(dir int, name string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolve})
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && try < 8 {
			continue
		}
		if err != nil {
			return -1, st, fmt.Errorf("find %q: %w", name, err)
		}
		if err := unix.Fstat(fd, &st); err != nil {
			_ = unix.Close(fd)
			return -1, st, fmt.Errorf("look at %q: %w", name, err)
		}
		return fd, st, nil
	}
}

// reopen opens for reading the very thing that was looked at.
func reopen(fd, flags int) (*os.File, error) {
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	flags |= unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	f, err := os.OpenFile(self, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // who is not its owner may lack the capability
		f, err = os.OpenFile(self, flags, 0)
	}
	return f, err //nolint:wrapcheck // the caller says what was done
}

func target(fd int) event.Bytes {
	buf := make([]byte, maxTarget)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return ""
	}
	return event.Bytes(buf[:n])
}

// isOpaque reports whether a folder hides what was there before (overlayfs of the kernel's documentation).
func isOpaque(fd int) bool {
	var buf [4]byte
	n, err := unix.Getxattr("/proc/self/fd/"+strconv.Itoa(fd), opaqueAttr, buf[:])
	return err == nil && n == 1 && buf[0] == 'y'
}

// contents has files kept, as many as the limits let.
func (w *walk) contents(ctx context.Context, upper int, keep Keep, r *Result) {
	order := make([]int, 0, len(r.Changes))
	for i, d := range r.Changes {
		if d.Type == "file" {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := r.Changes[a], r.Changes[b]
		return cmp.Or(cmp.Compare(y.Mode&0o111, x.Mode&0o111), cmp.Compare(x.Size, y.Size))
	})
	for n, i := range order {
		d := &r.Changes[i]
		switch {
		case ctx.Err() != nil:
			w.leave("content: it took longer than %v", w.limits.Time)
		case n >= w.limits.Files:
			w.leave("content of more than %d files", w.limits.Files)
		case r.Bytes >= w.limits.Bytes:
			w.leave("content of more than %d bytes", w.limits.Bytes)
		default:
			w.content(upper, d, keep, r)
			continue
		}
		break
	}
	r.Truncated = w.cut
}

func (w *walk) content(upper int, d *event.Difference, keep Keep, r *Result) {
	fd, st, err := open(upper, string(d.Path)[1:])
	if err != nil {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // read-only
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	f, err := reopen(fd, 0)
	if err != nil {
		w.leave("a file that can't be read")
		return
	}
	defer f.Close() //nolint:errcheck // read-only
	c, err := keep(f, st.Size)
	if err != nil {
		w.leave("a file that can't be kept: %v", err)
		return
	}
	if d.File = &c; c.SHA256 != "" {
		r.Files++
		r.Bytes += min(c.Size, largest)
	}
	if c.Truncated {
		w.leave("the end of a large file")
	}
}
