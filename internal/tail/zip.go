package tail

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// zipSuffix ends the names of files that a rotation compressed.
const zipSuffix = ".gz"

// maxUnzipped bounds what is read of a compressed file: a log of that length is none.
const maxUnzipped = 64 << 30

var errUnzipped = errors.New("it holds more than any log")

// zipped reads a compressed file as if it were not, in constant memory: forwards, and from the beginning anew where it
// must go back.
type zipped struct {
	f    *os.File
	r    *gzip.Reader
	pos  int64
	size int64 // uncompressed
}

// openZipped makes a file of f, which it closes where that can't be done. It reads f once, to its end.
func openZipped(f *os.File, path string, info os.FileInfo) (*file, os.FileInfo, error) {
	z := &zipped{f: f}
	err := z.rewind()
	if err == nil {
		if z.size, err = io.CopyN(io.Discard, z.r, maxUnzipped); err == nil {
			err = errUnzipped
		} else if errors.Is(err, io.EOF) {
			z.pos, err = z.size, nil
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	g := &file{f: f, zip: z, path: path, nonce: newNonce(), grown: time.Now()}
	g.dev, g.ino = identity(info)
	return g, info, nil
}

func (z *zipped) rewind() (err error) {
	if _, err = z.f.Seek(0, io.SeekStart); err != nil {
		return err //nolint:wrapcheck // the caller says what was read
	}
	z.pos = 0
	if z.r == nil {
		z.r, err = gzip.NewReader(z.f)
		return err //nolint:wrapcheck // likewise
	}
	return z.r.Reset(z.f) //nolint:wrapcheck // likewise
}

// readAt reads as io.ReaderAt does.
func (z *zipped) readAt(b []byte, offset int64) (n int, err error) {
	if offset < z.pos {
		if err := z.rewind(); err != nil {
			return 0, err
		}
	}
	skipped, err := io.CopyN(io.Discard, z.r, offset-z.pos)
	z.pos += skipped
	if err == nil {
		n, err = io.ReadFull(z.r, b)
		z.pos += int64(n)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && z.pos == z.size {
		err = io.EOF
	}
	return n, err
}
