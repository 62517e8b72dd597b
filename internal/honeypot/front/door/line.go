package door

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// line is a connection from something in a door.
type line struct {
	conn *net.UnixConn
	uid  uint32 // of who is at the other end, as the door counts
	pid  int

	mu sync.Mutex // one message is written at a time
}

// writeWithin is how long the other end may keep a message waiting.
const writeWithin = 10 * time.Second

// newLine takes a connection from a door whose user ids are so much higher outside.
func newLine(c *net.UnixConn, shift uint32) (*line, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who connects: %w", err)
	}
	var cred *unix.Ucred
	var optErr error
	if err = raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err == nil {
		err = optErr
	}
	if err != nil {
		return nil, fmt.Errorf("ask who connects: %w", err)
	}
	return &line{conn: c, uid: cred.Uid - shift, pid: int(cred.Pid)}, nil
}

// send writes a message with descriptors, which stay the caller's.
func (l *line) send(files []*os.File, fields ...string) error {
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, _, err := l.conn.WriteMsgUnix(encode(fields...), oob, nil); err != nil {
		return fmt.Errorf("tell a door %s: %w", fields[0], err)
	}
	return nil
}

// receive reads a message and its descriptors, which are the caller's from then on.
func (l *line) receive() (fields []string, files []*os.File, err error) {
	size, err := l.size()
	if err != nil {
		return nil, nil, err
	}
	buf := make([]byte, size+1)
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, flags, _, err := l.conn.ReadMsgUnix(buf, oob)
	files = filesOf(oob[:oobn])
	if err == nil && n == 0 {
		err = net.ErrClosed
	}
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("%w: it is too long", errMessage)
	}
	if err == nil {
		fields, err = decode(buf[:n])
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return fields, files, nil
}

// size waits for a message and returns its size: most are small.
func (l *line) size() (int, error) {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("hear a door: %w", err)
	}
	n, recvErr := 0, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		n, _, _, _, recvErr = unix.Recvmsg(int(fd), make([]byte, 1), nil, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		return !errors.Is(recvErr, unix.EAGAIN) && !errors.Is(recvErr, unix.EINTR)
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("hear a door: %w", err)
	case recvErr != nil:
		return 0, fmt.Errorf("hear a door: %w", recvErr)
	case n <= 0:
		return 0, net.ErrClosed
	case n > maxMessage:
		return 0, fmt.Errorf("%w: it is too long", errMessage)
	}
	return n, nil
}

func filesOf(oob []byte) []*os.File {
	var out []*os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			out = append(out, os.NewFile(uintptr(fd), "from the door"))
		}
	}
	return out
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func (l *line) close() { _ = l.conn.Close() }

var errStranger = errors.New("nobody of a door's")
