package divert

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is the network namespace that is worked in: fd refers to it, 0 means the process's own.
type space struct{ fd int }

// do runs fn on a thread that is in the namespace: what it opens below /proc/sys/net and /proc/thread-self/net,
// and the programs that it starts, belong there.
func (s space) do(fn func() error) error {
	if s.fd == 0 {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, for it is in the wrong namespace
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func (s space) handle() netns.NsHandle {
	if s.fd == 0 {
		return netns.None()
	}
	return netns.NsHandle(s.fd)
}

// routes opens a handle for links, addresses and routes.
func (s space) routes() (*netlink.Handle, error) {
	var h *netlink.Handle
	var err error
	if s.fd == 0 {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	} else {
		h, err = netlink.NewHandleAt(s.handle(), unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	return h, nil
}

// socket opens a netlink socket for raw requests of one protocol.
func (s space) socket(protocol int) (map[int]*nl.SocketHandle, func(), error) {
	sock, err := nl.GetNetlinkSocketAt(s.handle(), netns.None(), protocol)
	if err != nil {
		return nil, nil, fmt.Errorf("open netlink protocol %d: %w", protocol, err)
	}
	limit := unix.Timeval{Sec: 10}
	if err := errors.Join(sock.SetSendTimeout(&limit), sock.SetReceiveTimeout(&limit)); err != nil {
		sock.Close()
		return nil, nil, fmt.Errorf("open netlink protocol %d: %w", protocol, err)
	}
	return map[int]*nl.SocketHandle{protocol: {Socket: sock}}, sock.Close, nil
}

// identity tells one life of one namespace from others: sysctls do not outlive either.
func (s space) identity() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify boot: %w", err)
	}
	var st unix.Stat_t
	err = s.do(func() error { return unix.Stat("/proc/thread-self/ns/net", &st) })
	if err != nil {
		return "", fmt.Errorf("identify network namespace: %w", err)
	}
	return fmt.Sprintf("%.36s/%d", boot, st.Ino), nil
}
