package guise

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// file is a file whose content is made when it is opened.
type file struct {
	fs.Inode

	text     func(Machine) string
	describe func() Machine
	share    *share    // of the pot
	made     time.Time // as a file of /proc is of when it was first looked at
}

var (
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeSetattrer = (*file)(nil)
	_ fs.NodeStatfser  = (*file)(nil)
	_ fs.NodeIoctler   = (*file)(nil)
)

// Getattr implements fs.NodeGetattrer.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = unix.S_IFREG|0o444, 1
	out.SetTimes(&f.made, &f.made, &f.made)
	return 0
}

// Setattr implements fs.NodeSetattrer: as /proc, it lets nobody.
func (f *file) Setattr(ctx context.Context, _ fs.FileHandle, _ *fuse.SetAttrIn, _ *fuse.AttrOut) syscall.Errno {
	if errno := f.share.wait(ctx); errno != 0 {
		return errno
	}
	return unix.EPERM
}

// Statfs implements fs.NodeStatfser.
func (f *file) Statfs(ctx context.Context, _ *fuse.StatfsOut) syscall.Errno { return f.share.wait(ctx) }

// Ioctl implements fs.NodeIoctler.
func (f *file) Ioctl(ctx context.Context, _ fs.FileHandle, _ uint32, _ uint64, _, _ []byte) (int32, syscall.Errno) {
	if errno := f.share.wait(ctx); errno != 0 {
		return 0, errno
	}
	return 0, unix.ENOTTY
}

// Open implements fs.NodeOpener.
func (f *file) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) { //nolint:ireturn // the library's
	if errno := f.share.wait(ctx); errno != 0 {
		return nil, 0, errno
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		return nil, 0, unix.EACCES
	}
	if !f.share.take() {
		return nil, 0, unix.ENFILE
	}
	return &content{text: f.text(f.describe()), share: f.share}, fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH, 0
}

// content is what a file says to who has opened it.
type content struct {
	text  string
	share *share
}

var (
	_ fs.FileReader   = (*content)(nil)
	_ fs.FileReleaser = (*content)(nil)
)

// Read implements fs.FileReader.
func (c *content) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) { //nolint:ireturn // the library's
	if errno := c.share.wait(ctx); errno != 0 {
		return nil, errno
	}
	if off < 0 || off >= int64(len(c.text)) {
		return fuse.ReadResultData(nil), 0
	}
	n := copy(dest, c.text[off:])
	return fuse.ReadResultData(dest[:n]), 0
}

// Release implements fs.FileReleaser.
func (c *content) Release(context.Context) syscall.Errno {
	c.share.release()
	return 0
}

// unasked is a file system that the kernel asks less: what it is told once that nobody does, it asks no more.
type unasked struct{ fuse.RawFileSystem }

// Access implements fuse.RawFileSystem.
func (unasked) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// Lseek implements fuse.RawFileSystem.
func (unasked) Lseek(<-chan struct{}, *fuse.LseekIn, *fuse.LseekOut) fuse.Status { return fuse.ENOSYS }

// Fsync implements fuse.RawFileSystem.
func (unasked) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.ENOSYS }

// Fallocate implements fuse.RawFileSystem.
func (unasked) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status { return fuse.ENOSYS }
