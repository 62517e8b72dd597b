package tail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxSiblings bounds how many files of a directory are looked at.
const maxSiblings = 4096

// maxTries bounds how often a directory is read that changes meanwhile.
const maxTries = 50

// sibling is a file that may be an older one of the same log.
type sibling struct {
	path   string
	info   fs.FileInfo
	zipped bool
	number int // .1, .2, …: the higher the older; 0 where the name has none
}

// siblings lists, oldest first, the regular files beside path whose name is its name and what rotation appends: .1, -20261122,
// .2026-11-22, each perhaps with .gz. Of a file that is being compressed only the plain one is listed.
func siblings(path string) []sibling {
	dir, base := filepath.Split(path)
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(maxSiblings)
	suffix := regexp.MustCompile(`^[.-]?[0-9][0-9.-]*$`)
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	var out []sibling
	numbered := true
	for _, whole := range names {
		name, zipped := strings.CutSuffix(whole, zipSuffix)
		if zipped && slices.Contains(names, name) {
			continue
		}
		rest, ok := strings.CutPrefix(name, base)
		if !ok || !suffix.MatchString(rest) {
			// logrotate's `extension`: auth-20261122.log for auth.log
			rest, ok = strings.CutPrefix(name, stem)
			rest, ok2 := strings.CutSuffix(rest, ext)
			if !ok || !ok2 || ext == "" || !suffix.MatchString(rest) {
				continue
			}
		}
		full := filepath.Join(dir, whole)
		if info, err := os.Lstat(full); err == nil && info.Mode().IsRegular() {
			s := sibling{path: full, info: info, zipped: zipped}
			if n, err := strconv.Atoi(strings.TrimLeft(rest, ".-")); err == nil && n < 10_000 {
				s.number = n
			}
			numbered = numbered && s.number > 0
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b sibling) int {
		if numbered {
			return b.number - a.number
		}
		return a.info.ModTime().Compare(b.info.ModTime())
	})
	return out
}

// restore takes up the files that the cursor tells of, wherever a rotation has put them since.
func (f *Follower) restore() error {
	if f.o.Cursor == "" {
		return nil
	}
	if err := makeDir(f.o.Cursor); err != nil {
		return err
	}
	c, err := loadCursor(f.o.Cursor)
	if err != nil {
		// A cursor that cannot be understood must not stop the following for good; what was in it is lost.
		f.counts.lostFiles.Add(1)
		f.o.Log.Warn("the cursor is unusable and put aside; following begins anew", "cursor", f.o.Cursor, "error", err)
		if err := os.Rename(f.o.Cursor, f.o.Cursor+".broken"); err != nil {
			return err //nolint:wrapcheck // names both paths and the operation
		}
		return nil
	}
	if c == nil || c.Pattern != f.o.Path {
		return nil
	}
	f.last, f.handed, f.began = c.Looked, c.Pending, true
	for _, st := range c.Files {
		g := find(st)
		if g == nil {
			f.counts.lostFiles.Add(1)
			f.o.Log.Warn("a file is gone that was not known to be read to its end", "path", st.Path, "offset", st.Offset)
			continue
		}
		f.files = append(f.files, g)
	}
	return nil
}

// find opens the file that st tells of: at its path; else beside it under the same inode; else a copy of it (copytruncate).
func find(st fileState) *file {
	for range maxTries { // a rotation may be under way
		beside := siblings(st.Path)
		if g := openAs(st, st.Path, true); g != nil {
			return g
		}
		for _, s := range beside {
			if g := openAs(st, s.path, true); g != nil {
				return g
			}
		}
		for _, s := range slices.Backward(beside) {
			if st.HeadSize == 0 {
				break // nothing to know it by
			}
			if g := openAs(st, s.path, false); g != nil {
				return g
			}
		}
		if again(beside, st.Path) {
			break
		}
	}
	return nil
}

// openAs opens path if its content, and where asked its inode, is what st tells of.
func openAs(st fileState, path string, sameInode bool) *file {
	if sameInode {
		if info, err := os.Stat(path); err != nil {
			return nil
		} else if _, ino := identity(info); ino != st.Inode {
			return nil
		}
	}
	g, _, err := openFile(path)
	if err != nil {
		return nil
	}
	size, err := g.size()
	if err != nil || sameInode && g.ino != st.Inode || !g.matches(st, size) {
		g.close()
		return nil
	}
	g.path, g.nonce = st.Path, st.Nonce
	g.seek(st.Offset)
	return g
}

// checkTruncation begins g anew if it was truncated. It returns the copy of what g was, if one is found that holds more than
// was read (logrotate's copytruncate): it is to be read first.
func (f *Follower) checkTruncation(g *file) *file {
	if g.zip != nil {
		return nil // nobody writes to it
	}
	info, err := g.f.Stat()
	if err != nil || !g.truncated(info.Size()) {
		return nil
	}
	f.counts.truncations.Add(1)
	was := g.state()
	if g.start < g.scan {
		f.counts.partials.Add(1)
	}
	g.restart()
	f.dirty = true
	if was.HeadSize < 32 || len(f.files) >= maxFiles {
		return nil // too little to know a copy by
	}
	for _, s := range slices.Backward(siblings(was.Path)) {
		if !s.zipped && s.info.Size() <= was.Offset || f.isOpen(s.info) {
			continue
		}
		if c := openAs(was, s.path, false); c != nil {
			return c
		}
	}
	return nil
}

func (f *Follower) isOpen(info fs.FileInfo) bool {
	dev, ino := identity(info)
	return slices.ContainsFunc(f.files, func(g *file) bool { return g.ino == ino && g.dev == dev })
}

// enterMissed takes up the files that came and were rotated away, while nobody looked, between the newest that is open at
// the path of next and next itself.
func (f *Follower) enterMissed(next *file) {
	i := -1
	for j, g := range f.files {
		if g.path == next.path {
			i = j
		}
	}
	if i < 0 {
		return
	}
	for range maxTries { // a rotation may be under way
		missed, stable := f.openMissed(f.files[i], next)
		if stable {
			f.counts.rotations.Add(int64(len(missed)))
			f.files = append(f.files, missed...)
			return
		}
		for _, g := range missed {
			g.close()
		}
	}
	f.counts.lostFiles.Add(1)
	f.o.Log.Warn("the directory changes too fast to tell whether a rotated file was missed", "path", next.path)
}

// openMissed opens the files between newest and next. It reports whether the directory stayed as it was meanwhile.
func (f *Follower) openMissed(newest, next *file) (missed []*file, stable bool) {
	info, err := newest.f.Stat()
	if err != nil {
		return nil, true
	}
	list := siblings(next.path)
	var between []sibling
	if at := slices.IndexFunc(list, func(s sibling) bool { return os.SameFile(s.info, info) }); at >= 0 {
		between = list[at+1:]
	} else { // it went elsewhere
		between = slices.DeleteFunc(slices.Clone(list), func(s sibling) bool { return !s.info.ModTime().After(info.ModTime()) })
	}
	for _, s := range between {
		if _, ino := identity(s.info); ino == next.ino {
			break // rotated as well by now; what came after it is found when the next one is taken up
		}
		if f.isOpen(s.info) || len(f.files)+len(missed) >= maxFiles-1 {
			continue
		}
		g, opened, err := openFile(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			return missed, false
		}
		if err != nil {
			f.counts.lostFiles.Add(1)
			f.o.Log.Warn("a rotated file cannot be read", "path", s.path, "error", err)
			continue
		}
		g.path = next.path
		missed = append(missed, g)
		if !os.SameFile(opened, s.info) {
			return missed, false
		}
	}
	return missed, again(list, next.path)
}

// again reports whether the siblings of path are still those of list.
func again(list []sibling, path string) bool {
	return slices.EqualFunc(list, siblings(path), func(a, b sibling) bool { return a.path == b.path && os.SameFile(a.info, b.info) })
}
