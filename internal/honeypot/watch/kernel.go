package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// initialPIDs is the inode number of the machine's first pid namespace (PROC_PID_INIT_INO of the kernel).
const initialPIDs = 0xEFFFFFFC

// KernelError says why programs in pots can't be told by the kernel.
type KernelError struct {
	Text string
	Help string
	Err  error
}

func (e *KernelError) Error() string {
	if e.Err == nil {
		return e.Text
	}
	// The verifier's log, which an error may hold, is no news to anybody here.
	first, _, _ := strings.Cut(e.Err.Error(), "\n")
	return e.Text + ": " + first
}

// Mend says what to do about it.
func (e *KernelError) Mend() string { return e.Help }

// Unwrap gives the cause.
func (e *KernelError) Unwrap() error { return e.Err }

// kernel is the source that the kernel feeds.
type kernel struct {
	w      *Watcher
	objs   watchObjects
	links  []link.Link
	reader *ringbuf.Reader

	mu      sync.Mutex
	pots    map[uint32]*pot // by number
	waiting []chan struct{} // closed when the ring was read to its end
	ended   bool
}

func loadKernel(w *Watcher) (*kernel, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil || st.Ino != initialPIDs {
		return nil, &KernelError{Text: "this process is in a pid namespace of its own, and the kernel counts otherwise", Help: "run the node on the machine itself, or its container with --pid=host", Err: err}
	}
	if _, err := btf.LoadKernelSpec(); err != nil {
		return nil, &KernelError{Text: "the kernel has no type information (/sys/kernel/btf/vmlinux)", Help: "boot a kernel with CONFIG_DEBUG_INFO_BTF, as Debian 12 and Ubuntu 22.04 have it", Err: err}
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, &KernelError{Text: "no memory may be locked for eBPF", Help: "run the node as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE", Err: err}
	}
	k := &kernel{w: w, pots: make(map[uint32]*pot)}
	if err := loadWatchObjects(&k.objs, nil); err != nil {
		help := "run the node as root, or with CAP_BPF and CAP_PERFMON"
		if !errors.Is(err, os.ErrPermission) {
			help = "a kernel from 5.8 on has what it takes"
		}
		return nil, &KernelError{Text: "the kernel does not take the eBPF program", Help: help, Err: err}
	}
	for name, prog := range map[string]*ebpf.Program{
		"sched_process_exec": k.objs.Executed, "sched_process_exit": k.objs.Exited, "inet_sock_set_state": k.objs.SockState,
	} {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: prog})
		if err != nil {
			return nil, errors.Join(&KernelError{Text: "the kernel does not let tracepoint " + name + " be used", Help: "a kernel from 5.8 on has it", Err: err}, k.close())
		}
		k.links = append(k.links, l)
	}
	var err error
	if k.reader, err = ringbuf.NewReader(k.objs.Records); err != nil {
		return nil, errors.Join(&KernelError{Text: "the ring buffer can't be read", Err: err}, k.close())
	}
	return k, nil
}

func (k *kernel) close() error {
	var errs []error
	for _, l := range k.links {
		errs = append(errs, l.Close())
	}
	if k.reader != nil {
		errs = append(errs, k.reader.Close())
	}
	if err := errors.Join(append(errs, k.objs.Close())...); err != nil {
		return fmt.Errorf("unload what watches pots: %w", err)
	}
	return nil
}

func (k *kernel) add(p *pot) error {
	k.mu.Lock()
	k.pots[p.number] = p
	k.mu.Unlock()
	if err := k.objs.Pots.Put(p.ns, watchPot{Number: p.number}); err != nil {
		k.mu.Lock()
		delete(k.pots, p.number)
		k.mu.Unlock()
		return fmt.Errorf("watch pot %s: %w", p.ID, err)
	}
	return nil
}

func (k *kernel) remove(p *pot) {
	var had watchPot
	if err := k.objs.Pots.Lookup(p.ns, &had); err == nil && had.Number == p.number {
		p.lost(had)
		_ = k.objs.Pots.Delete(p.ns)
	}
	k.mu.Lock()
	delete(k.pots, p.number)
	k.mu.Unlock()
}

func (k *kernel) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = k.reader.Flush() }) // what is in it is read to its end
	defer stop()
	next := time.Now().Add(lostEvery)
	var rec ringbuf.Record
	for {
		if !time.Now().Before(next) {
			next = time.Now().Add(lostEvery)
			k.readLost()
		}
		k.reader.SetDeadline(next)
		err := k.reader.ReadInto(&rec)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, ringbuf.ErrFlushed):
			k.flushed(false)
			if ctx.Err() != nil {
				k.flushed(true)
				return
			}
		case err != nil:
			k.w.log.ErrorContext(ctx, "what happens in pots is not told any more", "error", err)
			k.flushed(true)
			<-ctx.Done()
			return
		default:
			k.take(rec.RawSample)
		}
	}
}

func (k *kernel) take(raw []byte) {
	r, err := decode(raw)
	if err != nil {
		k.w.log.Error("record of the kernel's side", "error", err)
		return
	}
	k.mu.Lock()
	p := k.pots[r.pot]
	k.mu.Unlock()
	if p == nil || r.addressless {
		return
	}
	in := item{record: r}
	if r.kind == executed {
		in.exe = openProgram(p, r)
	}
	p.tell(in)
}

// flushed answers those who wait for the ring to be read.
func (k *kernel) flushed(ended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = k.ended || ended
	for _, c := range k.waiting {
		close(c)
	}
	k.waiting = nil
}

func (k *kernel) drain(ctx context.Context) {
	// The reader may have come to an end a moment ago, and not said so yet: the second time counts.
	k.drainOnce(ctx)
	k.drainOnce(ctx)
	k.readLost()
}

func (k *kernel) drainOnce(ctx context.Context) {
	done := make(chan struct{})
	k.mu.Lock()
	if k.ended {
		k.mu.Unlock()
		return
	}
	k.waiting = append(k.waiting, done)
	k.mu.Unlock()
	if err := k.reader.Flush(); err != nil {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// readLost asks the kernel's side what it did not tell.
func (k *kernel) readLost() {
	k.mu.Lock()
	all := make([]*pot, 0, len(k.pots))
	for _, p := range k.pots {
		all = append(all, p)
	}
	k.mu.Unlock()
	for _, p := range all {
		var had watchPot
		if err := k.objs.Pots.Lookup(p.ns, &had); err == nil && had.Number == p.number {
			p.lost(had)
		}
	}
}
