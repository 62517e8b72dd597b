package guise

import (
	"fmt"
	"strings"
)

// texts are the files of /proc that are covered, and what is in them.
func texts() map[string]func(Machine) string {
	return map[string]func(Machine) string{
		"version":              version,
		"meminfo":              meminfo,
		"loadavg":              loadavg,
		"cmdline":              func(m Machine) string { return m.Cmdline + "\n" },
		"sys/kernel/osrelease": func(m Machine) string { return m.Release + "\n" },
		"sys/kernel/version":   func(m Machine) string { return m.Version + "\n" },
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
	var b strings.Builder
	line := func(name string, n int64) { fmt.Fprintf(&b, "%-15s %8d kB\n", name+":", n>>10) }
	active := x.cached/2 + u.Memory/4
	anonymous := u.Memory
	line("MemTotal", m.Memory)
	line("MemFree", x.free)
	line("MemAvailable", x.available)
	line("Buffers", x.buffers)
	line("Cached", x.cached)
	line("SwapCached", 0)
	line("Active", active)
	line("Inactive", x.cached+x.buffers+anonymous-active)
	line("Active(anon)", x.shared)
	line("Inactive(anon)", anonymous)
	line("Active(file)", active-x.shared)
	line("Inactive(file)", x.cached+x.buffers-active)
	line("Unevictable", 0)
	line("Mlocked", 0)
	line("SwapTotal", m.Swap)
	line("SwapFree", m.Swap)
	line("Zswap", 0)
	line("Zswapped", 0)
	line("Dirty", 36<<10)
	line("Writeback", 0)
	line("AnonPages", anonymous)
	line("Mapped", x.cached/4)
	line("Shmem", x.shared)
	line("KReclaimable", m.Memory/60)
	line("Slab", m.Memory/40)
	line("SReclaimable", m.Memory/60)
	line("SUnreclaim", m.Memory/40-m.Memory/60)
	line("KernelStack", int64(u.Procs)*16<<10)
	line("PageTables", anonymous/80)
	line("SecPageTables", 0)
	line("NFS_Unstable", 0)
	line("Bounce", 0)
	line("WritebackTmp", 0)
	line("CommitLimit", m.Swap+m.Memory/2)
	line("Committed_AS", anonymous*2)
	line("VmallocTotal", 34359738367<<10)
	line("VmallocUsed", 21640<<10)
	line("VmallocChunk", 0)
	line("Percpu", 1328<<10)
	line("HardwareCorrupted", 0)
	line("AnonHugePages", 0)
	line("ShmemHugePages", 0)
	line("ShmemPmdMapped", 0)
	line("FileHugePages", 0)
	line("FilePmdMapped", 0)
	b.WriteString("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n")
	line("Hugepagesize", 2048<<10)
	line("Hugetlb", 0)
	line("DirectMap4k", 98112<<10)
	line("DirectMap2M", m.Memory-98112<<10)
	return b.String()
}
