package watch

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	queueLength = 1024
	settleAfter = time.Second     // a program that ends within it is told with its end
	lostEvery   = 2 * time.Second // between two looks for what was not told
	missedEvery = 10 * time.Second
	mostRunning = 4096 // programs of which the end is waited for

	// What is told of a pot one by one: so many at once, and so many a second.
	noteBurst, noteRate = 4000, 50
	// What is kept of it: bytes at once, and a second.
	keepBurst, keepRate = 256 << 20, 8 << 20
)

// item is something that happened in a pot: a record, a write, or a question.
type item struct {
	record

	exe     *os.File      // of executed: the program, where it could be opened
	written *written      // of a write
	flushed chan struct{} // closed when all before it is noted
}

func (i item) close() {
	if i.exe != nil {
		_ = i.exe.Close()
	}
	if i.written != nil && i.written.file != nil {
		_ = i.written.file.Close()
	}
	if i.flushed != nil {
		close(i.flushed)
	}
}

// pot is a pot that is watched. What sees something puts it into its queue; its worker, work, notes it.
type pot struct {
	Pot

	w      *Watcher
	ns     uint32
	number uint32
	files  *files // nil where they are not seen

	queue  chan item
	ending chan struct{}
	done   chan struct{} // closed when its worker has ended
	once   sync.Once

	execsLost, socksLost, writesLost atomic.Uint64 // since the worker looked

	mu         sync.Mutex
	execs      uint64 // lost, as the kernel's side last counted
	socks      uint64
	toldMissed time.Time

	// The worker's.
	running map[uint32]*program // by the machine's pid
	writes  map[string]*pendingWrite
	notes   bucket
	bytes   bucket
	kept    map[identity]event.Content
}

// program is one whose start was seen.
type program struct {
	evidence event.Evidence
	told     bool
}

func newPot(w *Watcher, to Pot, ns, number uint32) *pot {
	return &pot{
		Pot: to, w: w, ns: ns, number: number, queue: make(chan item, queueLength), ending: make(chan struct{}), done: make(chan struct{}),
		running: make(map[uint32]*program), writes: make(map[string]*pendingWrite), kept: make(map[identity]event.Content),
		notes: bucket{most: noteBurst, rate: noteRate}, bytes: bucket{most: keepBurst, rate: keepRate},
	}
}

// tell puts something into the queue, or counts it where that is full.
func (p *pot) tell(i item) {
	select {
	case p.queue <- i:
		return
	default:
	}
	switch {
	case i.written != nil:
		p.writesLost.Add(1)
	case i.kind == executed:
		p.execsLost.Add(1)
	case i.kind == connected || i.kind == listened:
		p.socksLost.Add(1)
	}
	i.close()
}

// lost takes over what the kernel's side counts.
func (p *pot) lost(had watchPot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.execsLost.Add(had.Execs.Lost - p.execs)
	p.socksLost.Add(had.Socks.Lost - p.socks)
	p.execs, p.socks = had.Execs.Lost, had.Socks.Lost
}

// end has the worker note what it has and end.
func (p *pot) end() {
	p.once.Do(func() {
		if p.files != nil {
			p.files.close()
		}
		close(p.ending)
	})
}

// flush returns when what is in the queue is noted.
func (p *pot) flush(ctx context.Context) {
	done := make(chan struct{})
	select {
	case p.queue <- item{flushed: done}:
	case <-p.ending:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-p.ending:
	case <-ctx.Done():
	}
}

// work notes what comes until the pot's end.
func (p *pot) work() {
	tick := time.NewTicker(settleAfter / 2)
	defer tick.Stop()
	for {
		select {
		case i := <-p.queue:
			p.handle(i)
		case <-tick.C:
			p.settle(time.Now(), false)
		case <-p.ending:
			for {
				select {
				case i := <-p.queue:
					p.handle(i)
					continue
				default:
				}
				p.settle(time.Now(), true)
				return
			}
		}
	}
}

func (p *pot) handle(i item) {
	defer i.close()
	switch {
	case i.flushed != nil:
		p.settle(time.Now(), true)
	case i.written != nil:
		p.wrote(i)
	case i.kind == executed:
		p.started(i)
	case i.kind == exited:
		p.ended(i.record)
	case i.kind == connected || i.kind == listened:
		p.connection(i.record)
	}
}

func (p *pot) started(i item) {
	if old := p.running[i.pid]; old != nil { // it became another program
		p.tellProgram(old)
		delete(p.running, i.pid)
	}
	x := i.exec
	e := &event.Execution{
		PID: i.inside, Parent: i.parent, UID: i.uid, Path: event.Bytes(x.path), Dir: event.Bytes(x.dir), Unnamed: x.unnamed, Truncated: x.cut,
		Args: make([]event.Bytes, 0, len(x.args)),
	}
	if x.script {
		e.Script = event.Bytes(x.filename)
	}
	for _, a := range x.args {
		e.Args = append(e.Args, event.Bytes(a))
	}
	e.File = p.program(i)
	run := &program{evidence: event.Evidence{Kind: event.EvidenceExecution, At: wall(i.at), Execution: e}}
	if len(p.running) >= mostRunning {
		p.tellProgram(run)
		return
	}
	p.running[i.pid] = run
}

func (p *pot) ended(r record) {
	run := p.running[r.pid]
	if run == nil {
		return
	}
	delete(p.running, r.pid)
	exit, lasted := exitOf(r.code), time.Duration(max(0, int64(r.at-r.since)))
	if r.unknown {
		exit = nil
	}
	x := run.evidence.Execution
	if !run.told {
		x.Exit, x.Lasted = exit, lasted
		p.tellProgram(run)
		return
	}
	p.note(event.Evidence{
		Kind: event.EvidenceEnding, At: wall(r.at), Ending: &event.Ending{PID: x.PID, Path: x.Path, Exit: exit, Lasted: lasted},
	})
}

func (p *pot) tellProgram(run *program) {
	if run.told {
		return
	}
	run.told = true
	if p.note(run.evidence) {
		p.w.count(func(c *Counts) { c.Executions++ })
	}
}

func (p *pot) connection(r record) {
	what := "connect"
	if r.kind == listened {
		what = "listen"
	}
	if p.note(event.Evidence{Kind: event.EvidenceConnection, At: wall(r.at), Connection: &event.Connection{
		What: what, PID: r.inside, UID: r.uid, Address: r.address,
	}}) {
		p.w.count(func(c *Counts) { c.Connections++ })
	}
}

// note notes a piece of evidence, if there was not too much.
func (p *pot) note(e event.Evidence) bool {
	if !p.notes.take(1) {
		switch {
		case e.Execution != nil:
			p.execsLost.Add(1)
		case e.Connection != nil:
			p.socksLost.Add(1)
		case e.Write != nil:
			p.writesLost.Add(1)
		}
		return false
	}
	p.w.o.Note(p.Key, p.ID, e)
	return true
}

// settle tells of programs that go on, of files that nobody writes to any more, and of what was missed.
func (p *pot) settle(now time.Time, all bool) {
	for _, run := range p.running {
		if !run.told && (all || now.Sub(run.evidence.At) >= settleAfter) {
			p.tellProgram(run)
		}
	}
	p.settleWrites(now, all)
	if all || now.Sub(p.toldMissed) >= missedEvery {
		p.tellMissed(now)
	}
}

func (p *pot) tellMissed(now time.Time) {
	m := event.Missed{Executions: p.execsLost.Swap(0), Connections: p.socksLost.Swap(0), Writes: p.writesLost.Swap(0)}
	if m.Sum() == 0 {
		return
	}
	p.toldMissed = now
	p.w.count(func(c *Counts) {
		c.Missed.Executions += m.Executions
		c.Missed.Connections += m.Connections
		c.Missed.Writes += m.Writes
	})
	p.w.o.Note(p.Key, p.ID, event.Evidence{Kind: event.EvidenceMissed, At: now, Missed: &m, Reason: "too much at once"})
}

// exitOf reads a status as wait(2) has it.
func exitOf(code uint32) *event.Exit {
	if s := unix.WaitStatus(code); s.Signaled() {
		return &event.Exit{Signal: signalName(s.Signal()), Core: s.CoreDump()}
	}
	return &event.Exit{Status: int(code >> 8 & 0xff)}
}

func signalName(s unix.Signal) string {
	name := unix.SignalName(s)
	if len(name) > 3 && name[:3] == "SIG" {
		return name[3:]
	}
	return s.String()
}

// wall turns a reading of CLOCK_MONOTONIC into a time.
func wall(at uint64) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(now.Nano() - int64(at)))
}

// bucket lets so much pass at once, and so much a second.
type bucket struct {
	most, rate float64
	used       float64
	at         time.Time
}

// take takes n, which may be more than is left while anything is, or refuses.
func (b *bucket) take(n float64) bool {
	now := time.Now()
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	if b.used >= b.most {
		return false
	}
	b.used += n
	return true
}
