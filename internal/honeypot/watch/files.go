package watch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	writeSettle   = time.Second // writes to one path within it are told together
	mostWrites    = 128         // paths that are written to at once; each holds a descriptor
	fanotifyEvent = 24          // bytes of an event without more information (fanotify(7))
	eventFlags    = unix.O_RDONLY | unix.O_LARGEFILE | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOATIME
)

// written is a file that was closed after it was open for writing.
type written struct {
	file *os.File
	name string // with " (deleted)" where it is
	at   time.Time
}

// pendingWrite is a path that was written to a moment ago.
type pendingWrite struct {
	first time.Time
	times int // since it was told
	last  item
}

// files tells of files that are written to in a pot.
type files struct {
	p *pot
	f *os.File // of fanotify

	mu  sync.Mutex // held from reading events until they are in the queue
	buf []byte
}

// FilesError says why it can't be seen what is written to files in a pot.
type FilesError struct {
	Text, Help string
	Err        error
}

func (e *FilesError) Error() string { return e.Text + ": " + e.Err.Error() }

// Mend says what to do about it.
func (e *FilesError) Mend() string { return e.Help }

// Unwrap gives the cause.
func (e *FilesError) Unwrap() error { return e.Err }

// openFiles marks the pot's own file systems: the machine's others cost nothing.
func openFiles(p *pot) (*files, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, eventFlags)
	if err != nil {
		help := "run the node as root on a kernel from 4.20 on"
		if errors.Is(err, unix.EMFILE) {
			help = "raise fs.fanotify.max_user_groups above the number of pots that run at once"
		}
		return nil, &FilesError{Text: "fanotify", Help: help, Err: err}
	}
	f := &files{p: p, f: os.NewFile(uintptr(fd), "fanotify"), buf: make([]byte, 64*fanotifyEvent)}
	marked := 0
	for _, m := range p.mounts() {
		if err := mark(fd, p.root(), m); err == nil {
			marked++
		}
	}
	if marked == 0 {
		_ = f.f.Close()
		return nil, &FilesError{Text: "pots have no file system of their own", Help: "have the engine use its overlay2 storage driver", Err: errors.ErrUnsupported}
	}
	f.ignoreDevices()
	return f, nil
}

// mounts returns where the pot's own file systems are.
func (p *pot) mounts() []string {
	out := []string{"/"}
	f, err := os.Open("/proc/" + strconv.Itoa(p.PID) + "/mountinfo")
	if err != nil {
		return out
	}
	defer f.Close() //nolint:errcheck // read-only
	for scan := bufio.NewScanner(f); scan.Scan() && len(out) < 32; {
		before, after, ok := strings.Cut(scan.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 || !strings.HasPrefix(after, "tmpfs ") || !slices.Contains(strings.Split(fields[5], ","), "rw") {
			continue
		}
		out = append(out, fields[4])
	}
	return out
}

// mark has a file system of the pot watched, if it is one that only the pot has.
func mark(fan int, root, path string) error {
	const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err //nolint:wrapcheck // looked at for being there only
	}
	defer unix.Close(rootFD) //nolint:errcheck // read-only
	fd, err := unix.Openat2(rootFD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	defer unix.Close(fd) //nolint:errcheck // read-only
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err //nolint:wrapcheck // as above
	}
	if fs.Type != unix.OVERLAYFS_SUPER_MAGIC && fs.Type != unix.TMPFS_MAGIC {
		return unix.EXDEV
	}
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	return unix.FanotifyMark(fan, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, self) //nolint:wrapcheck // as above
}

// ignoreDevices spares what every shell writes to.
func (f *files) ignoreDevices() {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := f.p.root() + "/dev/" + name
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			_ = unix.FanotifyMark(int(f.f.Fd()), unix.FAN_MARK_ADD|unix.FAN_MARK_DONT_FOLLOW|unix.FAN_MARK_IGNORED_MASK|unix.FAN_MARK_IGNORED_SURV_MODIFY,
				unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, path)
		}
	}
}

// run takes events until close.
func (f *files) run() {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	for err == nil {
		err = conn.Read(func(fd uintptr) bool { return f.take(int(fd)) })
	}
}

// drain returns when all that was written is in the queue.
func (f *files) drain() {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for range queueLength { // who goes on writing does not keep us
			if !f.take(int(fd)) {
				return
			}
		}
	})
}

func (f *files) close() { _ = f.f.Close() }

// take reads events and puts them into the queue; ok is false where there are none.
func (f *files) take(fd int) (ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := unix.Read(fd, f.buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case errors.Is(err, unix.EINTR):
		return true
	case err != nil || n <= 0:
		// What was written can't be opened (a socket, a device of none): it is skipped.
		f.p.writesLost.Add(1)
		return true
	}
	for rest := f.buf[:n]; len(rest) >= fanotifyEvent; {
		size := int(binary.NativeEndian.Uint32(rest))
		if size < fanotifyEvent || size > len(rest) {
			return true
		}
		f.event(rest)
		rest = rest[size:]
	}
	return true
}

// event is struct fanotify_event_metadata.
func (f *files) event(b []byte) {
	mask, fd, pid := binary.NativeEndian.Uint64(b[8:]), int32(binary.NativeEndian.Uint32(b[16:])), int32(binary.NativeEndian.Uint32(b[20:]))
	if mask&unix.FAN_Q_OVERFLOW != 0 {
		f.p.writesLost.Add(1)
		return
	}
	if fd < 0 {
		return
	}
	if int(pid) == os.Getpid() {
		_ = syscall.Close(int(fd))
		return
	}
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(fd)))
	if err != nil {
		_ = syscall.Close(int(fd))
		return
	}
	f.p.tell(item{
		record:  record{pid: uint32(pid), inside: insideOf(int(pid))},
		written: &written{file: os.NewFile(uintptr(fd), name), name: name, at: time.Now()},
	})
}

// insideOf returns how a pot counts a process of it; 0 where that has ended.
func insideOf(pid int) uint32 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		if fields := strings.Fields(rest); len(fields) > 1 {
			n, _ := strconv.ParseUint(fields[1], 10, 32)
			return uint32(n)
		}
	}
	return 0
}

// wrote tells of the first write to a path at once, and of those that follow together.
func (p *pot) wrote(i item) {
	w := i.written
	key := strings.TrimSuffix(w.name, " (deleted)")
	if pending := p.writes[key]; pending != nil {
		if pending.times > 0 {
			_ = pending.last.written.file.Close()
		}
		pending.times++
		pending.last = i
		pending.last.written = &written{file: w.file, name: w.name, at: w.at}
		i.written.file = nil // it is pending's now
		return
	}
	p.tellWrite(i, 0)
	if len(p.writes) < mostWrites {
		p.writes[key] = &pendingWrite{first: w.at}
	}
}

func (p *pot) settleWrites(now time.Time, all bool) {
	for key, pending := range p.writes {
		if !all && now.Sub(pending.first) < writeSettle {
			continue
		}
		delete(p.writes, key)
		if pending.times > 0 {
			p.tellWrite(pending.last, pending.times)
			_ = pending.last.written.file.Close()
		}
	}
}

// tellWrite notes a write, with what the file holds now.
func (p *pot) tellWrite(i item, times int) {
	w := i.written
	var st unix.Stat_t
	if err := unix.Fstat(int(w.file.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	e := &event.Write{PID: i.inside, Path: event.Bytes(strings.TrimSuffix(w.name, " (deleted)")), Gone: st.Nlink == 0}
	if times > 1 {
		e.Times = times
	}
	e.File = p.keep(w.file, &st)
	if p.note(event.Evidence{Kind: event.EvidenceWrite, At: w.at, Write: e}) {
		p.w.count(func(c *Counts) { c.Writes++ })
	}
}
