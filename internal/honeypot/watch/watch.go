// Package watch sees, from the node, what runs in pots: programs, also those that scripts and other programs start,
// their TCP connections, and the files that they write.
//
// Programs and connections are told by the kernel (eBPF on raw tracepoints, see bpf/), which looks at tasks of pots
// only; where it can't, they are polled for in /proc, which misses what is shorter than the time between two looks. Files
// are told by fanotify(7) either way, with a descriptor of what was written, so that a file is kept although it is
// deleted at once. Nothing of it is in the pot, can be seen from there, or makes a pot's programs wait.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Mode is how programs and connections are seen.
type Mode string

// Modes.
const (
	Auto    Mode = "auto"    // eBPF, else polling
	EBPF    Mode = "ebpf"    // the kernel tells each
	Polling Mode = "polling" // what is there when it is looked
	Off     Mode = "off"     // not at all
)

const (
	defaultEvery = 100 * time.Millisecond
	tidyEvery    = time.Second
)

// Pot is a running container that belongs to an attacker.
type Pot struct {
	Key     event.PotKey
	ID      string    // of the container
	PID     int       // of its first process
	Created time.Time // when it was made: what is older is of its image
}

// Options configure a watcher.
type Options struct {
	Mode Mode
	// Note takes a piece of evidence of a pot.
	Note func(k event.PotKey, container string, e event.Evidence)
	// Keep keeps a file that is said to hold size bytes.
	Keep  func(attacker event.Attacker, r io.Reader, size int64) (event.Content, error)
	Every time.Duration // between two looks where it polls; 100 ms where 0
	Log   *slog.Logger
}

// Counts are what a watcher has seen since its start.
type Counts struct {
	Executions, Connections, Writes uint64 // told
	Missed                          event.Missed
}

// source tells what happens in pots, by their queues.
type source interface {
	add(p *pot) error
	remove(p *pot)
	// run tells until ctx is done.
	run(ctx context.Context)
	// drain returns when all that had happened is in the queues, or ctx is done.
	drain(ctx context.Context)
}

// Watcher watches the pots of a node. Its methods may be called concurrently; Run has to run for it to see anything.
type Watcher struct {
	o    Options
	log  *slog.Logger
	mode Mode
	why  error // why it is not by eBPF
	src  source

	mu        sync.Mutex
	pots      map[string]*pot // by container
	next      uint32
	unseen    error // why the files of a pot are not seen
	unwatched error // why the last pot that was added is not watched
	counts    Counts
	closed    bool
	wg        sync.WaitGroup
}

// New loads what the kernel needs, or says with Mode why it polls. The error is one of Options, or that of a mode
// that was asked for.
func New(o Options) (*Watcher, error) {
	if o.Every == 0 {
		o.Every = defaultEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{o: o, log: o.Log, mode: o.Mode, pots: make(map[string]*pot)}
	switch o.Mode {
	case Auto, "", EBPF:
		k, err := loadKernel(w)
		if err == nil {
			w.mode, w.src = EBPF, k
			return w, nil
		}
		if o.Mode == EBPF {
			return nil, err
		}
		w.mode, w.why, w.src = Polling, err, newPoller(w, o.Every)
	case Polling:
		w.why, w.src = errors.New("honeypot.watch is polling"), newPoller(w, o.Every)
	case Off:
		w.src = nothing{}
	default:
		return nil, fmt.Errorf("how programs in pots are watched: %q; it has to be auto, ebpf, polling or off", o.Mode)
	}
	return w, nil
}

// Mode returns how programs are seen and, where that is not by eBPF, why.
func (w *Watcher) Mode() (Mode, error) { return w.mode, w.why }

// Add has a pot watched, from now on when it returns. A pot that is watched already, in the same run, is left alone. One
// that can't be watched is a finding: its attacker gets in nevertheless.
func (w *Watcher) Add(to Pot) {
	if w.mode == Off {
		return
	}
	err := w.add(to)
	w.mu.Lock()
	w.unwatched = err
	w.mu.Unlock()
	if err != nil {
		w.log.Error("a pot is not watched", "pot", to.ID, "error", err)
	}
}

func (w *Watcher) add(to Pot) error {
	ns, err := pidNamespace(to.PID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.New("watch a pot: the watcher has ended")
	}
	if old := w.pots[to.ID]; old != nil {
		if old.ns == ns && old.PID == to.PID {
			return nil
		}
		w.removeLocked(old)
	}
	w.next++
	p := newPot(w, to, ns, w.next)
	if p.files, err = openFiles(p); err != nil {
		w.unseen = err
		w.log.Warn("what is written to files in a pot is not seen", "pot", to.ID, "error", err)
	}
	if err := w.src.add(p); err != nil {
		if p.files != nil {
			p.files.close()
		}
		return err
	}
	w.pots[to.ID] = p
	w.wg.Go(func() { defer close(p.done); p.work() })
	if p.files != nil {
		w.wg.Go(p.files.run)
	}
	return nil
}

// Remove ends the watching of a container that has ended; of one that is not watched it does nothing.
func (w *Watcher) Remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pots[id]; p != nil {
		w.removeLocked(p)
	}
}

// Drop ends the watching of an attacker's pot, and returns when what was seen of it is noted.
func (w *Watcher) Drop(k event.PotKey) {
	w.mu.Lock()
	var gone []*pot
	for _, p := range w.pots {
		if p.Key == k {
			gone = append(gone, p)
			w.removeLocked(p)
		}
	}
	w.mu.Unlock()
	for _, p := range gone {
		<-p.done
	}
}

func (w *Watcher) removeLocked(p *pot) {
	delete(w.pots, p.ID)
	w.src.remove(p)
	p.end()
}

// Flush returns when all that has happened in an attacker's pot until now is noted, but for ends of programs that run; or
// with an error when ctx is done before.
func (w *Watcher) Flush(ctx context.Context, k event.PotKey) error {
	var p *pot
	w.mu.Lock()
	for _, one := range w.pots {
		if one.Key == k {
			p = one
		}
	}
	w.mu.Unlock()
	if p == nil {
		return nil
	}
	w.src.drain(ctx)
	if p.files != nil {
		p.files.drain()
	}
	p.flush(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("see what was done in the pot of %s: %w", k.Attacker, err)
	}
	return nil
}

// Run watches until ctx is done; what was seen until then is noted when it returns.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { w.src.run(ctx) })
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
			w.tidy()
		}
	}
	wg.Wait()
	w.mu.Lock()
	w.closed = true
	for _, p := range w.pots {
		w.removeLocked(p)
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// tidy forgets pots whose first process is gone: the kernel may give its namespace's number to another's.
func (w *Watcher) tidy() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pots {
		if ns, err := pidNamespace(p.PID); err != nil || ns != p.ns {
			w.removeLocked(p)
		}
	}
}

// Close unloads what New has loaded, after Run has ended or where it never ran.
func (w *Watcher) Close() error {
	if k, ok := w.src.(*kernel); ok {
		return k.close()
	}
	return nil
}

// Counts returns what was seen so far.
func (w *Watcher) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

func (w *Watcher) count(change func(*Counts)) {
	w.mu.Lock()
	change(&w.counts)
	w.mu.Unlock()
}

// Findings says what is not seen of pots, and why; nothing where the kernel tells all of it.
func (w *Watcher) Findings() []event.Finding {
	w.mu.Lock()
	unseen, unwatched := w.unseen, w.unwatched
	w.mu.Unlock()
	var out []event.Finding
	if f := Describe(w.mode, w.why); f.Level != levelOK {
		out = append(out, f)
	}
	if unwatched != nil {
		out = append(out, event.Finding{Level: "error", Subject: subject, Text: unwatched.Error(), Mend: mendOf(unwatched)})
	}
	if unseen != nil {
		out = append(out, event.Finding{Level: "warning", Subject: subject, Text: "what is written to files in pots is not seen: " + unseen.Error(), Mend: mendOf(unseen)})
	}
	return out
}

// subject is what findings of this package are about.
const subject = "programs in pots"

const levelOK = "ok"

// Describe states a mode as a finding; why says what keeps it from being eBPF.
func Describe(m Mode, why error) event.Finding {
	switch m {
	case Off:
		return event.Finding{Level: "warning", Subject: subject, Text: "are not watched (honeypot.watch is off)", Mend: "set honeypot.watch to auto"}
	case Polling:
		return event.Finding{
			Level: "warning", Subject: subject, Mend: mendOf(why),
			Text: fmt.Sprintf("are polled for, which misses short ones: %v", why),
		}
	case Auto, EBPF:
	default:
	}
	return event.Finding{Level: levelOK, Subject: subject, Text: "are told by the kernel (eBPF)"}
}

func mendOf(err error) string {
	var mend interface{ Mend() string }
	if errors.As(err, &mend) {
		return mend.Mend()
	}
	return ""
}

// Probe reports how pots would be watched on this machine.
func Probe(m Mode) event.Finding {
	w, err := New(Options{Mode: m})
	if err != nil {
		return event.Finding{Level: "error", Subject: subject, Text: err.Error(), Mend: mendOf(err)}
	}
	defer w.Close() //nolint:errcheck // nothing was written
	return Describe(w.Mode())
}

// pidNamespace returns the inode number of a process's pid namespace.
func pidNamespace(pid int) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/pid", &st); err != nil {
		return 0, fmt.Errorf("pid namespace of process %d: %w", pid, err)
	}
	if own, err := os.Readlink("/proc/self/ns/pid"); err == nil && own == fmt.Sprintf("pid:[%d]", st.Ino) {
		return 0, fmt.Errorf("pid namespace of process %d: it is the node's own", pid)
	}
	return uint32(st.Ino), nil
}

// nothing is the source of a watcher that is off.
type nothing struct{}

func (nothing) add(*pot) error          { return nil }
func (nothing) remove(*pot)             {}
func (nothing) run(ctx context.Context) { <-ctx.Done() }
func (nothing) drain(context.Context)   {}
