package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// probePort tells in time, and in words, what would keep the server from listening.
func probePort(ctx context.Context, listen netip.AddrPort) error {
	if !listen.IsValid() {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %s on %s is %w by %s; stop that program or set server.bus.listen to another address",
			portText(listen.Port()), listen.Addr(), ErrPortTaken, portOwner("/proc", listen.Port()))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine has no address %s; set server.bus.listen to one that it has, or to 0.0.0.0:%s for all: %w",
			listen.Addr(), portText(listen.Port()), err)
	case err != nil:
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	return nil
}

// portOwner names the program that listens on a TCP port, as well as /proc tells.
func portOwner(proc string, port uint16) string {
	inodes := make(map[string]bool)
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		listeners(filepath.Join(proc, table), port, inodes)
	}
	fds, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return "another program"
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] {
			continue
		}
		pidDir := filepath.Dir(filepath.Dir(fd))
		comm, err := os.ReadFile(filepath.Join(pidDir, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%q (process %s)", strings.TrimSpace(string(comm)), filepath.Base(pidDir))
	}
	return "another program"
}

// listeners collects the inodes of listening sockets with the port out of a table like /proc/net/tcp.
func listeners(path string, port uint16, inodes map[string]bool) {
	const listening, local, state, inode = "0A", 1, 3, 9
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) <= inode || fields[state] != listening {
			continue
		}
		_, hex, _ := strings.Cut(fields[local], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(p) == port {
			inodes[fields[inode]] = true
		}
	}
}
