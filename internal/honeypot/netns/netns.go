// Package netns runs code, and opens sockets, inside a network namespace.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dir is where `ip netns` keeps the names of namespaces.
const dir = "/run/netns"

// NS is an open network namespace. The nil *NS is the one that the process runs in.
type NS struct {
	file *os.File
	name string
}

// Path returns the file by which a named namespace is opened.
func Path(name string) string { return filepath.Join(dir, name) }

// Open opens a named namespace.
func Open(name string) (*NS, error) { return OpenPath(Path(name)) }

// OpenPath opens the namespace that a file stands for.
func OpenPath(path string) (*NS, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &NS{file: f, name: path}, nil
}

// OpenPID opens the namespace that a process runs in.
func OpenPID(pid int) (*NS, error) { return OpenPath(fmt.Sprintf("/proc/%d/ns/net", pid)) }

// Ensure opens a named namespace and makes it where there is none.
func Ensure(name string) (*NS, error) {
	ns, err := Open(name)
	if err == nil {
		// A file without a namespace mounted on it is what a reboot or a crash left.
		if err = ns.Do(func() error { return nil }); err == nil {
			return ns, nil
		}
		_ = ns.Close()
		if err := os.Remove(Path(name)); err != nil {
			return nil, fmt.Errorf("remove the stale name of network namespace %s: %w", name, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := shareFolder(); err != nil {
		return nil, err
	}
	err = (*NS)(nil).Do(func() error {
		h, err := netns.NewNamed(name) // changes the thread's namespace; Do puts it back
		if err != nil {
			return fmt.Errorf("make network namespace %s: %w", name, err)
		}
		_ = h.Close()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return Open(name)
}

// shareFolder makes the folder of the names a shared mount, as `ip netns add` does. Where that did it later,
// it would cover the names that are there, and no one could remove them.
func shareFolder() error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as iproute2 makes it
		return fmt.Errorf("make the folder of network namespaces: %w", err)
	}
	err := unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // no mount yet
		if err = unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("share the folder of network namespaces: %w", err)
	}
	return nil
}

// Delete removes a named namespace; one that does not exist is no error.
func Delete(name string) error {
	err := netns.DeleteNamed(name)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.EINVAL) { // a file that nothing is mounted on
		err = os.Remove(Path(name))
	}
	if err != nil {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

// Close forgets the namespace.
func (n *NS) Close() error {
	if n == nil {
		return nil
	}
	if err := n.file.Close(); err != nil {
		return fmt.Errorf("close network namespace %s: %w", n.name, err)
	}
	return nil
}

// Fd returns the descriptor of the namespace; 0, which libraries take for "here", for nil.
func (n *NS) Fd() int {
	if n == nil {
		return 0
	}
	return int(n.file.Fd())
}

// Share returns a descriptor of the namespace, which is the caller's, to be given to another process.
func (n *NS) Share() (*os.File, error) {
	fd, err := unix.FcntlInt(n.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share network namespace %s: %w", n.name, err)
	}
	return os.NewFile(uintptr(fd), n.name), nil
}

// Same reports whether both are the same namespace.
func (n *NS) Same(other *NS) (bool, error) {
	a, err := n.id()
	if err != nil {
		return false, err
	}
	b, err := other.id()
	if err != nil {
		return false, err
	}
	return a == b, nil
}

type id struct{ dev, ino uint64 }

func (n *NS) id() (id, error) {
	var st unix.Stat_t
	var err error
	if n == nil {
		err = unix.Stat("/proc/self/ns/net", &st)
	} else {
		err = unix.Fstat(n.Fd(), &st)
	}
	if err != nil {
		return id{}, fmt.Errorf("identify a network namespace: %w", err)
	}
	return id{dev: st.Dev, ino: st.Ino}, nil
}

// Do runs fn on a thread that is in the namespace. fn must not start goroutines that rely on that.
func (n *NS) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- n.onThread(fn) }()
	return <-done
}

func (n *NS) onThread(fn func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// Never the main thread: /proc/self/net is what that one sees. It is held while another does the work.
		defer runtime.UnlockOSThread()
		return n.Do(fn)
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer home.Close() //nolint:errcheck // read-only
	if n != nil {
		if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			return fmt.Errorf("enter network namespace %s: %w", n.name, err)
		}
	}
	err = fn()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
		runtime.UnlockOSThread()
	} // else the thread ends with its goroutine
	return err
}

// ListenTCP listens on addr inside the namespace; an IPv6 address takes no IPv4 connections.
func (n *NS) ListenTCP(addr netip.AddrPort) (*net.TCPListener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	var l *net.TCPListener
	err := n.Do(func() error {
		var err error
		l, err = net.ListenTCP(network, net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		return nil
	})
	return l, err
}

// DialTCP connects to addr from inside the namespace. Only the socket is made there: waiting for the
// connection holds no thread.
func (n *NS) DialTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	return n.DialTCPFrom(ctx, netip.Addr{}, addr)
}

// DialTCPFrom does the same from an address that need not be the namespace's own (IP_TRANSPARENT, ip(7)): answers to it
// have to be led there. An invalid one leaves the choice to the kernel.
func (n *NS) DialTCPFrom(ctx context.Context, from netip.Addr, addr netip.AddrPort) (*net.TCPConn, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
	if addr.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd := -1
	err := n.Do(func() error {
		var err error
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err == nil && from.IsValid() {
			err = bindForeign(fd, from)
		}
		return os.NewSyscallError("socket", err)
	})
	if err != nil && fd >= 0 {
		_ = unix.Close(fd)
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	// The connection starts before the descriptor meets the poller, which would report a socket
	// that is not connecting as hung up.
	connectErr := unix.Connect(fd, sa)
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close() //nolint:errcheck // FileConn has a descriptor of its own
	if connectErr != nil && !errors.Is(connectErr, unix.EINPROGRESS) {
		return nil, fmt.Errorf("dial %s: %w", addr, os.NewSyscallError("connect", connectErr))
	}
	if err := awaitConnect(ctx, f); err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	conn, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("dial %s: not a TCP connection", addr)
	}
	return conn, nil
}

// bindForeign gives a socket an address that may be another machine's.
func bindForeign(fd int, from netip.Addr) error {
	if from.Is4() {
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil {
			return err //nolint:wrapcheck // the caller says what was done
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}) //nolint:wrapcheck // likewise
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1); err != nil {
		return err //nolint:wrapcheck // likewise
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: from.As16()}) //nolint:wrapcheck // likewise
}

// awaitConnect waits until a connecting socket is connected or failed, or ctx is done.
func awaitConnect(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("await the connection: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := f.SetWriteDeadline(deadline); err != nil {
			return fmt.Errorf("await the connection: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	var result error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case code == 0 && !connected(int(fd)):
			return false // still connecting
		case code != 0:
			result = syscall.Errno(code)
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	if err != nil {
		return fmt.Errorf("await the connection: %w", err)
	}
	if result != nil {
		return fmt.Errorf("connect: %w", result)
	}
	return nil
}

func connected(fd int) bool {
	_, err := unix.Getpeername(fd)
	return err == nil
}

// Anonymous makes a namespace without a name: it goes when nobody has it open any more.
func Anonymous() (*NS, error) {
	type made struct {
		ns  *NS
		err error
	}
	done := make(chan made, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its goroutine
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread() // but never the main one: another does the work while this is held
			ns, err := Anonymous()
			done <- made{ns, err}
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- made{err: fmt.Errorf("make a network namespace: %w", err)}
			return
		}
		ns, err := OpenPath("/proc/thread-self/ns/net")
		done <- made{ns, err}
	}()
	m := <-done
	return m.ns, m.err
}
