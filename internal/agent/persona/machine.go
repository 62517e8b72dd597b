package persona

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxTable = 4 << 20  // of the kernel's tables
	maxDpkg  = 64 << 20 // of dpkg's, read line by line
	usedStep = 64 << 20 // what a file system holds is told no finer, so that a persona seldom changes
)

func (l *Learner) machine(_ context.Context, p *event.Persona) {
	h := &p.Machine
	hypervisor := false
	l.lines("/proc/cpuinfo", maxTable, func(line string) bool {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			h.CPUs++
		case "model name":
			h.CPUModel = value
		case "flags":
			hypervisor = hypervisor || slices.Contains(strings.Fields(value), "hypervisor")
		}
		return false
	})
	l.lines("/proc/meminfo", maxFile, func(line string) bool {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return false
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 50)
		switch fields[0] {
		case "MemTotal:":
			h.Memory = kib << 10
		case "SwapTotal:":
			h.Swap = kib << 10
		}
		return false
	})
	l.lines("/proc/stat", maxTable, func(line string) bool {
		text, ok := strings.CutPrefix(line, "btime ")
		if sec, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); ok && err == nil {
			h.BootedAt = time.Unix(sec, 0).UTC()
		}
		return ok
	})
	h.Vendor, h.Product = l.line("/sys/class/dmi/id/sys_vendor"), l.line("/sys/class/dmi/id/product_name")
	h.Virtualisation = virtualisation(h.Vendor+" "+h.Product, hypervisor)
	h.Disks = l.disks()
	h.FileSystems = l.fileSystems()
}

// virtualisation is what systemd-detect-virt would say of a machine, by its vendor's name.
func virtualisation(dmi string, hypervisor bool) string {
	for _, known := range [][2]string{
		{"QEMU", "kvm"},
		{"KVM", "kvm"},
		{"OpenStack", "kvm"},
		{"Amazon EC2", "amazon"},
		{"Google", "google"},
		{"VMware", "vmware"},
		{"innotek", "oracle"},
		{"VirtualBox", "oracle"},
		{"Xen", "xen"},
		{"Microsoft Corporation Virtual", "microsoft"},
		{"Parallels", "parallels"},
		{"BHYVE", "bhyve"},
	} {
		if strings.Contains(dmi, known[0]) {
			return known[1]
		}
	}
	if hypervisor {
		return "vm-other"
	}
	return "none"
}

func (l *Learner) disks() []event.Disk {
	disk := regexp.MustCompile(`^(?:(?:sd|vd|xvd|hd)[a-z]+|nvme[0-9].*|mmcblk[0-9].*)$`)
	entries, _ := os.ReadDir(l.path("/sys/block"))
	var out []event.Disk
	for _, e := range entries {
		if !disk.MatchString(e.Name()) {
			continue
		}
		sectors, err := strconv.ParseInt(l.line("/sys/block/"+e.Name()+"/size"), 10, 50)
		if err == nil && sectors > 0 && len(out) < 32 {
			out = append(out, event.Disk{Name: e.Name(), Size: sectors * 512})
		}
	}
	return out
}

// fileSystems are those on the machine's own devices; others might not answer.
func (l *Learner) fileSystems() []event.FileSystem {
	var out []event.FileSystem
	l.lines("/proc/self/mounts", maxTable, func(line string) bool {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "/dev/") || strings.HasPrefix(f[0], "/dev/loop") || strings.Contains(f[1], `\`) ||
			slices.ContainsFunc(out, func(have event.FileSystem) bool { return have.Device == f[0] }) {
			return false
		}
		var s unix.Statfs_t
		if info, err := os.Stat(l.path(f[1])); err != nil || !info.IsDir() || unix.Statfs(l.path(f[1]), &s) != nil {
			return false
		}
		size := int64(s.Blocks) * s.Bsize
		used := size - int64(s.Bfree)*s.Bsize
		out = append(out, event.FileSystem{Device: f[0], Mount: f[1], Type: f[2], Size: size, Used: used / usedStep * usedStep})
		return len(out) == 32
	})
	return out
}

func (l *Learner) network(_ context.Context, p *event.Persona) {
	l.lines("/proc/net/route", maxTable, func(line string) bool {
		f := strings.Fields(line)
		if len(f) > 2 && f[1] == "00000000" {
			p.Network.Interface = f[0]
		}
		return p.Network.Interface != ""
	})
	if !l.o.Addresses || p.Network.Interface == "" {
		return
	}
	link, err := net.InterfaceByName(p.Network.Interface)
	if err != nil {
		return
	}
	addrs, _ := link.Addrs()
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			p.Network.Addresses = append(p.Network.Addresses, event.InterfaceAddress{Prefix: prefix})
		}
	}
}

func (l *Learner) listening(_ context.Context, p *event.Persona) {
	ports := map[uint16]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		l.lines(table, maxTable, func(line string) bool {
			if port, ok := parseListening(line); ok {
				ports[port] = true
			}
			return len(ports) == 128
		})
	}
	for port := range ports {
		p.Listening = append(p.Listening, event.Listening{Port: port, Service: serviceOf(port)})
	}
	slices.SortFunc(p.Listening, func(a, b event.Listening) int { return int(a.Port) - int(b.Port) })
}

// parseListening reads a line of /proc/net/tcp or tcp6: ok where it is a socket that others can reach.
func parseListening(line string) (port uint16, ok bool) {
	f := strings.Fields(line)
	if len(f) < 4 || f[3] != "0A" {
		return 0, false
	}
	host, number, _ := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(number, 16, 16)
	raw, hexErr := hex.DecodeString(host)
	if err != nil || hexErr != nil || n == 0 || len(raw) != 4 && len(raw) != 16 {
		return 0, false
	}
	for i := 0; i < len(raw); i += 4 { // words in the order of the machine, which is little-endian wherever this runs
		slices.Reverse(raw[i : i+4])
	}
	a, _ := netip.AddrFromSlice(raw)
	return uint16(n), !a.Unmap().IsLoopback()
}

// serviceOf names the service that usually has a port.
func serviceOf(port uint16) event.Service {
	switch port {
	case 21:
		return event.FTP
	case 22:
		return event.SSH
	case 23:
		return event.Telnet
	case 25, 465, 587:
		return event.SMTP
	case 80, 443, 8080:
		return event.HTTP
	case 110, 143, 993, 995:
		return event.IMAP
	case 3306:
		return event.MySQL
	case 5432:
		return event.Postgres
	case 6379:
		return event.Redis
	}
	return ""
}

// product is a service's server, as packages are named.
type product struct {
	packages *regexp.Regexp
	service  event.Service
	name     string
}

func products() []product {
	whole := func(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)$`) }
	return []product{
		{whole(`openssh-server`), event.SSH, "OpenSSH"},
		{whole(`mariadb-server-core(-[0-9.]+)?`), event.MySQL, "MariaDB"},
		{whole(`mysql-server-core(-[0-9.]+)?`), event.MySQL, "MySQL"},
		{whole(`redis-server`), event.Redis, "Redis"},
		{whole(`postgresql-[0-9.]+`), event.Postgres, "PostgreSQL"},
		{whole(`vsftpd`), event.FTP, "vsftpd"},
		{whole(`proftpd-(basic|core)`), event.FTP, "ProFTPD"},
		{whole(`pure-ftpd`), event.FTP, "Pure-FTPd"},
		{whole(`nginx`), event.HTTP, "nginx"},
		{whole(`apache2`), event.HTTP, "Apache"},
	}
}

func (l *Learner) software(_ context.Context, p *event.Persona) {
	known := products()
	var found *product
	l.lines("/var/lib/dpkg/status", maxDpkg, func(line string) bool {
		if name, ok := strings.CutPrefix(line, "Package: "); ok {
			found = nil
			if i := slices.IndexFunc(known, func(k product) bool { return k.packages.MatchString(name) }); i >= 0 {
				found = &known[i]
			}
			return false
		}
		if status, ok := strings.CutPrefix(line, "Status: "); ok && !strings.HasSuffix(status, " installed") {
			found = nil
		}
		if version, ok := strings.CutPrefix(line, "Version: "); ok && found != nil {
			p.Software = append(p.Software, event.ServiceVersion{Service: found.service, Product: found.name, Version: version})
			found = nil
		}
		return len(p.Software) == 32
	})
}
