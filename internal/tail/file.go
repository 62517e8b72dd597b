package tail

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// errNotRegular: what lies at the path is a directory, a pipe or the like.
var errNotRegular = errors.New("not a regular file")

// file is one open file that is being read.
type file struct {
	f        *os.File
	zip      *zipped // reads f where it is compressed; else nil
	path     string  // where it was found
	dev, ino uint64
	nonce    string
	offset   int64     // everything before was taken; at the beginning of a line, or the end of a last one that has none
	start    int64     // beginning of the line that is being gathered
	scan     int64     // everything before was read
	part     []byte    // of the line from start to scan, at most the longest line
	cut      int64     // how much of that line was left out
	head     []byte    // the file's first bytes, at most headSize and at most up to scan
	over     bool      // it will get no more: a last line without an end is handed on
	grown    time.Time // when something was last read, or the file last seen at a path that is written to
}

// openFile opens the file at path without waiting for anything.
func openFile(path string) (*file, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // names path and operation already
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: %w", path, errNotRegular)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	if strings.HasSuffix(path, zipSuffix) {
		return openZipped(f, path, info)
	}
	g := &file{f: f, path: path, nonce: newNonce(), grown: time.Now()}
	g.dev, g.ino = identity(info)
	return g, info, nil
}

func newNonce() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func identity(info os.FileInfo) (dev, ino uint64) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Dev, st.Ino
	}
	return 0, 0
}

// readAt reads as os.File.ReadAt does, from what is in the file.
func (g *file) readAt(b []byte, offset int64) (int, error) {
	if g.zip != nil {
		return g.zip.readAt(b, offset)
	}
	return g.f.ReadAt(b, offset) //nolint:wrapcheck // the caller says what was read
}

// size returns how much is in the file, uncompressed.
func (g *file) size() (int64, error) {
	if g.zip != nil {
		return g.zip.size, nil
	}
	info, err := g.f.Stat()
	if err != nil {
		return 0, err //nolint:wrapcheck // names path and operation already
	}
	return info.Size(), nil
}

func (g *file) close() { _ = g.f.Close() } // read only: nothing to lose

// seek makes offset the place to read on from.
func (g *file) seek(offset int64) {
	g.offset, g.start, g.scan, g.part, g.cut = offset, offset, offset, nil, 0
	g.head = make([]byte, min(offset, headSize))
	if n, _ := g.readAt(g.head, 0); n < len(g.head) {
		g.head = nil
	}
}

// skipToEnd leaves out what the file holds already, up to its last whole line, and returns how much that is.
func (g *file) skipToEnd(size int64) int64 {
	tail := make([]byte, min(size, 64<<10))
	n, _ := g.readAt(tail, size-int64(len(tail)))
	end := size
	if i := bytes.LastIndexByte(tail[:n], '\n'); i >= 0 {
		end = size - int64(len(tail)) + int64(i) + 1
	}
	g.seek(end)
	return end
}

// learnHead remembers the file's beginning out of what was read at scan: later the file may be another.
func (g *file) learnHead(data []byte) {
	have := int64(len(g.head))
	if have >= headSize || have < g.scan || have >= g.scan+int64(len(data)) {
		return
	}
	g.head = append(g.head, data[have-g.scan:min(int64(len(data)), headSize-g.scan)]...)
}

// unread returns how much of the file was not read yet.
func (g *file) unread() int64 {
	size, err := g.size()
	if err != nil {
		return 0 // never on an open file of a local disk; a stale network file reports it at the next read
	}
	return size - g.scan
}

// truncated reports whether the file was cut, or cut and written anew, since it was read.
func (g *file) truncated(size int64) bool {
	if size < g.scan {
		return true
	}
	if size == g.scan || len(g.head) == 0 {
		return false
	}
	return !g.beginsWith(g.head)
}

func (g *file) beginsWith(head []byte) bool {
	var b [headSize]byte
	n, _ := g.readAt(b[:len(head)], 0)
	return bytes.Equal(b[:n], head)
}

// restart begins the file anew after a truncation.
func (g *file) restart() {
	g.nonce = newNonce()
	g.seek(0)
}

func (g *file) state() fileState {
	head := g.head[:min(int64(len(g.head)), g.offset)]
	sum := sha256.Sum256(head)
	return fileState{
		Path: g.path, Device: g.dev, Inode: g.ino, Offset: g.offset,
		HeadSize: len(head), HeadHash: hex.EncodeToString(sum[:]), Nonce: g.nonce,
	}
}

// matches reports whether the file is the one that st tells of, by its content, and long enough.
func (g *file) matches(st fileState, size int64) bool {
	if size < st.Offset || st.HeadSize > headSize || st.HeadSize < 0 || st.Offset < int64(st.HeadSize) {
		return false
	}
	b := make([]byte, st.HeadSize)
	if n, _ := g.readAt(b, 0); n != len(b) {
		return false
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]) == st.HeadHash
}

// next reads into buf and returns the whole lines found there, at most most of them; they lie in buf or in memory of their
// own. n is how many bytes were read: 0 at the end. left is how many bytes of overlong lines were left out.
func (g *file) next(buf []byte, most, longest int) (lines [][]byte, n int, left int64, err error) {
	n, err = g.readAt(buf, g.scan)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, 0, fmt.Errorf("read %s: %w", g.path, err)
	}
	data, base := buf[:n], g.scan
	g.learnHead(data)
	for len(lines) < most {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			break
		}
		line, cut := data[:i], g.cut
		if len(g.part) > 0 || cut > 0 {
			line, cut = g.gather(line, longest)
		} else if len(line) > longest {
			cut = int64(len(line) - longest)
			line = line[:longest]
		}
		left += cut
		base += int64(i) + 1
		g.start, g.scan, g.part, g.cut = base, base, nil, 0
		data = data[i+1:]
		if line = clean(line); len(line) > 0 {
			lines = append(lines, line)
		}
	}
	if len(lines) < most && len(data) > 0 {
		g.part, g.cut = g.gather(data, longest)
		g.scan = base + int64(len(data))
	}
	if n > 0 {
		g.grown = time.Now()
	}
	return lines, n, left, nil
}

// takeLast returns the last line of a file that will get no more, which has no end; nil where there is none.
func (g *file) takeLast() (line []byte, left int64) {
	line, left = clean(g.part), g.cut
	g.start, g.part, g.cut = g.scan, nil, 0
	return line, left
}

// gather returns the line so far with more behind it, kept to longest bytes, and how much of it is left out.
func (g *file) gather(more []byte, longest int) (part []byte, cut int64) {
	part, cut = g.part, g.cut
	if len(part) == 0 {
		more = bytes.TrimLeft(more, "\x00")
	}
	room := min(longest-len(part), len(more))
	part = append(part, more[:room]...)
	return part, cut + int64(len(more)-room)
}

// clean takes a carriage return off the end, and off the beginning the NULs that a crash or a truncation under a writer's
// feet leaves there.
func clean(line []byte) []byte {
	return bytes.TrimLeft(bytes.TrimSuffix(line, []byte{'\r'}), "\x00")
}
