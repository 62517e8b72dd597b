package transfer_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
)

type got struct {
	How, Path string
	Data      string
	Closed    int
	Partial   bool
}

// sinks keeps the files that come.
type sinks struct {
	mu    sync.Mutex
	files []*sink
	most  int64 // bytes of a file; 0 is as many as come
}

type sink struct {
	got
	mu   *sync.Mutex
	most int64
	data []byte
	late bool // something came after Close
}

func (s *sinks) create(how string, path event.Bytes) transfer.Sink { //nolint:ireturn // transfer.Create
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &sink{got: got{How: how, Path: string(path)}, mu: &s.mu, most: s.most}
	s.files = append(s.files, f)
	return f
}

func (f *sink) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = f.late || f.Closed > 0
	if off < 0 || f.most > 0 && off >= f.most {
		return 0, fmt.Errorf("%d is too far", off)
	}
	if f.most > 0 {
		p = p[:min(int64(len(p)), f.most-off)]
	}
	end := off + int64(len(p))
	if grow := end - int64(len(f.data)); grow > 0 {
		f.data = append(f.data, make([]byte, grow)...)
	}
	return copy(f.data[off:], p), nil
}

func (f *sink) Close(partial bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Closed++
	f.Partial = partial
}

// all returns the files; each must have been closed once.
func (s *sinks) all(t require.TestingT) []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []got
	for _, f := range s.files {
		assert.Equal(t, 1, f.Closed, "%q was closed %d times", f.Path, f.Closed)
		assert.False(t, f.late, "%q was written to after its end", f.Path)
		f.Data = string(f.data)
		out = append(out, f.got)
	}
	return out
}

func whole(how, path, data string) got {
	return got{How: how, Path: path, Data: data, Closed: 1}
}

func part(how, path, data string) got {
	return got{How: how, Path: path, Data: data, Closed: 1, Partial: true}
}

// step is what passes in one direction before the other one's turn.
type step struct {
	out  bool
	data string
}

type tap interface {
	transfer.Tap
	Lost() bool
}

func feed(t tap, s step) {
	if s.out {
		t.Out([]byte(s.data))
		return
	}
	t.In([]byte(s.data))
}

// play feeds steps as they are.
func play(t tap, steps []step) {
	for _, s := range steps {
		feed(t, s)
	}
	t.End()
}

// playBytes feeds steps byte by byte.
func playBytes(t tap, steps []step) {
	for _, s := range steps {
		for i := range len(s.data) {
			feed(t, step{s.out, s.data[i : i+1]})
		}
	}
	t.End()
}

// playCut feeds steps in other pieces: neighbours of one direction are joined, then all is cut anywhere.
func playCut(rt *rapid.T, t tap, steps []step) {
	var joined []step
	for _, s := range steps {
		if n := len(joined); n > 0 && joined[n-1].out == s.out {
			joined[n-1].data += s.data
		} else {
			joined = append(joined, s)
		}
	}
	for _, s := range joined {
		for s.data != "" {
			n := rapid.IntRange(1, len(s.data)).Draw(rt, "n")
			feed(t, step{s.out, s.data[:n]})
			s.data = s.data[n:]
		}
	}
	t.End()
}

// fuzzed reads steps from a fuzzer's bytes: direction and length, then so many bytes.
func fuzzed(b []byte) []step {
	var steps []step
	for len(b) > 0 {
		n := min(int(b[0]>>1), len(b)-1)
		steps = append(steps, step{b[0]&1 == 1, string(b[1 : 1+n])})
		b = b[1+n:]
	}
	return steps
}

// unfuzzed is the inverse of fuzzed.
func unfuzzed(steps []step) []byte {
	var b []byte
	for _, s := range steps {
		for first := true; first || s.data != ""; first = false {
			n := min(len(s.data), 127)
			head := byte(n << 1)
			if s.out {
				head |= 1
			}
			b = append(append(b, head), s.data[:n]...)
			s.data = s.data[n:]
		}
	}
	return b
}

func TestStdin(t *testing.T) {
	t.Parallel()
	var s sinks
	tap := transfer.NewStdin(s.create)
	tap.Out([]byte("hello"))
	tap.End()
	assert.Empty(t, s.all(t), "nothing came, no file")

	tap = transfer.NewStdin(s.create)
	tap.In([]byte("a"))
	tap.In(nil)
	tap.In([]byte("bc"))
	tap.EOF()
	tap.In([]byte("late"))
	tap.End()
	tap = transfer.NewStdin(s.create)
	tap.In([]byte("cut"))
	tap.End()
	tap.EOF()
	assert.False(t, tap.Lost())
	assert.Equal(t, []got{whole("stdin", "", "abc"), part("stdin", "", "cut")}, s.all(t))
}

func TestNoSink(t *testing.T) {
	t.Parallel()
	tap := transfer.NewStdin(func(string, event.Bytes) transfer.Sink { return nil })
	tap.In([]byte("a"))
	tap.End()
}
