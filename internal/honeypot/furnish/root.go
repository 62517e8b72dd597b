// Package furnish makes a pot its attacker's machine: its name, its host keys, the account that the
// attacker got in as. It writes through the file system that the pot sees, never outside of it,
// whatever the attacker has made of that.
package furnish

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of a pot's file, in bytes.
const maxFile = 1 << 20

// ErrOdd says that a file of the pot is not what it should be; its attacker has changed it.
var ErrOdd = errors.New("not an ordinary file")

// Pot is a running container.
type Pot struct {
	root *os.File
	pid  int
	uid  int // that root of the pot has outside
	gid  int
}

// Open opens the pot in which a process is the first one.
func Open(pid int) (*Pot, error) {
	p, err := openRoot("/proc/" + strconv.Itoa(pid) + "/root")
	if err != nil {
		return nil, err
	}
	p.pid = pid
	return p, nil
}

func openRoot(dir string) (*Pot, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pot's files: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open the pot's files: %w", err)
	}
	return &Pot{root: os.NewFile(uintptr(fd), dir), uid: int(st.Uid), gid: int(st.Gid)}, nil
}

// Close forgets the pot.
func (p *Pot) Close() { _ = p.root.Close() }

// open opens a path as the pot sees it.
func (p *Pot) open(name string, flags int, mode os.FileMode) (*os.File, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NONBLOCK
	}
	if flags&unix.O_CREAT == 0 {
		mode = 0
	}
	fd, err := unix.Openat2(int(p.root.Fd()), name, &unix.OpenHow{
		Flags: uint64(flags), Mode: uint64(mode.Perm()),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s in the pot: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (p *Pot) regular(name string, flags int, mode os.FileMode) (*os.File, error) {
	f, err := p.open(name, flags, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrOdd
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s in the pot: %w", name, err)
	}
	return f, nil
}

func (p *Pot) read(name string) ([]byte, error) {
	f, err := p.regular(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read-only
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = ErrOdd
	}
	if err != nil {
		return nil, fmt.Errorf("read %s in the pot: %w", name, err)
	}
	return data, nil
}

// Write writes a file in place; uid and gid are the pot's own numbers.
func (p *Pot) Write(name string, data []byte, mode os.FileMode, uid, gid int) error {
	f, err := p.regular(name, unix.O_WRONLY|unix.O_CREAT, mode)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(0), f.Chown(p.uid+uid, p.gid+gid), f.Chmod(mode))
	if err == nil {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s in the pot: %w", name, err)
	}
	return nil
}

// replace replaces a file at once, for those who read it meanwhile.
func (p *Pot) replace(name string, data []byte) error {
	f, err := p.regular(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	_ = f.Close()
	if err != nil {
		return fmt.Errorf("look at %s in the pot: %w", name, err)
	}
	next := name + "+"
	if err := p.Write(next, data, os.FileMode(st.Mode&0o777), int(st.Uid)-p.uid, int(st.Gid)-p.gid); err != nil {
		return err
	}
	dir, err := p.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a handle
	if err := unix.Renameat(int(dir.Fd()), path.Base(next), int(dir.Fd()), path.Base(name)); err != nil {
		return fmt.Errorf("replace %s in the pot: %w", name, err)
	}
	return nil
}

// mkdir makes a folder; one that is there is no error.
func (p *Pot) mkdir(name string, mode os.FileMode, uid, gid int) error {
	parent, err := p.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close() //nolint:errcheck // a handle
	err = unix.Mkdirat(int(parent.Fd()), path.Base(name), uint32(mode.Perm()))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err == nil {
		err = unix.Fchownat(int(parent.Fd()), path.Base(name), p.uid+uid, p.gid+gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("make %s in the pot: %w", name, err)
	}
	return nil
}

// remove removes a file; one that is not there is no error.
func (p *Pot) remove(name string) error {
	dir, err := p.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // a handle
	if err := unix.Unlinkat(int(dir.Fd()), path.Base(name), 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s in the pot: %w", name, err)
	}
	return nil
}

// SetHostname gives the running pot its name.
func (p *Pot) SetHostname(name string) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine, since it is in another namespace now.
		runtime.LockOSThread()
		done <- p.setHostname(name)
	}()
	return <-done
}

func (p *Pot) setHostname(name string) error {
	fd, err := unix.Open("/proc/"+strconv.Itoa(p.pid)+"/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("name the pot: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // a handle
	var own, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &theirs), unix.Stat("/proc/thread-self/ns/uts", &own)); err != nil {
		return fmt.Errorf("name the pot: %w", err)
	}
	if own.Ino == theirs.Ino && own.Dev == theirs.Dev {
		return errors.New("name the pot: it is in the machine's own namespace")
	}
	if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("name the pot: %w", err)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("name the pot: %w", err)
	}
	return nil
}
