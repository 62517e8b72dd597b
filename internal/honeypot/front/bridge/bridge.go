// Package bridge joins an attacker's session with the program that it runs in the pot, and records what
// passes. A session is what any SSH server makes of a channel: a terminal or none, variables, one
// program, its input, output and end; which server the attacker talks to makes no difference here.
package bridge

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/typed"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	bufferSize = 32 << 10
	// floodSize is how much is read at once from an attacker that sends as fast as it can: the SSH library answers each
	// read with a message, and wakes the sender.
	floodSize = 256 << 10
	// patience is how long a program that does not read may keep its last input waiting.
	patience = 5 * time.Second
	// exitPatience is how long the end of the output waits for the program's end.
	exitPatience = 250 * time.Millisecond

	// transferSample is how much of a transfer is in the recording as bytes, each way: its files are kept as files.
	transferSample = 256 << 10
)

// Seat is the attacker's end of a session.
type Seat interface {
	io.ReadWriteCloser
	Stderr() io.ReadWriter
	CloseWrite() error
	// Exit tells how the program ended.
	Exit(e event.Exit)
}

// Program is the pot's end of a session.
type Program interface {
	io.ReadWriteCloser
	Stderr() io.Reader
	CloseWrite() error
	// Wait returns how it ended; ok is false where it did not say.
	Wait() (exit event.Exit, ok bool)
}

// Options describe one session.
type Options struct {
	Seat     Seat
	Program  Program
	Rec      *record.Recorder
	Channel  uint32
	Start    event.Start
	Tap      transfer.Tap    // sees what comes and goes; may be nil
	Finished func()          // called when the program has ended, before the attacker hears of it; may be nil
	Gone     <-chan struct{} // closed when the attacker has closed its end
}

// Run passes bytes until the program has ended or the attacker is gone; then both ends are closed.
// Whoever does not read is not read for: nothing is queued.
func Run(o Options) {
	b := &bridge{o: o, buffers: &sync.Pool{New: func() any { p := make([]byte, bufferSize); return &p }}}
	if o.Start.Terminal() || o.Start.What == "shell" {
		b.typed = typed.New(typed.MaxLine)
	}
	var out, in sync.WaitGroup
	out.Go(func() { b.output(o.Program, o.Seat, recording.Out) })
	out.Go(func() { b.output(o.Program.Stderr(), o.Seat.Stderr(), recording.Err) })
	read := make(chan struct{})
	in.Go(func() { defer close(read); b.input() })
	ended := make(chan struct{})
	in.Go(func() { b.hangUp(read, ended) })
	out.Wait()
	b.end()
	close(ended)
	in.Wait()
	if o.Tap != nil {
		o.Tap.End()
	}
}

type bridge struct {
	o       Options
	buffers *sync.Pool
	typed   *typed.Keys
	sampled [2]int
	mu      sync.Mutex
	broken  bool // the attacker is gone
}

// hangUp ends the program of an attacker that has closed its end, once it has got what was sent before.
func (b *bridge) hangUp(read, ended <-chan struct{}) {
	select {
	case <-b.o.Gone:
	case <-ended:
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C:
	case <-ended:
		return
	}
	b.gone()
}

// end follows the program's end.
func (b *bridge) end() {
	b.awaitExit()
	b.mu.Lock()
	broken := b.broken
	b.mu.Unlock()
	if broken {
		_ = b.o.Program.Close()
	}
	exit, ok := b.o.Program.Wait()
	if ok {
		b.o.Rec.Note(event.Evidence{Kind: event.EvidenceExit, Channel: b.o.Channel, Exit: &exit})
	}
	if b.o.Finished != nil {
		b.o.Finished()
	}
	if ok {
		b.o.Seat.Exit(exit)
	}
	_ = b.o.Seat.CloseWrite()
	_ = b.o.Program.Close()
	_ = b.o.Seat.Close()
}

// awaitExit returns when the program has ended, or goes on without an output; then the attacker is told
// of the output's end. One who hears of that first, and has no input left, may close at once, and
// would never hear how the program ended.
func (b *bridge) awaitExit() {
	ended := make(chan struct{})
	go func() { // until the program has ended, which Run waits for
		defer close(ended)
		b.o.Program.Wait()
	}()
	timer := time.NewTimer(exitPatience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		_ = b.o.Seat.CloseWrite()
	}
}

// output passes what the program writes.
func (b *bridge) output(src io.Reader, dst io.Writer, kind recording.Kind) {
	buf := b.buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool has nothing else
	defer b.buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			p := (*buf)[:n]
			b.record(kind, 1, p)
			if b.o.Tap != nil && kind == recording.Out {
				b.o.Tap.Out(p)
			}
			if _, werr := dst.Write(p); werr != nil {
				b.gone()
				_, _ = io.Copy(io.Discard, src) // until the program notices
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (b *bridge) gone() {
	b.mu.Lock()
	b.broken = true
	b.mu.Unlock()
	_ = b.o.Program.Close()
}

// input passes what the attacker writes.
func (b *bridge) input() {
	small := b.buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool has nothing else
	defer b.buffers.Put(small)
	buf := *small
	for {
		n, err := b.o.Seat.Read(buf)
		if n > 0 {
			p := buf[:n]
			b.record(recording.In, 0, p)
			b.lines(p)
			if b.o.Tap != nil {
				b.o.Tap.In(p)
			}
			if _, werr := b.o.Program.Write(p); werr != nil {
				// It reads no more; what it still writes goes on to the attacker.
				_, _ = io.Copy(io.Discard, b.o.Seat)
				return
			}
		}
		if n == bufferSize && len(buf) == bufferSize {
			buf = make([]byte, floodSize)
		}
		if errors.Is(err, io.EOF) {
			if ends, ok := b.o.Tap.(interface{ EOF() }); ok {
				ends.EOF()
			}
			_ = b.o.Program.CloseWrite()
			return
		}
		if err != nil {
			b.gone()
			return
		}
	}
}

// record keeps bytes; of a transfer, whose files are kept as files, only the start.
func (b *bridge) record(kind recording.Kind, way int, p []byte) {
	if b.o.Tap == nil || kind == recording.Err {
		b.o.Rec.Record(kind, b.o.Channel, p)
		return
	}
	left := transferSample - b.sampled[way]
	if left <= 0 {
		return
	}
	b.sampled[way] += len(p)
	b.o.Rec.Record(kind, b.o.Channel, p[:min(left, len(p))])
	if len(p) > left {
		b.o.Rec.Note(event.Evidence{
			Kind: event.EvidenceTruncated, Channel: b.o.Channel,
			Reason: "of a transfer the files are kept, and only the start of its bytes",
		})
	}
}

func (b *bridge) lines(p []byte) {
	if b.typed == nil {
		return
	}
	for _, l := range b.typed.Input(p) {
		if l.Text != "" {
			b.o.Rec.Note(event.Evidence{Kind: event.EvidenceInput, Channel: b.o.Channel, Input: l.Text})
		}
	}
}
