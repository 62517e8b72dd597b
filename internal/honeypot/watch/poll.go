package watch

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cgroups   = "/sys/fs/cgroup"
	mostPolls = 1024 // processes of a pot that are looked at
	mostSocks = 4096 // sockets of a pot that are remembered
	maxProc   = 64 << 10
)

// poller is the source that looks again and again.
type poller struct {
	w     *Watcher
	every time.Duration

	mu   sync.Mutex
	pots map[*pot]*polled
}

// polled is what a pot had when it was looked at last.
type polled struct {
	procs map[uint32]proc
	socks map[string]bool
}

// proc is a process as it was.
type proc struct {
	image

	exe  string
	seen uint64 // CLOCK_MONOTONIC
}

// image tells one program in a process from the next. A process may write over its arguments, but not move its stack.
type image struct {
	start uint64 // when the process was made, in ticks since boot
	stack uint64 // where its stack begins
}

func newPoller(w *Watcher, every time.Duration) *poller {
	return &poller{w: w, every: every, pots: make(map[*pot]*polled)}
}

func (l *poller) add(p *pot) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := &polled{procs: make(map[uint32]proc), socks: make(map[string]bool)}
	l.pots[p] = st
	l.look(p, st, false) // what runs already is no news
	return nil
}

func (l *poller) remove(p *pot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pots, p)
}

func (l *poller) run(ctx context.Context) {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.lookAll()
			return
		case <-tick.C:
			l.lookAll()
		}
	}
}

func (l *poller) drain(context.Context) { l.lookAll() }

func (l *poller) lookAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, st := range l.pots {
		l.look(p, st, true)
	}
}

// look compares a pot with what it was.
func (l *poller) look(p *pot, st *polled, tell bool) {
	now := monotonic()
	here := make(map[uint32]bool)
	for _, pid := range pidsOf(p.PID) {
		here[pid] = true
		l.process(p, st, pid, now, tell)
	}
	for pid, old := range st.procs {
		if !here[pid] {
			delete(st.procs, pid)
			if tell {
				p.tell(item{record: record{kind: exited, at: now, pid: pid, since: old.seen, unknown: true}})
			}
		}
	}
	l.sockets(p, st, now, tell)
}

func (l *poller) process(p *pot, st *polled, pid uint32, now uint64, tell bool) {
	dir := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	img, ok := imageOf(dir)
	if !ok {
		return
	}
	exe, err := os.Readlink(dir + "/exe")
	if err != nil {
		return // it ends
	}
	old, known := st.procs[pid]
	if known && old.image == img && old.exe == exe {
		return
	}
	fresh := proc{image: img, exe: exe, seen: now}
	st.procs[pid] = fresh
	if !tell || !known && forked(st, dir, fresh) {
		return
	}
	name, cmdline := strings.TrimSuffix(exe, " (deleted)"), readSome(dir+"/cmdline")
	r := record{kind: executed, at: now, pid: pid, inside: insideOf(int(pid)), exec: &execution{
		path: name, whole: true, unnamed: name != exe, args: splitArgs([]byte(cmdline)), cut: len(cmdline) >= maxProc,
	}}
	r.exec.dir, _ = os.Readlink(dir + "/cwd")
	r.parent, r.uid = familyOf(dir)
	r.exec.findScript()
	p.tell(item{record: r, exe: openProgram(p, r)})
}

// forked reports whether a process that is new is a copy of its parent that has executed nothing.
func forked(st *polled, dir string, fresh proc) bool {
	for line := range strings.Lines(readSome(dir + "/status")) {
		if rest, ok := strings.CutPrefix(line, "PPid:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 32)
			parent, known := st.procs[uint32(n)]
			return known && parent.exe == fresh.exe && parent.stack == fresh.stack
		}
	}
	return false
}

// findScript takes the first argument that is a path for the script that an interpreter runs, where the name of the
// program says that it is one.
func (e *execution) findScript() {
	switch base := filepath.Base(e.path); {
	case base == "sh", base == "dash", base == "bash", base == "busybox", strings.HasPrefix(base, "python"), strings.HasPrefix(base, "perl"):
	default:
		return
	}
	if len(e.args) > 1 && strings.Contains(e.args[1], "/") && !strings.HasPrefix(e.args[1], "-") { // an option may be anything
		e.filename, e.script = e.args[1], true
	}
}

// sockets tells of connections that the pot began, and of ports that it listens on.
func (l *poller) sockets(p *pot, st *polled, now uint64, tell bool) {
	var all []socket
	for _, name := range []string{"tcp", "tcp6"} {
		all = append(all, parseSockets(readSome("/proc/"+strconv.Itoa(p.PID)+"/net/"+name))...)
	}
	listens := make(map[uint16]bool)
	for _, s := range all {
		if s.listens {
			listens[s.local.Port()] = true
		}
	}
	here := make(map[string]bool, len(all))
	for _, s := range all {
		if !s.listens && (listens[s.local.Port()] || s.remote.Port() == 0) || len(here) >= mostSocks {
			continue // somebody came
		}
		here[s.key] = true
		if st.socks[s.key] || !tell {
			continue
		}
		r := record{kind: connected, at: now, address: s.remote, uid: s.uid}
		if s.listens {
			r.kind, r.address = listened, s.local
		}
		p.tell(item{record: r})
	}
	st.socks = here
}

// pidsOf returns the processes of the container of a process, by its control group.
func pidsOf(pid int) []uint32 {
	for line := range strings.Lines(readSome("/proc/" + strconv.Itoa(pid) + "/cgroup")) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[2] == "/" {
			continue
		}
		file := filepath.Join(cgroups, fields[2], "cgroup.procs")
		if fields[1] == "pids" {
			file = filepath.Join(cgroups, "pids", fields[2], "cgroup.procs")
		} else if fields[0] != "0" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var out []uint32
		for field := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.ParseUint(field, 10, 32); err == nil && len(out) < mostPolls {
				out = append(out, uint32(n))
			}
		}
		return out
	}
	return nil
}

// imageOf reads fields 22 and 28 of a process's state (proc_pid_stat(5)). Its name may hold anything, but ends before
// the last bracket.
func imageOf(dir string) (image, bool) {
	text := readSome(dir + "/stat")
	i := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[i+1:])
	if i < 0 || len(fields) < 26 || fields[0] == "Z" {
		return image{}, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	stack, err2 := strconv.ParseUint(fields[25], 10, 64)
	return image{start: start, stack: stack}, err == nil && err2 == nil
}

// familyOf returns a process's parent, as the pot counts, and its user.
func familyOf(dir string) (parent, uid uint32) {
	for line := range strings.Lines(readSome(dir + "/status")) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.ParseUint(fields[0], 10, 32)
		switch name {
		case "PPid":
			parent = insideOf(int(n))
		case "Uid":
			uid = uint32(n)
		}
	}
	return parent, uid
}

// readSome reads the start of a file of /proc; empty where it is not there.
func readSome(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // read-only
	buf := make([]byte, maxProc)
	n := 0
	for n < len(buf) {
		more, err := f.Read(buf[n:])
		n += more
		if err != nil || more == 0 {
			break
		}
	}
	return string(buf[:n])
}

func monotonic() uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails
	return uint64(now.Nano())
}
