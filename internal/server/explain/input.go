package explain

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	// maxWindow bounds what a zstd file makes us keep: more than any level below --ultra and --long needs.
	maxWindow = 16 << 20
	// sampleSize is how much of an input is looked at to tell its form and its first time.
	sampleSize = 64 << 10
)

// ErrCompression is a log that is compressed in a way that is not read.
var ErrCompression = errors.New("compressed in a way that is not read here")

// stream is an input that is being read.
type stream struct {
	raw   io.Closer
	inner func() // closes the decompressor
	ref   time.Time
	lines splitter
	conv  *converter // nil for lines of syslog
	done  bool
}

// open opens an input and finds out how it is compressed and which form its lines have. What is read of it is counted in read.
func open(in Input, service event.Service, now time.Time, read *atomic.Int64) (*stream, error) {
	raw, err := in.Open()
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	s := &stream{raw: raw, inner: func() {}, ref: in.Written}
	if s.ref.IsZero() {
		s.ref = now
	}
	plain, err := s.decompress(bufio.NewReaderSize(&counting{raw, read}, sampleSize))
	if err != nil {
		s.Close() //nolint:errcheck // the other error tells more
		return nil, err
	}
	// Looking ahead reads no more than a block would.
	ahead := bufio.NewReaderSize(plain, sampleSize)
	sample, _ := ahead.Peek(sampleSize)
	s.lines = splitter{r: ahead}
	if f, ok := guess(sample, service, s.ref); ok {
		s.conv = newConverter(f, s.ref)
	}
	return s, nil
}

// next fills a block; with no lines at the end, or where err tells why not.
func (s *stream) next(b *block) {
	if s.conv != nil {
		s.conv.next(&s.lines, b)
		return
	}
	b.data, b.lines = s.lines.next(b.buf)
}

func (s *stream) err() error { return s.lines.err }

// Close ends reading.
func (s *stream) Close() error {
	s.inner()
	return s.raw.Close() //nolint:wrapcheck // nobody looks at it
}

// decompress reads what is in a gzip or zstd file, of one member or several; others are lines as they are.
func (s *stream) decompress(r *bufio.Reader) (io.Reader, error) {
	magic, _ := r.Peek(6)
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")), len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte("\x2a\x4d\x18")):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		s.inner = z.Close
		return z, nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return nil, fmt.Errorf("%w: try: xz -dc FILE | kokkuri explain -", ErrCompression)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return nil, fmt.Errorf("%w: try: bzip2 -dc FILE | kokkuri explain -", ErrCompression)
	}
	return r, nil
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err //nolint:wrapcheck // as a reader's
}

// inOrder sorts inputs by the first time in them, as rotated logs are to be read; one without a time is placed by when it was
// written, and one that can be opened only once is the last.
func inOrder(inputs []Input, now time.Time) ([]Input, error) {
	if len(inputs) < 2 {
		return inputs, nil
	}
	type dated struct {
		Input
		at time.Time
	}
	list := make([]dated, 0, len(inputs))
	for _, in := range inputs {
		d := dated{in, cmp.Or(in.Written, now)}
		if !in.Once {
			at, err := firstTime(in, now)
			if err != nil {
				return nil, &readError{name: in.Name, cause: err}
			}
			if !at.IsZero() {
				d.at = at
			}
		}
		list = append(list, d)
	}
	slices.SortStableFunc(list, func(a, b dated) int {
		if a.Once != b.Once {
			if a.Once {
				return 1
			}
			return -1
		}
		return a.at.Compare(b.at)
	})
	out := make([]Input, len(list))
	for i, d := range list {
		out[i] = d.Input
	}
	return out, nil
}

// firstTime is the first time that a line of an input states, if one of the first lines does.
func firstTime(in Input, now time.Time) (time.Time, error) {
	var read atomic.Int64
	s, err := open(in, "", now, &read)
	if err != nil {
		return time.Time{}, err
	}
	defer s.Close() //nolint:errcheck // only read from
	b := block{buf: make([]byte, sampleSize)}
	s.next(&b)
	for data := b.data; len(data) > 0; {
		var line []byte
		line, data = cutLine(data)
		if h, ok := parse.Header(line, s.ref); ok && !h.Time.IsZero() {
			return h.Time, nil
		}
	}
	return time.Time{}, nil
}

// Abandonable reads r until ctx ends, even while a read of r, such as of a terminal, does not return: that read is then left to itself.
func Abandonable(ctx context.Context, r io.Reader) io.Reader {
	return &abandonable{ctx: ctx, r: r, got: make(chan chunk, 1), want: make(chan struct{}, 1)}
}

type abandonable struct {
	ctx  context.Context //nolint:containedctx // it is a reader's, whose Read takes none
	r    io.Reader
	want chan struct{}
	got  chan chunk
	rest []byte
	err  error
	runs bool
}

type chunk struct {
	b   []byte
	err error
}

func (a *abandonable) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if !a.runs {
			a.runs = true
			go a.run()
		}
		a.want <- struct{}{}
		select {
		case c := <-a.got:
			a.rest, a.err = c.b, c.err
		case <-a.ctx.Done():
			a.err = context.Cause(a.ctx)
			return 0, a.err
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	if n == 0 {
		return 0, a.err
	}
	return n, nil
}

// run reads when it is asked to; it ends with ctx, but for a read that does not return.
func (a *abandonable) run() {
	buf := make([]byte, sampleSize)
	for {
		select {
		case <-a.want:
		case <-a.ctx.Done():
			return
		}
		n, err := a.r.Read(buf)
		a.got <- chunk{buf[:n], err}
		if err != nil {
			return
		}
	}
}
