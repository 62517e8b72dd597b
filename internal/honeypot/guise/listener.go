package guise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var errNoListener = errors.New("its first process listens for no questions")

// A pot's first process sets its filter up right after its start.
const (
	listenWithin = 20 * time.Second
	listenPoll   = 2 * time.Millisecond
)

// receiveWithin is how long a question may take to be received, once there is one. Who is root in a pot can take
// the listener from its first process as well as we, and so the question before us: the kernel would let us wait for the
// next one, for ever.
const receiveWithin = 250 * time.Millisecond

// notification and response are struct seccomp_notif and seccomp_notif_resp of linux/seccomp.h.
type (
	notification struct {
		id    uint64
		pid   uint32
		flags uint32
		data  struct {
			nr   int32
			arch uint32
			ip   uint64
			args [6]uint64
		}
	}
	response struct {
		id    uint64
		val   int64
		err   int32
		flags uint32
	}
)

// What ioctl_list would say of them, by their sizes.
const (
	ioctlReceive = 0xc0502100
	ioctlSend    = 0xc0182101
	ioctlValid   = 0x40082102

	flagContinue = 1
)

// listener is the end of a pot's filter where its questions come out.
type listener struct {
	f     *os.File
	spare int // the same, see receive
	null  *os.File
}

func (l *listener) close() {
	_ = l.f.Close()
	_ = unix.Close(l.spare)
	_ = l.null.Close()
}

// awaitListener takes the listener as soon as it is there.
func awaitListener(ctx context.Context, pid int) (*listener, error) {
	ctx, cancel := context.WithTimeout(ctx, listenWithin)
	defer cancel()
	poll := time.NewTicker(listenPoll)
	defer poll.Stop()
	for {
		l, err := takeListener(pid)
		if !errors.Is(err, errNoListener) {
			return l, err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// takeListener takes a copy of the descriptor from the pot's first process.
func takeListener(pid int) (*listener, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for the listener of its filter: %w", err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open its first process: %w", err)
	}
	defer unix.Close(pidfd) //nolint:errcheck // a handle
	for _, n := range names {
		link, err := os.Readlink(filepath.Join(dir, n.Name()))
		if err != nil || link != "anon_inode:seccomp notify" {
			continue
		}
		theirs, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, theirs, 0)
		if err != nil {
			return nil, fmt.Errorf("take the listener of its filter: %w", err)
		}
		return newListener(fd)
	}
	return nil, errNoListener
}

func newListener(fd int) (*listener, error) {
	fail := func(err error) (*listener, error) {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("take the listener of its filter: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fail(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fail(err)
	}
	spare, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = null.Close()
		return fail(err)
	}
	return &listener{f: os.NewFile(uintptr(fd), "listener"), spare: spare, null: null}, nil
}

// serve answers until the pot has ended or ctx is done.
func (l *listener) serve(ctx context.Context, describe func() Machine) {
	defer l.close()
	stop := context.AfterFunc(ctx, func() { _ = l.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := l.f.SyscallConn()
	if err != nil {
		return
	}
	began, answered := time.Now(), 0
	for ctx.Err() == nil {
		var n notification
		var got error
		if err := raw.Read(func(fd uintptr) bool { got = l.receive(fd, &n); return !errors.Is(got, unix.EAGAIN) }); err != nil {
			return
		}
		switch {
		case errors.Is(got, unix.ENOENT), errors.Is(got, unix.EINTR): // the asking program has ended meanwhile
			continue
		case got != nil:
			return
		}
		r := response{id: n.id}
		if err := raw.Control(func(fd uintptr) { l.answer(fd, &n, &r, describe) }); err != nil {
			return
		}
		if answered++; answered < burst {
			continue
		}
		if wait := burstEvery - time.Since(began); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
		began, answered = time.Now(), 0
	}
}

// receive takes a question, if there is one; EAGAIN says that there is none.
func (l *listener) receive(fd uintptr, n *notification) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		ready, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // the caller looks at the number
		}
		if ready == 0 {
			return unix.EAGAIN
		}
		break
	}
	if fds[0].Revents&unix.POLLIN == 0 {
		return unix.EPIPE // nobody is left who could ask
	}
	return l.take(fd, n)
}

// take takes a question that was there a moment ago.
func (l *listener) take(fd uintptr, n *notification) error {
	*n = notification{}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, broken := unix.Gettid(), make(chan struct{})
	timer := time.AfterFunc(receiveWithin, func() {
		defer close(broken)
		// A signal has the kernel begin the call anew, and then it finds something else there, which knows no such call.
		_ = unix.Dup3(int(l.null.Fd()), int(fd), unix.O_CLOEXEC)
		_ = unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
	})
	err := ioctl(fd, ioctlReceive, unsafe.Pointer(n)) //nolint:gosec // the kernel writes a whole notification
	if timer.Stop() {
		return err
	}
	<-broken
	if restore := unix.Dup3(l.spare, int(fd), unix.O_CLOEXEC); restore != nil {
		return restore //nolint:wrapcheck // the caller looks at the number
	}
	if errors.Is(err, unix.ENOTTY) {
		return unix.EINTR
	}
	return err
}

// answer writes what is asked for into the program's memory and lets it go on.
func (l *listener) answer(fd uintptr, n *notification, r *response, describe func() Machine) {
	data, ok := reply(n.data.arch, n.data.nr, describe)
	if !ok {
		r.flags = flagContinue
	} else if err := write(fd, n, data); err != nil {
		r.err = -int32(unix.EFAULT)
	}
	_ = ioctl(fd, ioctlSend, unsafe.Pointer(r)) //nolint:gosec // the kernel reads a response; who asked may have ended
}

// write writes to the memory of the program that asks. The memory is opened first and the question looked at then: if
// it is still open, the memory is of who asks, and stays that, whoever gets the process's number.
func write(fd uintptr, n *notification, data []byte) error {
	mem, err := unix.Open("/proc/"+strconv.FormatUint(uint64(n.pid), 10)+"/mem", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err //nolint:wrapcheck // only whether
	}
	defer unix.Close(mem)                                                //nolint:errcheck // written already
	if err := ioctl(fd, ioctlValid, unsafe.Pointer(&n.id)); err != nil { //nolint:gosec // the kernel reads the number
		return err
	}
	at := n.data.args[0]
	if at > 1<<62 {
		return unix.EFAULT
	}
	written, err := unix.Pwrite(mem, data, int64(at))
	if err == nil && written < len(data) {
		err = unix.EFAULT
	}
	return err
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); errno != 0 {
		return errno //nolint:wrapcheck // the caller looks at the number
	}
	return nil
}
