package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// journalctl is one that dies with us, even where we are killed.
type journalctl struct {
	out  *os.File
	done chan error
}

// spawn starts a program whose output is read from a pipe.
func spawn(ctx context.Context, program string, args []string) (*journalctl, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	c := &journalctl{out: r, done: make(chan error, 1)}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Stdout, cmd.Stderr = w, &limited{w: &said, left: maxComplaint}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.WaitDelay = 5 * time.Second
		err := cmd.Start()
		_ = w.Close()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Exited() {
			err = nil // by a signal
		}
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(said.Bytes()))
		}
		c.done <- err
	}()
	if err := <-started; err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return c, nil
}

func (c *journalctl) wait() error { return <-c.done }

// limited passes on so many bytes and takes the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	if _, err := l.w.Write(b[:n]); err != nil {
		return 0, err //nolint:wrapcheck // a buffer's
	}
	return len(b), nil
}

// lineReader reads lines of at most longest bytes; of longer ones nothing is kept.
type lineReader struct {
	r       io.Reader
	longest int
	buf     []byte
	from    int // of the unread part of buf
	skip    bool
}

// next returns the next line without its end; whole is false where it was too long. It is valid until the next call.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	const chunk = 16 << 10
	for scan := l.from; ; {
		if i := bytes.IndexByte(l.buf[scan:], '\n'); i >= 0 {
			line, whole = l.buf[l.from:scan+i], !l.skip
			l.from, l.skip = scan+i+1, false
			return line, whole && len(line) <= l.longest, nil
		}
		if l.skip || len(l.buf)-l.from > l.longest {
			l.skip, l.from, l.buf = true, 0, l.buf[:0]
		}
		if l.from > 0 {
			l.buf = l.buf[:copy(l.buf, l.buf[l.from:])]
			l.from = 0
		}
		if len(l.buf) == 0 && cap(l.buf) > 4*chunk {
			l.buf = nil // quiet again: don't hold on to it
		}
		scan = len(l.buf)
		l.buf = slices.Grow(l.buf, chunk)
		n, err := l.r.Read(l.buf[scan:cap(l.buf)])
		l.buf = l.buf[:scan+n]
		if err != nil && n == 0 {
			return nil, false, err //nolint:wrapcheck // io.EOF
		}
	}
}
