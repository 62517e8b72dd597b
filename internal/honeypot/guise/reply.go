package guise

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	fieldLength = 65 // of new_utsname (linux/utsname.h)
	loadShift   = 16 // SI_LOAD_SHIFT of linux/sysinfo.h

	i386Uname   = 122
	i386Sysinfo = 116
)

// reply encodes the answer to a system call as the kernel would lay it into the program's memory.
func reply(arch uint32, nr int32, describe func() Machine) (data []byte, ok bool) {
	switch arch {
	case unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64:
		switch nr {
		case unix.SYS_UNAME:
			return utsname(describe()), true
		case unix.SYS_SYSINFO:
			return sysinfo(describe()), true
		}
	case unix.AUDIT_ARCH_I386:
		switch nr {
		case i386Uname:
			return utsname(describe()), true
		case i386Sysinfo:
			return sysinfo32(describe()), true
		}
	}
	return nil, false
}

// utsname is struct new_utsname.
func utsname(m Machine) []byte {
	out := make([]byte, 6*fieldLength)
	for i, s := range []string{"Linux", m.Nodename, m.Release, m.Version, m.Hardware, "(none)"} {
		copy(out[i*fieldLength:(i+1)*fieldLength-1], s)
	}
	return out
}

// sysinfo is struct sysinfo of a 64-bit machine.
func sysinfo(m Machine) []byte {
	u := m.Usage()
	memory := memoryOf(m, u)
	e := binary.NativeEndian
	out := make([]byte, 0, 112)
	out = e.AppendUint64(out, uint64(uptime().Seconds()))
	for _, l := range loads(u) {
		out = e.AppendUint64(out, uint64(l*(1<<loadShift)))
	}
	for _, n := range []int64{m.Memory, memory.free, memory.shared, memory.buffers, m.Swap, m.Swap} {
		out = e.AppendUint64(out, uint64(n))
	}
	out = e.AppendUint16(out, uint16(u.Procs))
	out = append(out, make([]byte, 6)...)
	out = e.AppendUint64(e.AppendUint64(out, 0), 0)
	out = e.AppendUint32(out, 1)
	return append(out, make([]byte, 4)...)
}

// sysinfo32 is struct compat_sysinfo (kernel/sys.c).
func sysinfo32(m Machine) []byte {
	const page = 4096
	u := m.Usage()
	memory := memoryOf(m, u)
	e := binary.NativeEndian
	out := make([]byte, 0, 64)
	out = e.AppendUint32(out, uint32(uptime().Seconds()))
	for _, l := range loads(u) {
		out = e.AppendUint32(out, uint32(l*(1<<loadShift)))
	}
	for _, n := range []int64{m.Memory, memory.free, memory.shared, memory.buffers, m.Swap, m.Swap} {
		out = e.AppendUint32(out, uint32(n/page))
	}
	out = e.AppendUint16(out, uint16(u.Procs))
	out = append(out, 0, 0)
	out = e.AppendUint32(e.AppendUint32(out, 0), 0)
	out = e.AppendUint32(out, page)
	return append(out, make([]byte, 8)...)
}

// loads are the averages of 1, 5 and 15 minutes.
func loads(u Usage) [3]float64 { return [3]float64{u.Load, u.Load * 0.7, u.Load * 0.4} }
