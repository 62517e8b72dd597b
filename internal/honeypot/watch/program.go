package watch

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/harvest"
)

const (
	// clockLag is how far the time that the kernel gives to files lags behind the clock.
	clockLag = 20 * time.Millisecond
	mostKept = 4096 // contents that are remembered
)

// identity tells whether a file is one that was kept already: what an attacker changes changes its ctime.
type identity struct {
	dev, ino uint64
	size     int64
	changed  unix.Timespec
}

func (p *pot) root() string { return "/proc/" + strconv.Itoa(p.PID) + "/root" }

// openProgram opens what a process executes, while it does. nil where it has ended, or is another program by now.
func openProgram(p *pot, r record) *os.File {
	proc := "/proc/" + strconv.FormatUint(uint64(r.pid), 10)
	f, err := os.OpenFile(proc+"/exe", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err == nil && (strings.TrimSuffix(name, " (deleted)") == r.exec.path || !r.exec.whole) {
			return f
		}
		_ = f.Close()
	}
	if !r.exec.whole || r.exec.unnamed {
		return nil
	}
	if f, err = harvest.Open(p.root(), r.exec.path); err != nil {
		return nil
	}
	return f
}

// program keeps what was executed, or the script that was, where it is not of the image. nil where it is.
func (p *pot) program(i item) *event.Content {
	x := i.exec
	if x.script && !strings.HasPrefix(x.filename, "/dev/fd/") {
		name := x.filename
		if !path.IsAbs(name) {
			name = path.Join(x.dir, name)
		}
		if f, err := harvest.Open(p.root(), name); err == nil {
			defer f.Close() //nolint:errcheck // read-only
			if c := p.keepNew(f, wall(i.at)); c != nil {
				return c
			}
		}
	}
	if i.exe == nil {
		if x.unnamed {
			return &event.Content{Truncated: true} // nobody can say what it was
		}
		return nil
	}
	return p.keepNew(i.exe, time.Time{})
}

// keepNew keeps a file that was changed since the pot was made, if it was not changed after before.
func (p *pot) keepNew(f *os.File, before time.Time) *event.Content {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	changed := time.Unix(st.Ctim.Unix())
	if changed.Before(p.Created.Add(-clockLag)) || !before.IsZero() && changed.After(before.Add(clockLag)) {
		return nil
	}
	return p.keep(f, &st)
}

// keep keeps a regular file's content, once for as long as it does not change.
func (p *pot) keep(f *os.File, st *unix.Stat_t) *event.Content {
	id := identity{dev: st.Dev, ino: st.Ino, size: st.Size, changed: st.Ctim}
	if c, ok := p.kept[id]; ok {
		return &c
	}
	if st.Size == 0 {
		return &event.Content{}
	}
	if !p.bytes.take(float64(min(st.Size, keepBurst/4))) { // of a larger one only the start is kept
		return &event.Content{Size: st.Size, Truncated: true}
	}
	if _, err := f.Seek(0, 0); err != nil {
		return &event.Content{Size: st.Size, Truncated: true}
	}
	c, err := p.w.o.Keep(p.Key.Attacker, f, st.Size)
	if err != nil {
		p.w.log.Warn("a file of a pot is not kept", "pot", p.ID, "error", err)
		return &event.Content{Size: st.Size, Truncated: true}
	}
	if len(p.kept) >= mostKept {
		clear(p.kept)
	}
	if c.SHA256 != "" {
		p.kept[id] = c
	}
	return &c
}
