package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// What a record of the kernel's side says (bpf/watch.bpf.c).
type kind uint32

const (
	executed  kind = 1
	exited    kind = 2
	connected kind = 3
	listened  kind = 4
)

// Sizes of a record's parts in bytes.
const (
	headSize  = 32
	nameSize  = 256
	argsSize  = 2048
	component = 64
	maxDepth  = 24 // components of a path
	pathSize  = component * maxDepth
	execSize  = headSize + 16 + 2*nameSize + argsSize + 2*pathSize
	exitSize  = headSize + 16
	sockSize  = headSize + 8 + 16
)

var errRecord = errors.New("not a record of what happens in pots")

// record is what the kernel's side tells. Strings hold what an attacker chose.
type record struct {
	kind        kind
	pot         uint32
	at          uint64 // nanoseconds of CLOCK_MONOTONIC
	pid         uint32 // as the machine counts
	inside      uint32 // as the pot counts, as the next one
	parent      uint32
	uid         uint32
	exec        *execution
	code        uint32 // of exited, as wait(2) has it
	since       uint64 // of exited: when it was executed
	unknown     bool   // of exited: how it ended
	address     netip.AddrPort
	addressless bool // of an address family that is not known
}

// execution is the start of a program.
type execution struct {
	path     string // of the program
	whole    bool   // path is: it leads there
	dir      string
	filename string // as it was asked for
	script   bool   // filename is a script
	args     []string
	cut      bool // args are
	unnamed  bool // nothing leads to the program
}

// decode reads a record.
func decode(raw []byte) (record, error) {
	if len(raw) < headSize {
		return record{}, fmt.Errorf("%w: %d bytes", errRecord, len(raw))
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	r := record{
		kind: kind(u32(0)), pot: u32(4), at: binary.LittleEndian.Uint64(raw[8:]), pid: u32(16), inside: u32(20), parent: u32(24), uid: u32(28),
	}
	body := raw[headSize:]
	want := map[kind]int{executed: execSize, exited: exitSize, connected: sockSize, listened: sockSize}[r.kind]
	if want == 0 || len(raw) < want { // the ring rounds sizes up
		return record{}, fmt.Errorf("%w: %d bytes of kind %d", errRecord, len(raw), r.kind)
	}
	switch r.kind {
	case executed:
		r.exec = decodeExecution(body)
	case exited:
		r.code, r.since = u32(headSize), binary.LittleEndian.Uint64(body[8:])
	case connected, listened:
		r.decodeAddress(u32(headSize), u32(headSize+4), [16]byte(body[8:24]))
	}
	return r, nil
}

func (r *record) decodeAddress(family, port uint32, addr [16]byte) {
	const inet, inet6 = 2, 10
	switch family {
	case inet:
		r.address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), uint16(port))
	case inet6:
		r.address = netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), uint16(port))
	default:
		r.addressless = true
	}
}

func decodeExecution(b []byte) *execution {
	links, size := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	exeLen, cwdLen := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	b = b[16:]
	next := func(n int) []byte { out := b[:n]; b = b[n:]; return out }
	e := &execution{unnamed: links == 0}
	e.filename = text(next(nameSize))
	interp := text(next(nameSize))
	e.script = interp != e.filename && interp != ""
	args := next(argsSize)
	e.cut = size > argsSize
	e.args = splitArgs(args[:min(size, argsSize)])
	e.path, e.whole = joinPath(next(pathSize), exeLen)
	e.dir, _ = joinPath(next(pathSize), cwdLen)
	return e
}

// text is what stands before the first zero.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// splitArgs separates arguments, each of which ends with a zero, but for the last one where it was cut.
func splitArgs(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// joinPath makes a path of its names, the last one first. It is whole unless something of it is missing.
func joinPath(b []byte, n uint32) (path string, whole bool) {
	whole = n < maxDepth
	n = min(n, maxDepth)
	names := make([]string, 0, n+1)
	for i := range int(n) {
		name := text(b[i*component : (i+1)*component])
		whole = whole && len(name) < component-1
		names = append(names, name)
	}
	if !whole && n == maxDepth {
		names = append(names, "…")
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/"), whole
}
