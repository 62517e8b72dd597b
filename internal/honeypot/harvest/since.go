package harvest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a harvest; 0 means the default.
type Limits struct {
	Files   int   // that are handed out; 1,000
	Bytes   int64 // sum of their sizes after which no more are handed out; 1 GiB. The last one may exceed it.
	Depth   int   // of folders below the first; 32, at most 128
	Entries int   // that are looked at; 100,000
}

// ErrLimit says that there may be more files than were handed out.
var ErrLimit = errors.New("a limit of the harvest was reached")

// Info is what is known of a file.
type Info struct {
	Size    int64     // in bytes, when it was found
	Changed time.Time // its ctime
	Partial bool      // its name is one that rsync uses until a transfer is finished
}

// tick is how far the time that the kernel gives to files lags behind the clock.
const tick = 10 * time.Millisecond

// Since calls fn for every regular file in dir, a path in the pot whose root the node sees as root, that was
// changed or got its name since a moment (by ctime, which an attacker can't set back). If dir is a file, for that one.
// Files come in the order of their names, a folder's before those of its folders; path is absolute in
// the pot; f is read from its start and closed after the call. What vanishes, can't be opened or lies on another file
// system is left out. The error is one about dir, fn's first, the context's, or ErrLimit after all that the limits let
// through was handed out.
func Since(ctx context.Context, root, dir string, since time.Time, fn func(path string, f *os.File, info Info) error, limits Limits) error {
	n, err := find(root, dir)
	if err != nil {
		return err
	}
	defer n.close()
	w := &walk{since: since.Add(-tick), fn: fn, left: limits.withDefaults()}
	dir = path.Join("/", dir)
	switch {
	case n.is(unix.S_IFREG):
		err = w.file(n, dir, false)
	case n.is(unix.S_IFDIR):
		err = w.folder(ctx, n, dir, 0, false)
	default:
		err = fmt.Errorf("harvest %q: %w", dir, ErrNotRegular)
	}
	if err == nil && w.cut {
		err = fmt.Errorf("harvest %q: %w", dir, ErrLimit)
	}
	return err
}

const maxDepth = 128 // each takes a descriptor

func (l Limits) withDefaults() Limits {
	if l.Files <= 0 {
		l.Files = 1000
	}
	if l.Bytes <= 0 {
		l.Bytes = 1 << 30
	}
	if l.Depth <= 0 {
		l.Depth = 32
	}
	if l.Entries <= 0 {
		l.Entries = 100_000
	}
	l.Depth = min(l.Depth, maxDepth)
	return l
}

type walk struct {
	since time.Time
	fn    func(path string, f *os.File, info Info) error
	left  Limits
	cut   bool // something was left out for a limit
}

// folder hands out what is in a folder, and then what is in its folders.
func (w *walk) folder(ctx context.Context, n *node, name string, depth int, partial bool) error {
	var folders []string
	for _, entry := range w.entries(n, name) {
		if err := ctx.Err(); err != nil {
			return err
		}
		isFolder, err := w.entry(n, name, entry, partial)
		if err != nil {
			return err
		}
		if isFolder {
			folders = append(folders, entry)
		}
	}
	for _, entry := range folders {
		if err := w.below(ctx, n, path.Join(name, entry), depth+1, partial || partialFolder(entry)); err != nil {
			return err
		}
	}
	return nil
}

// below goes into a folder.
func (w *walk) below(ctx context.Context, parent *node, name string, depth int, partial bool) error {
	if depth > w.left.Depth {
		w.cut = true
		return nil
	}
	n, err := at(parent.fd, path.Base(name), resolveEntry, unix.O_NOFOLLOW)
	if err != nil {
		return nil // it vanished, or is another file system
	}
	defer n.close()
	if !n.is(unix.S_IFDIR) {
		return nil
	}
	return w.folder(ctx, n, name, depth, partial)
}

// entries returns the names in a folder in order, as many as the limit lets.
func (w *walk) entries(n *node, name string) []string {
	f, err := n.open(name)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var names []string
	for err == nil && len(names) <= w.left.Entries {
		var more []string
		more, err = f.Readdirnames(min(1024, w.left.Entries+1-len(names)))
		names = append(names, more...)
	}
	if len(names) > w.left.Entries {
		w.cut = true
		names = names[:w.left.Entries]
	}
	w.left.Entries -= len(names)
	slices.Sort(names)
	return names
}

// entry hands a file out; a folder is only reported.
func (w *walk) entry(parent *node, folder, name string, partial bool) (isFolder bool, err error) {
	n, err := at(parent.fd, name, resolveEntry, unix.O_NOFOLLOW)
	if err != nil {
		return false, nil // it vanished, or is another file system
	}
	defer n.close()
	if !n.is(unix.S_IFREG) {
		return n.is(unix.S_IFDIR), nil
	}
	return false, w.file(n, path.Join(folder, name), partial)
}

// file hands a file out if it changed.
func (w *walk) file(n *node, name string, partial bool) error {
	changed := time.Unix(n.stat.Ctim.Unix())
	if changed.Before(w.since) {
		return nil
	}
	if w.left.Files == 0 || w.left.Bytes <= 0 {
		w.cut = true
		return nil
	}
	f, err := n.open(name)
	if err != nil {
		return nil // the attacker holds it
	}
	defer func() { _ = f.Close() }()
	w.left.Files--
	w.left.Bytes -= n.stat.Size
	return w.fn(name, f, Info{Size: n.stat.Size, Changed: changed, Partial: partial || partialFile(path.Base(name))})
}

// partialFile reports whether rsync writes under a name like this one until a file is whole: .name.XXXXXX (mkstemp).
func partialFile(name string) bool {
	i := strings.LastIndexByte(name, '.')
	if i < 2 || name[0] != '.' || len(name)-i-1 != 6 {
		return false
	}
	return strings.IndexFunc(name[i+1:], func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// partialFolder reports whether rsync keeps unfinished files in a folder with a name (--delay-updates, --partial-dir).
func partialFolder(name string) bool {
	return name == ".~tmp~" || name == ".rsync-partial"
}
