package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// machine is the machine that is looked at.
type machine struct{ root string }

func (m machine) path(elements ...string) string {
	return filepath.Join(append([]string{"/", m.root}, elements...)...)
}

// read returns a small file's text without the white space around it.
func (m machine) read(elements ...string) (string, error) {
	data, err := os.ReadFile(m.path(elements...))
	if err != nil {
		return "", fmt.Errorf("read: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// privileges asks for the capabilities that the roles need.
func (m machine) privileges(o Options) check {
	return func(context.Context) []event.Finding {
		var need []capability
		if slices.Contains(o.Roles, config.RoleAgent) || slices.Contains(o.Roles, config.RoleHoneypot) {
			need = append(need, capability{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"})
		}
		if slices.Contains(o.Roles, config.RoleHoneypot) {
			need = append(need, capability{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"})
		}
		if len(need) == 0 {
			return ok("privileges", "none are needed")
		}
		have, err := m.capabilities()
		if err != nil {
			return failed("privileges", err.Error(), "is /proc mounted?")
		}
		var lacks []string
		for _, c := range need {
			if have&(1<<c.bit) == 0 {
				lacks = append(lacks, c.name)
			}
		}
		if len(lacks) > 0 {
			return failed("privileges", "this process lacks "+strings.Join(lacks, ", "), "run it as root; in a container, add the capability")
		}
		return ok("privileges", "all that are needed")
	}
}

type capability struct {
	bit  int
	name string
}

// capabilities are the effective ones of this process: capabilities(7).
func (m machine) capabilities() (uint64, error) {
	text, err := m.read("proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("read capabilities: %w", err)
			}
			return n, nil
		}
	}
	return 0, errors.New("/proc/self/status names no capabilities")
}

// minFree is how much room the state should have, in bytes.
const minFree = 1 << 30

func (m machine) stateDir(dir string) check {
	return func(context.Context) []event.Finding {
		const subject = "state folder"
		at := m.path(dir)
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			parent := existing(filepath.Dir(at))
			if unix.Access(parent, unix.W_OK) != nil {
				return failed(subject, fmt.Sprintf("%s does not exist and may not be made in %s", dir, parent), "run as root, or set state_dir")
			}
			at = parent
		case err != nil:
			return failed(subject, fmt.Sprintf("%s: %v", dir, err), "run as root, or set state_dir")
		case !info.IsDir():
			return failed(subject, dir+" is not a folder", "move it away, or set state_dir")
		case info.Mode().Perm()&0o022 != 0:
			return failed(subject, fmt.Sprintf("%s can be written by others (mode %04o): whoever can, can take Kokkuri over", dir, info.Mode().Perm()), "chmod 700 "+dir)
		case unix.Access(at, unix.W_OK) != nil:
			return failed(subject, dir+" may not be written by this user", "run as root, or chown "+dir)
		}
		var fsys unix.Statfs_t
		if err := unix.Statfs(at, &fsys); err == nil {
			if free := fsys.Bavail * uint64(fsys.Bsize); free < minFree {
				return warning(subject, fmt.Sprintf("%s has only %d MiB left", dir, free>>20), "make room, or set state_dir to another disk")
			}
		}
		return ok(subject, "%s", dir)
	}
}

// existing is the nearest folder upwards that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// serverPorts looks whether the server's addresses can be listened on. Where a server runs already its own ports are taken by it.
func (m machine) serverPorts(c config.Up) check {
	return func(ctx context.Context) []event.Finding {
		running := answers(ctx, c.Socket)
		var out []event.Finding
		for _, l := range []struct {
			what, key, network string
			addrs              []netip.AddrPort
		}{
			{"bus", "server.bus.listen", "tcp", []netip.AddrPort{c.Server.Bus.Listen}},
			{"syslog", "server.syslog.listen_tcp", "tcp", c.Server.Syslog.ListenTCP},
			{"syslog", "server.syslog.listen_tls", "tcp", c.Server.Syslog.ListenTLS},
			{"syslog", "server.syslog.listen_udp", "udp", c.Server.Syslog.ListenUDP},
		} {
			for _, a := range l.addrs {
				out = append(out, port(ctx, l.what, l.key, l.network, a, running)...)
			}
		}
		return out
	}
}

func port(ctx context.Context, what, key, network string, a netip.AddrPort, running bool) []event.Finding {
	subject := fmt.Sprintf("%s %s/%d", what, network, a.Port())
	var lc net.ListenConfig
	var err error
	if network == "udp" {
		var c net.PacketConn
		if c, err = lc.ListenPacket(ctx, network, a.String()); err == nil {
			err = c.Close()
		}
	} else {
		var l net.Listener
		if l, err = lc.Listen(ctx, network, a.String()); err == nil {
			err = l.Close()
		}
	}
	switch {
	case err == nil:
		return ok(subject, "%s is free", a)
	case errors.Is(err, syscall.EADDRINUSE) && running:
		return ok(subject, "%s is taken, as it should be: the server runs", a)
	case errors.Is(err, syscall.EADDRINUSE):
		return failed(subject, fmt.Sprintf("%s is taken by another program", a), fmt.Sprintf("ss -lnp '( sport = :%d )' names it; stop it, or change %s", a.Port(), key))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failed(subject, fmt.Sprintf("%s is not an address of this machine", a.Addr()), "change "+key)
	}
	return failed(subject, err.Error(), "change "+key)
}

// answers reports whether somebody listens on a socket of the machine.
func answers(ctx context.Context, socket string) bool {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// logs looks at the files that the agent follows.
func (m machine) logs(c config.AgentSection) check {
	return func(context.Context) []event.Finding {
		if journal := m.journal(c.Journal); journal != "" && !slices.ContainsFunc(c.Files, m.exists) {
			return ok("logs", "the journal is followed: %s", journal)
		}
		if len(c.Files) == 0 {
			return ok("logs", "no files are followed (agent.files is empty)")
		}
		var out []event.Finding
		for _, file := range c.Files {
			for _, path := range m.expand(file) {
				out = append(out, m.log(path)...)
			}
		}
		return out
	}
}

// maxExpanded bounds how many files of one pattern are looked at.
const maxExpanded = 20

// expand lists what a pattern with wildcards stands for; the pattern itself where that is nothing.
func (m machine) expand(file string) []string {
	if !strings.ContainsAny(file, "*?[") {
		return []string{file}
	}
	found, _ := filepath.Glob(m.path(file)) // a bad pattern is an error of the agent's
	if len(found) == 0 {
		return []string{file}
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], strings.TrimSuffix(m.path("/"), "/"))
	}
	return found[:min(len(found), maxExpanded)]
}

func (m machine) exists(file string) bool {
	_, err := os.Stat(m.path(file))
	return err == nil
}

// journal is where the journal's files lie that are followed where no other file is; empty where none are.
func (m machine) journal(c config.JournalSource) string {
	if c.Follow == "off" {
		return ""
	}
	dirs := []string{"/run/log/journal", "/var/log/journal"}
	if c.Directory != "" {
		dirs = []string{c.Directory}
	}
	for _, dir := range dirs {
		for _, pattern := range []string{"*.journal", "*/*.journal"} {
			if found, _ := filepath.Glob(m.path(dir, pattern)); len(found) > 0 {
				return dir
			}
		}
	}
	return ""
}

func (m machine) log(file string) []event.Finding {
	subject := "log " + file
	f, err := os.Open(m.path(file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failed(subject, "there is no such file: nothing is noticed", "apt-get install rsyslog (it writes sshd's lines there), or follow the journal (agent.journal.follow: on), or set agent.files")
	case errors.Is(err, fs.ErrPermission):
		return failed(subject, "it may not be read by this user", "run the agent as root, or usermod -aG adm USER")
	case err != nil:
		return failed(subject, err.Error(), "set agent.files")
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	switch {
	case err != nil:
		return failed(subject, err.Error(), "set agent.files")
	case !info.Mode().IsRegular():
		return failed(subject, "it is not a file", "set agent.files")
	case info.Size() == 0:
		return warning(subject, "it is empty: does sshd log there?", "log in once and look; systemctl status rsyslog")
	}
	return ok(subject, "readable, last written %s", info.ModTime().UTC().Format(time.RFC3339))
}

// portRange looks whether the node's endpoints could be taken by outgoing connections.
func (m machine) portRange(r config.PortRange) check {
	return func(context.Context) []event.Finding {
		const subject = "endpoint ports"
		text, err := m.read("proc/sys/net/ipv4/ip_local_port_range")
		if err != nil {
			return warning(subject, "net.ipv4.ip_local_port_range: "+err.Error(), "is /proc mounted?")
		}
		var first, last uint16
		if _, err := fmt.Sscan(text, &first, &last); err != nil {
			return warning(subject, fmt.Sprintf("net.ipv4.ip_local_port_range is %q", text), "sysctl net.ipv4.ip_local_port_range")
		}
		if local := (config.PortRange{First: first, Last: last}); local.Overlaps(r) {
			return failed(subject, fmt.Sprintf("honeypot.port_range %s overlaps the ports of outgoing connections, %s", r, local),
				fmt.Sprintf("set honeypot.port_range apart, or: sysctl -w net.ipv4.ip_local_port_range='%d 60999' (and in /etc/sysctl.d)", max(int(r.Last)+1, 32768)))
		}
		return ok(subject, "%s, apart from outgoing connections", r)
	}
}

// modules looks for what the kernel must have, as built in, loaded, or to be loaded.
func (m machine) modules(roles []config.Role) check {
	return func(context.Context) []event.Finding {
		need := []string{"nf_tables", "nf_nat", "nf_conntrack", "nft_chain_nat", "nft_fib_inet", "nft_masq"}
		if slices.Contains(roles, config.RoleHoneypot) {
			need = append(need, "veth", "bridge", "nft_tproxy", "nft_limit")
		}
		release, err := m.read("proc/sys/kernel/osrelease")
		if err != nil {
			return warning("kernel", err.Error(), "is /proc mounted?")
		}
		known := m.known(release)
		if len(known) == 0 {
			return warning("kernel", "its list of modules (/lib/modules/"+release+") is not here", "nothing to do where nftables works; in a container it is usual")
		}
		var lacks []string
		for _, name := range need {
			if _, err := os.Stat(m.path("sys/module", name)); err != nil && !known[name] {
				lacks = append(lacks, name)
			}
		}
		if len(lacks) > 0 {
			return failed("kernel", "it has no "+strings.Join(lacks, ", "), "use a kernel that has them, such as Debian's")
		}
		return ok("kernel", "%s has all that is needed", release)
	}
}

// known are the modules that a kernel has built in or can load.
func (m machine) known(release string) map[string]bool {
	out := map[string]bool{}
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		f, err := os.Open(m.path("lib/modules", release, list))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			file, _, _ := strings.Cut(lines.Text(), ":")
			name, _, _ := strings.Cut(filepath.Base(file), ".ko")
			out[strings.ReplaceAll(name, "-", "_")] = true
		}
		_ = f.Close()
	}
	return out
}
