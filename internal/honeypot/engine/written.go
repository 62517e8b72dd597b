package engine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deepest is how far folders may lie in each other. Nothing honest is that deep, and what is can't be counted: it counts
// as too much.
const deepest = 256

// mostDescriptors bounds how many descriptors of a pot are looked at, for the same reason: what is more counts as too much.
const mostDescriptors = 1 << 16

// Amount is what a pot has written.
type Amount struct {
	Bytes int64 // that the disk holds for it
	Files int64 // folders, links and whiteouts too: a disk has only so many of them
}

func (a Amount) over(most Amount) bool { return a.Bytes > most.Bytes || a.Files > most.Files }

// Written counts what a running pot has written: its layer over the image, the files that the engine mounts into it, and
// files that were deleted and are open still. pid is of its first process. It stops counting once there is more than
// most; over says so.
func Written(id string, pid int, most Amount) (a Amount, over bool, err error) {
	at, err := placesOf(pid)
	if err == nil && !Runs(id, pid) {
		err = ErrGone
	}
	if err != nil {
		return a, false, fmt.Errorf("what pot %s has written: %w", short(id), err)
	}
	c := counter{most: most, seen: make(map[uint64]struct{})}
	for _, inode := range at.mounted {
		c.add(&inode)
	}
	c.open(pid)
	fd, err := unix.Open(at.upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return c.Amount, false, fmt.Errorf("what pot %s has written: %w", short(id), err)
	}
	c.folder(fd, 0)
	return c.Amount, c.over(most), nil
}

// Used returns what is used of the file system that a pot's files are on, by whomever; pid is of its first process.
func Used(pid int) (Amount, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/proc/"+strconv.Itoa(pid)+"/root", &fs); err != nil {
		return Amount{}, fmt.Errorf("space where process %d writes: %w", pid, err)
	}
	return Amount{Bytes: int64(fs.Blocks-fs.Bfree) * fs.Bsize, Files: int64(fs.Files - fs.Ffree)}, nil
}

// places are where a pot writes.
type places struct {
	upper   string
	mounted []unix.Stat_t
}

// placesOf reads them from the pot's mounts (proc_pid_mountinfo(5)).
func placesOf(pid int) (p places, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	f, err := os.Open(dir + "/mountinfo")
	if err != nil {
		return p, err //nolint:wrapcheck // the caller says what was done
	}
	defer f.Close() //nolint:errcheck // only read
	root, err := unix.Open(dir+"/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return p, err //nolint:wrapcheck // the caller says what was done
	}
	defer unix.Close(root) //nolint:errcheck // a handle
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		left, right, ok := strings.Cut(scan.Text(), " - ")
		fields, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 6 || len(kind) < 3 {
			continue
		}
		switch at := unescape(fields[4]); kind[0] {
		case "overlay":
			for option := range strings.SplitSeq(kind[2], ",") {
				if upper, ok := strings.CutPrefix(option, "upperdir="); ok && at == "/" {
					p.upper = unescape(upper)
				}
			}
		case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "tmpfs", "fuse": // memory, which has a bound
		default:
			if st, ok := statIn(root, at); ok {
				p.mounted = append(p.mounted, st)
			}
		}
	}
	err = scan.Err()
	if err == nil && p.upper == "" {
		err = ErrNoLayers
	}
	return p, err
}

// statIn looks at a file of the pot, whatever links lie on the way.
func statIn(root int, at string) (st unix.Stat_t, ok bool) {
	fd, err := unix.Openat2(root, strings.TrimPrefix(at, "/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return st, false
	}
	defer unix.Close(fd) //nolint:errcheck // a handle
	return st, unix.Fstat(fd, &st) == nil
}

// unescape undoes what mountinfo makes of spaces and the like.
func unescape(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || len(s) < i+4 {
			return b.String() + s
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return b.String() + s
		}
		b.WriteString(s[:i])
		b.WriteByte(byte(n))
		s = s[i+4:]
	}
}

// counter adds files up.
type counter struct {
	Amount

	most Amount
	seen map[uint64]struct{} // files of more names than one, and open ones
}

func (c *counter) add(st *unix.Stat_t) {
	c.Files++
	c.Bytes += st.Blocks * 512 // also of what is to be written to the disk still
}

// once adds a file that may be met again.
func (c *counter) once(st *unix.Stat_t) {
	if _, ok := c.seen[st.Ino]; !ok {
		c.seen[st.Ino] = struct{}{}
		c.add(st)
	}
}

// folder adds what is below an open folder, and closes it.
func (c *counter) folder(fd, depth int) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close() //nolint:errcheck // only read
	if depth > deepest {
		c.Files = c.most.Files + 1
		return
	}
	for {
		names, err := f.Readdirnames(512)
		for _, name := range names {
			if c.over(c.most) {
				return
			}
			c.entry(fd, name, depth)
		}
		if err != nil { // the end, or the pot is being removed
			return
		}
	}
}

func (c *counter) entry(folder int, name string, depth int) {
	var st unix.Stat_t
	if unix.Fstatat(folder, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return // it is gone
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if st.Nlink > 1 {
			c.once(&st)
		} else {
			c.add(&st)
		}
		return
	}
	c.add(&st)
	fd, err := unix.Openat(folder, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		c.folder(fd, depth+1)
	}
}

// open adds files that have no name any more, but are open.
func (c *counter) open(pid int) {
	group, err := readGroup(pid, "pids", "cgroup.procs", "cgroup.procs")
	if err != nil {
		return
	}
	processes, looked := slices.Collect(strings.Lines(group)), 0
	for _, line := range processes[:min(len(processes), maxProcesses)] {
		dir := "/proc/" + strings.TrimSpace(line) + "/fd"
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		for err == nil && !c.over(c.most) {
			var names []string
			names, err = f.Readdirnames(512)
			if looked += len(names); looked > mostDescriptors {
				c.Files = c.most.Files + 1
			}
			for _, name := range names {
				var st unix.Stat_t
				if unix.Stat(filepath.Join(dir, name), &st) == nil && st.Nlink == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG {
					c.deleted(filepath.Join(dir, name), &st)
				}
			}
		}
		_ = f.Close()
	}
}

// deleted adds an open file, unless memory holds it.
func (c *counter) deleted(path string, st *unix.Stat_t) {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		c.once(st)
	}
}

// End kills a pot's first process, and with it the kernel kills the rest; the engine learns of it by itself. pid is of
// the first process.
func End(id string, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("end pot %s: %w", short(id), err)
	}
	defer unix.Close(fd) //nolint:errcheck // a handle
	if !Runs(id, pid) {  // looked at when it is open: whom it names stays the same
		return fmt.Errorf("end pot %s: %w", short(id), ErrGone)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end pot %s: %w", short(id), err)
	}
	return nil
}
