package guise

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	attributesFor = time.Hour // that the kernel asks no more about a file
	largestRead   = 4096      // bytes at once: each read holds as much of the node's memory
)

// files is a FUSE file system with a folder for each pot. It is attached nowhere: pots get single files of it.
type files struct {
	root   *fs.Inode
	mount  int           // descriptor of the mount
	served chan struct{} // closed when nothing is answered any more
}

func openFiles() (*files, error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	mount, err := mountFuse(dev)
	if err != nil {
		_ = unix.Close(dev)
		return nil, err
	}
	root := &fs.Inode{}
	forever := attributesFor
	server, err := fuse.NewServer(unasked{fs.NewNodeFS(root, &fs.Options{AttrTimeout: &forever})}, fmt.Sprintf("/dev/fd/%d", dev),
		&fuse.MountOptions{AllowOther: true, MaxWrite: largestRead, DisableXAttrs: true, DisableReadDirPlus: true})
	if err != nil {
		_ = unix.Close(mount)
		return nil, fmt.Errorf("serve files of /proc: %w", err)
	}
	f := &files{root: root, mount: mount, served: make(chan struct{})}
	go func() {
		defer close(f.served)
		server.Serve() // until close
		server.Wait()
	}()
	return f, nil
}

// mountFuse makes a file system whose questions come out of a descriptor of /dev/fuse.
func mountFuse(dev int) (int, error) {
	return mountNew("fuse", "source", "proc", "fd", strconv.Itoa(dev), "rootmode", "40000", "user_id", "0", "group_id", "0", "max_read", strconv.Itoa(largestRead), "allow_other", "")
}

// mountNew makes a file system that is attached nowhere (fsopen(2)); settings are names and values, flags have none.
func mountNew(kind string, settings ...string) (mount int, err error) {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make a file system of type %s: %w", kind, err)
	}
	defer unix.Close(fd) //nolint:errcheck // a handle
	for i := 0; i+1 < len(settings) && err == nil; i += 2 {
		if settings[i+1] == "" {
			err = unix.FsconfigSetFlag(fd, settings[i])
		} else {
			err = unix.FsconfigSetString(fd, settings[i], settings[i+1])
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fd)
	}
	if err == nil {
		mount, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("make a file system of type %s: %w", kind, err)
	}
	return mount, nil
}

// close ends the file system, also where pots still see it: they can't read its files then until the node is back.
func (f *files) close() error {
	defer unix.Close(f.mount) //nolint:errcheck // a handle
	if err := abort(f.mount); err != nil {
		return err
	}
	<-f.served
	return nil
}

// abort ends a FUSE connection by the kernel's control file system (filesystems/fuse of its documentation).
func abort(mount int) error {
	var st unix.Stat_t
	if err := unix.Fstat(mount, &st); err != nil {
		return fmt.Errorf("end the file system for /proc: %w", err)
	}
	control, err := mountNew("fusectl")
	if err != nil {
		return err
	}
	defer unix.Close(control) //nolint:errcheck // a handle
	fd, err := unix.Openat(control, strconv.FormatUint(uint64(unix.Minor(st.Dev)), 10)+"/abort", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("end the file system for /proc: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // written
	if _, err := unix.Write(fd, []byte("1")); err != nil {
		return fmt.Errorf("end the file system for /proc: %w", err)
	}
	return nil
}

// cover makes the pot's files, and lays them over those of its /proc.
func (f *files) cover(pot string, pid int, describe func() Machine) error {
	pot = folderOf(pot)
	folder := f.root.GetChild(pot)
	if folder == nil {
		folder = f.root.NewPersistentInode(context.Background(), &fs.Inode{}, fs.StableAttr{Mode: unix.S_IFDIR})
		f.root.AddChild(pot, folder, true)
	}
	var handles []handle
	shared, made := &share{}, time.Now()
	defer func() {
		for _, h := range handles {
			_ = unix.Close(h.fd)
		}
	}()
	for name, text := range texts() {
		flat := strings.ReplaceAll(name, "/", "-")
		folder.AddChild(flat, folder.NewPersistentInode(context.Background(), &file{text: text, describe: describe, share: shared, made: made}, fs.StableAttr{Mode: unix.S_IFREG}), true)
		fd, err := unix.OpenTree(f.mount, path.Join(pot, flat), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("cover /proc/%s: %w", name, err)
		}
		handles = append(handles, handle{fd: fd, at: "/proc/" + name})
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and end with the thread, which is in another namespace now
		done <- attach(pid, handles)
	}()
	return <-done
}

func (f *files) forget(pot string) { f.root.RmChild(folderOf(pot)) }

// folderOf names a pot's folder, which the pot sees in its list of mounts: not by the container.
func folderOf(pot string) string {
	sum := sha256.Sum256([]byte(pot))
	return hex.EncodeToString(sum[:4])
}

type handle struct {
	fd int
	at string
}

// attach lays files over others in the pot's mount namespace.
func attach(pid int, handles []handle) error {
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reach its mounts: %w", err)
	}
	defer unix.Close(ns) //nolint:errcheck // a handle
	var own, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(ns, &theirs), unix.Stat("/proc/thread-self/ns/mnt", &own)); err != nil {
		return fmt.Errorf("reach its mounts: %w", err)
	}
	if own.Ino == theirs.Ino {
		return errors.New("reach its mounts: it has those of the machine")
	}
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(ns, unix.CLONE_NEWNS)); err != nil {
		return fmt.Errorf("reach its mounts: %w", err)
	}
	// Files that the engine mounts over those of the pot name the container; the pot has its own instead.
	for _, at := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		_ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // it is not mounted any more
	}
	// Only a container sees the control groups without what is at their top; systemd-detect-virt looks for that.
	_ = unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // likewise
	for _, h := range handles {
		// /proc is mounted anew at each start of the pot, and its programs can't mount anything over it. What an earlier
		// process of ours has laid there answers no more.
		for covered := true; covered; {
			covered = unix.Unmount(h.at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil
		}
		if err := unix.MoveMount(h.fd, "", unix.AT_FDCWD, h.at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("cover %s: %w", h.at, err)
		}
	}
	return nil
}
