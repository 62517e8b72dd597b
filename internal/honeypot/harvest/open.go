// Package harvest opens files in a pot, whatever traps its attacker has laid there, and finds those that changed.
//
// The attacker is root in the pot and changes it meanwhile. So every path is resolved by the kernel below the pot's
// root (openat2(2), RESOLVE_IN_ROOT); nothing is opened before it is known to be a regular file or a folder, for to
// open a FIFO blocks and to open a device acts; and no mounts are crossed, for behind them are proc and files
// of the node's. Only a file system in memory (tmpfs, as of /dev/shm) may be where a path leads.
package harvest

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNotRegular says that what is there is no regular file.
var ErrNotRegular = errors.New("not a regular file")

const (
	resolvePath  = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	resolveEntry = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
)

// Open opens a regular file in a pot for reading. root is the pot's root folder as the node sees it
// (/proc/PID/root); path is resolved as a process in the pot would do, from its root folder on, links included.
// The errors are those of the kernel, EXDEV for what is on another file system among them, and ErrNotRegular.
func Open(root, path string) (*os.File, error) {
	n, err := find(root, path)
	if err != nil {
		return nil, err
	}
	defer n.close()
	if !n.is(unix.S_IFREG) {
		return nil, fmt.Errorf("open %q in the pot: %w", path, ErrNotRegular)
	}
	return n.open(path)
}

// node is something in a file system that is known but not opened (O_PATH).
type node struct {
	fd   int
	stat unix.Stat_t
}

// find resolves a path below a root.
func find(root, path string) (*node, error) {
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pot's root %q: %w", root, err)
	}
	defer func() { _ = unix.Close(rootFD) }()
	n, err := at(rootFD, path, resolvePath|unix.RESOLVE_NO_XDEV, 0)
	if !errors.Is(err, unix.EXDEV) {
		return n, err
	}
	n, mounted := at(rootFD, path, resolvePath, 0)
	if mounted != nil {
		return nil, mounted
	}
	if !n.inMemory() {
		n.close()
		return nil, err
	}
	return n, nil
}

// retries is how often a path is tried whose folders are moved meanwhile.
const retries = 8

func at(dir int, path string, resolve uint64, flags uint64) (*node, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: resolve}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN) && try < retries:
			continue
		case err != nil:
			return nil, fmt.Errorf("find %q in the pot: %w", path, err)
		}
		n := &node{fd: fd}
		if err := unix.Fstat(fd, &n.stat); err != nil {
			n.close()
			return nil, fmt.Errorf("look at %q in the pot: %w", path, err)
		}
		return n, nil
	}
}

func (n *node) close() { _ = unix.Close(n.fd) }

func (n *node) is(format uint32) bool { return n.stat.Mode&unix.S_IFMT == format }

func (n *node) inMemory() bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(n.fd, &fs) == nil && fs.Type == unix.TMPFS_MAGIC
}

// open opens for reading the very thing that was looked at. It leaves no trace in the time of access where it may.
func (n *node) open(path string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	self := "/proc/self/fd/" + strconv.Itoa(n.fd)
	fd, err := unix.Open(self, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(self, flags, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open %q in the pot: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// IsDir reports whether a path in a pot is a folder, links included.
func IsDir(root, path string) bool {
	n, err := find(root, path)
	if err != nil {
		return false
	}
	defer n.close()
	return n.is(unix.S_IFDIR)
}
