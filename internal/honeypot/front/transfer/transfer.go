// Package transfer finds the files that come to a pot in the plain bytes of an SSH session's programs: by SFTP,
// by the old scp protocol and as standard input. It watches copies of the bytes and never touches the stream.
package transfer

import (
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

// How a file came, as event.File names it.
const (
	HowSFTP  = "sftp"
	HowSCP   = "scp"
	HowStdin = "stdin"
)

// maxPath bounds a path in bytes; it is PATH_MAX of Linux.
const maxPath = 4096

// Create is called when a file begins to come; path is as the client named it, empty where that is not known. It may
// return nil: then the file is not kept.
type Create func(how string, path event.Bytes) Sink

// Sink takes a file. Pieces come as they were sent: with holes, twice, or in any order; p is only valid during the
// call. The sink bounds sizes itself; nobody looks at its errors. Close is the last call; partial says that the
// transfer did not finish.
type Sink interface {
	WriteAt(p []byte, off int64) (int, error)
	Close(partial bool)
}

// Tap watches one program of a session. In takes what goes to its standard input, Out what comes from its standard
// output, each in order and before the bytes are passed on, so that no answer is seen before its question; p is only
// read during the call. In and Out may be called from two goroutines at once. End is called once, at the end:
// files that are still open are closed as partial, and what comes later is ignored.
//
// The taps of this package also have Lost() bool: whether files may be missing, be it that what passed is not
// the protocol or that a bound was met.
type Tap interface {
	In(p []byte)
	Out(p []byte)
	End()
}

// file is a file that is coming.
type file struct {
	sink Sink
	at   int64 // where the next byte belongs
}

func begin(create Create, how, path string) *file {
	return &file{sink: create(how, event.Bytes(path))}
}

func (f *file) write(p []byte) {
	if f.sink != nil && len(p) > 0 {
		_, _ = f.sink.WriteAt(p, f.at)
	}
	f.at += int64(len(p))
}

func (f *file) close(partial bool) {
	if f.sink != nil {
		f.sink.Close(partial)
	}
	f.sink = nil
}

// Stdin takes all that a program without a terminal gets as standard input for one file without a path.
type Stdin struct {
	mu     sync.Mutex
	create Create
	file   *file
	ended  bool
}

// NewStdin returns the tap of a program that reads what the client sends; the file begins with its first byte.
func NewStdin(create Create) *Stdin { return &Stdin{create: create} }

// In takes what goes to the program.
func (s *Stdin) In(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(p) == 0 {
		return
	}
	if s.file == nil {
		s.file = begin(s.create, HowStdin, "")
	}
	s.file.write(p)
}

// Out does nothing: the answers say nothing about the file.
func (s *Stdin) Out([]byte) {}

// EOF says that the client has closed the standard input: the file is whole.
func (s *Stdin) EOF() { s.end(false) }

// End says that the program has ended; without an EOF before, the file is partial.
func (s *Stdin) End() { s.end(true) }

// Lost reports false: nothing is parsed.
func (s *Stdin) Lost() bool { return false }

func (s *Stdin) end(partial bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil && !s.ended {
		s.file.close(partial)
	}
	s.ended = true
}
