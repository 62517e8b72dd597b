package door

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

const pipeSize = 512 << 10 // between sshd and the node

// seat is the attacker's end of a session: the descriptors that sshd gave to what it takes for a shell.
type seat struct {
	line          *line
	in, out, errs *os.File
	terminal      bool

	mu     sync.Mutex
	exit   *event.Exit
	closed bool
}

// newSeat takes over the files, which wait for nothing.
func newSeat(l *line, files []*os.File, terminal bool) (*seat, error) {
	waiting := make([]*os.File, 0, len(files))
	for _, f := range files {
		// A descriptor that was made without this has to be opened anew to be waited for by the runtime.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if !terminal { // what is waited for less often is faster; that there is no room for it is no trouble
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
		}
		if err != nil {
			closeAll(waiting)
			return nil, fmt.Errorf("take over a session's files: %w", err)
		}
		waiting = append(waiting, os.NewFile(uintptr(fd), "session"))
	}
	closeAll(files)
	return &seat{line: l, in: waiting[0], out: waiting[1], errs: waiting[2], terminal: terminal}, nil
}

// Read reads what the attacker sends; a terminal that is gone has come to its end.
func (s *seat) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if errors.Is(err, syscall.EIO) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Write writes to the attacker.
func (s *seat) Write(p []byte) (int, error) { return s.out.Write(p) } //nolint:wrapcheck // only looked at

// Stderr is where errors are written to.
func (s *seat) Stderr() io.ReadWriter { return s.errs }

// CloseWrite ends the output; a terminal's ends with the session.
func (s *seat) CloseWrite() error {
	if s.terminal {
		return nil
	}
	for _, f := range []*os.File{s.out, s.errs} {
		if raw, err := f.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) }) // where it is a socket
		}
		_ = f.Close()
	}
	return nil
}

// Exit keeps how the program ended until all that it wrote is on its way.
func (s *seat) Exit(e event.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exit = &e
}

// Close gives the files back, and has the session end as the program did.
func (s *seat) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	closeAll([]*os.File{s.in, s.out, s.errs})
	switch {
	case s.exit == nil:
	case s.exit.Signal != "":
		_ = s.line.send(nil, msgSignal, s.exit.Signal)
	default:
		_ = s.line.send(nil, msgExit, strconv.Itoa(s.exit.Status))
	}
	s.line.close()
	return nil
}
