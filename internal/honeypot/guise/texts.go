package guise

import (
	"fmt"
	"strings"
)

// texts are the files of /proc that are covered, and what is in them.
func texts() map[string]func(Machine) string {
	return map[string]func(Machine) string{
		"version":                   version,
		"meminfo":                   meminfo,
		"loadavg":                   loadavg,
		"cmdline":                   func(m Machine) string { return m.Cmdline + "\n" },
		"sys/kernel/random/boot_id": func(m Machine) string { return m.BootID + "\n" },
		"sys/kernel/osrelease":      func(m Machine) string { return m.Release + "\n" },
		"sys/kernel/version":        func(m Machine) string { return m.Version + "\n" },
	}
}

func version(m Machine) string {
	compiler := m.Compiler
	if compiler != "" {
		compiler = " " + compiler
	}
	return fmt.Sprintf("Linux version %s%s %s\n", m.Release, compiler, m.Version)
}

func loadavg(m Machine) string {
	u := m.Usage()
	l := loads(u)
	return fmt.Sprintf("%.2f %.2f %.2f 1/%d %d\n", l[0], l[1], l[2], u.Procs, u.LastPID)
}

// memory is how a machine's memory is shared out: as that of a small server a while after its start.
type memory struct{ free, available, buffers, cached, shared int64 }

const systemShare = 16 // the part of memory that the system itself takes

func memoryOf(m Machine, u Usage) memory {
	rest := max(m.Memory-m.Memory/systemShare-u.Memory, m.Memory/50)
	out := memory{buffers: m.Memory / 40, cached: m.Memory / 4, shared: m.Memory / 400}
	out.cached = min(out.cached, rest/2)
	out.buffers = min(out.buffers, rest/8)
	out.free = rest - out.cached - out.buffers
	out.available = rest - rest/20
	return out
}

// meminfo is as proc_meminfo(5) of Linux 6.1 has it.
func meminfo(m Machine) string {
	u := m.Usage()
	x := memoryOf(m, u)
	active := x.cached/2 + u.Memory/4
	anonymous := u.Memory
	var b strings.Builder
	for _, l := range []struct {
		name  string
		bytes int64
	}{
		{"MemTotal", m.Memory},
		{"MemFree", x.free},
		{"MemAvailable", x.available},
		{"Buffers", x.buffers},
		{"Cached", x.cached},
		{"SwapCached", 0},
		{"Active", active},
		{"Inactive", x.cached + x.buffers + anonymous - active},
		{"Active(anon)", x.shared},
		{"Inactive(anon)", anonymous},
		{"Active(file)", active - x.shared},
		{"Inactive(file)", x.cached + x.buffers - active},
		{"Unevictable", 0},
		{"Mlocked", 0},
		{"SwapTotal", m.Swap},
		{"SwapFree", m.Swap},
		{"Zswap", 0},
		{"Zswapped", 0},
		{"Dirty", 36 << 10},
		{"Writeback", 0},
		{"AnonPages", anonymous},
		{"Mapped", x.cached / 4},
		{"Shmem", x.shared},
		{"KReclaimable", m.Memory / 60},
		{"Slab", m.Memory / 40},
		{"SReclaimable", m.Memory / 60},
		{"SUnreclaim", m.Memory/40 - m.Memory/60},
		{"KernelStack", int64(u.Procs) * 16 << 10},
		{"PageTables", anonymous / 80},
		{"SecPageTables", 0},
		{"NFS_Unstable", 0},
		{"Bounce", 0},
		{"WritebackTmp", 0},
		{"CommitLimit", m.Swap + m.Memory/2},
		{"Committed_AS", anonymous * 2},
		{"VmallocTotal", 34359738367 << 10},
		{"VmallocUsed", 21640 << 10},
		{"VmallocChunk", 0},
		{"Percpu", 1328 << 10},
		{"HardwareCorrupted", 0},
		{"AnonHugePages", 0},
		{"ShmemHugePages", 0},
		{"ShmemPmdMapped", 0},
		{"FileHugePages", 0},
		{"FilePmdMapped", 0},
	} {
		kilobytes(&b, l.name, l.bytes)
	}
	b.WriteString("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n")
	kilobytes(&b, "Hugepagesize", 2048<<10)
	kilobytes(&b, "Hugetlb", 0)
	kilobytes(&b, "DirectMap4k", 98112<<10)
	kilobytes(&b, "DirectMap2M", m.Memory-98112<<10)
	return b.String()
}

func kilobytes(b *strings.Builder, name string, n int64) {
	fmt.Fprintf(b, "%-15s %8d kB\n", name+":", n>>10)
}
