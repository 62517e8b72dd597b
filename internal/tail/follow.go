package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Batch is some lines of one file.
type Batch struct {
	ID    string   // the same for the same lines handed on again after a crash, and for no others
	Path  string   // of the file, where it was found
	Lines [][]byte // without their ends; valid until the callback returns
}

// Options say what to follow and how.
type Options struct {
	Path     string        // file; may have date parts %Y %y %m %d %H %j
	Cursor   string        // file that keeps the cursor; empty: forgotten at the end
	FromHead bool          // without a cursor, begin at the beginning of what is there, not at its end
	Optional bool          // that no file is there is no finding
	Watcher  *Watcher      // shared with others; nil: one of its own
	Poll     time.Duration // how often to look where the kernel says nothing; 1 s
	Linger   time.Duration // how long a file is read on after it got a successor; 5 s, with date parts 10 min
	Backoff  time.Duration // longest pause between two tries to hand a batch on; 5 s
	MaxLine  int           // bytes of a line that are kept; 64 KiB
	MaxLines int           // in a batch; 500
	MaxBytes int           // read at once; 256 KiB
	Clock    func() time.Time
	Log      *slog.Logger
}

func (o *Options) setDefaults(dated bool) {
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Linger <= 0 {
		o.Linger = 5 * time.Second
		if dated {
			o.Linger = 10 * time.Minute
		}
	}
	if o.Backoff <= 0 {
		o.Backoff = 5 * time.Second
	}
	if o.MaxLine <= 0 {
		o.MaxLine = 64 << 10
	}
	if o.MaxLines <= 0 {
		o.MaxLines = 500
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 10
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// errOlderFirst: an older file got more.
var errOlderFirst = errors.New("an older file is to be read first")

// Follower follows one log. Its Run may be called once.
type Follower struct {
	o        Options
	pattern  pattern
	watcher  *Watcher
	sub      *subscriber
	dirs     map[string]struct{} // subscribed
	files    []*file             // oldest first
	handed   *pending            // the batch that was handed on, now or by an earlier run, and is not known to be taken
	last     time.Time           // of the last look
	began    bool                // the first look is over
	held     map[uint64]int64    // by inode: what an unreadable file held already when we began
	dirty    bool                // the cursor moved since it was saved
	journal  journal
	buf      []byte
	counts   counts
	problems *trouble.Kept
}

// New checks the options; it touches nothing.
func New(o Options) (*Follower, error) {
	p, err := parsePattern(o.Path)
	if err != nil {
		return nil, err
	}
	o.setDefaults(p.dated)
	return &Follower{
		o: o, pattern: p, sub: newSubscriber(), dirs: make(map[string]struct{}), held: make(map[uint64]int64),
		journal: journal{path: o.Cursor}, problems: trouble.New(o.Log, "log file"),
	}, nil
}

// Watch makes the follower share w with others. It is to be called before Run.
func (f *Follower) Watch(w *Watcher) { f.o.Watcher = w }

// Stats returns what was counted so far.
func (f *Follower) Stats() Stats { return f.counts.snapshot() }

// Findings returns what hinders the following now, each with its mend.
func (f *Follower) Findings() []event.Finding { return f.problems.List() }

// Run follows until ctx ends and returns nil then. Each batch is given to take, one at a time; where take fails the same
// batch is tried again, with growing pauses. An error is returned only for a cursor that cannot be used.
func (f *Follower) Run(ctx context.Context, take func(context.Context, Batch) error) error {
	f.watcher = f.o.Watcher
	if f.watcher == nil {
		f.watcher = NewWatcher(f.o.Log)
		defer f.watcher.Close()
	}
	defer f.release()
	if err := f.restore(); err != nil {
		return err
	}
	poll := f.o.Poll
	if f.watcher.err != nil {
		poll = min(poll, 100*time.Millisecond)
		f.problems.Set("watch", event.Finding{
			Level: "warning", Subject: f.o.Path,
			Text: fmt.Sprintf("the kernel gives no inotify instance (%v): looking ten times a second", f.watcher.err),
			Mend: "raise fs.inotify.max_user_instances with sysctl and restart",
		})
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for ctx.Err() == nil {
		f.look()
		moved, err := f.drain(ctx, take)
		if err != nil {
			break // ctx ended
		}
		if moved {
			continue
		}
		f.saveIfDirty()
		timer.Reset(poll)
		select {
		case <-ctx.Done():
		case <-f.sub.wake:
		case <-timer.C:
		}
	}
	f.saveIfDirty()
	return nil
}

func (f *Follower) release() {
	for dir := range f.dirs {
		f.watcher.unsubscribe(dir, f.sub)
	}
	for _, g := range f.files {
		g.close()
	}
	f.files = nil
	f.journal.close()
}

// drain reads every file, oldest first, and hands on what it finds. It reports whether there was anything.
func (f *Follower) drain(ctx context.Context, take func(context.Context, Batch) error) (moved bool, err error) {
	if f.handed != nil { // by an earlier run
		if err := f.drainPending(ctx, take); err != nil {
			return false, err
		}
	}
	for i := 0; i < len(f.files); {
		if older := f.checkTruncation(f.files[i]); older != nil {
			f.files = slices.Insert(f.files, i, older)
		}
		more, err := f.step(ctx, i, take)
		switch {
		case errors.Is(err, errOlderFirst):
			i = 0
		case err != nil:
			return moved, err
		case more:
			moved = true
		default:
			i++
		}
	}
	if !moved && cap(f.buf) > 64<<10 {
		f.buf = nil // quiet after a flood: don't hold on to it
	}
	return moved, nil
}

// step reads once from the file at i and hands on what it found; false at the end of the file.
func (f *Follower) step(ctx context.Context, i int, take func(context.Context, Batch) error) (bool, error) {
	g := f.files[i]
	unread := g.unread()
	if unread <= 0 {
		return f.finish(ctx, g, take)
	}
	for _, older := range f.files[:i] {
		if older.unread() > 0 { // it was written to before that which g holds now was
			return false, errOlderFirst
		}
	}
	size := int(min(int64(f.o.MaxBytes), unread))
	if cap(f.buf) < size {
		f.buf = make([]byte, max(size, min(2*cap(f.buf), f.o.MaxBytes), 4<<10))
	}
	lines, n, left, err := g.next(f.buf[:size], f.o.MaxLines, f.o.MaxLine)
	if err != nil {
		f.problems.Set("read", event.Finding{
			Level: "error", Subject: g.path, Text: err.Error(), Mend: "check the file system that holds it (dmesg); it is tried again every second",
		})
		return false, nil //nolint:nilerr // reported, and tried again at the next look
	}
	f.problems.Clear("read")
	if n == 0 {
		return false, nil
	}
	if left > 0 {
		f.counts.cutLines.Add(1)
		f.counts.cutBytes.Add(left)
	}
	if len(lines) > 0 {
		return true, f.hand(ctx, g, lines, take)
	}
	if g.start > g.offset { // nothing but empty lines
		f.moveTo(g, g.start)
	}
	return true, nil
}

// finish hands on the last line of a file that will get no more, where that line has no end; false where there is none.
func (f *Follower) finish(ctx context.Context, g *file, take func(context.Context, Batch) error) (bool, error) {
	if !g.over || g.start >= g.scan {
		return false, nil
	}
	line, left := g.takeLast()
	if left > 0 {
		f.counts.cutLines.Add(1)
		f.counts.cutBytes.Add(left)
	}
	if len(line) == 0 { // NULs
		f.moveTo(g, g.start)
		return true, nil
	}
	f.counts.unended.Add(1)
	return true, f.hand(ctx, g, [][]byte{line}, take)
}

// hand gives lines, which reach from g.offset to g.start, to take until it takes them.
func (f *Follower) hand(ctx context.Context, g *file, lines [][]byte, take func(context.Context, Batch) error) error {
	b := Batch{ID: fmt.Sprintf("%s.%d-%d", g.nonce, g.offset, g.start), Path: g.path, Lines: lines}
	f.handed = &pending{Nonce: g.nonce, Start: g.offset, End: g.start}
	f.save()
	for pause := min(50*time.Millisecond, f.o.Backoff); ; pause = min(2*pause, f.o.Backoff) {
		err := take(ctx, b)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("hand on lines of %s: %w", g.path, ctx.Err())
		}
		f.counts.retries.Add(1)
		f.problems.Set("take", event.Finding{
			Level: "warning", Subject: f.o.Path, Text: fmt.Sprintf("lines wait to be handed on: %v", err),
			Mend: "nothing is lost: it is tried again until it works",
		})
		if !wait(ctx, pause) {
			return fmt.Errorf("hand on lines of %s: %w", g.path, ctx.Err())
		}
	}
	f.handed = nil
	f.problems.Clear("take")
	f.counts.batches.Add(1)
	f.counts.lines.Add(int64(len(lines)))
	f.moveTo(g, g.start)
	return nil
}

// drainPending hands the batch on again that an earlier run handed on last.
func (f *Follower) drainPending(ctx context.Context, take func(context.Context, Batch) error) error {
	p := f.handed
	for _, g := range f.files {
		if g.nonce != p.Nonce || g.offset != p.Start {
			continue
		}
		lines, ok := f.reread(g, p.End)
		if !ok {
			break
		}
		if len(lines) > 0 {
			f.counts.resent.Add(1)
			if err := f.hand(ctx, g, lines, take); err != nil {
				return err
			}
		}
		break
	}
	f.handed, f.dirty = nil, true
	return nil
}

// reread reads the lines up to end.
func (f *Follower) reread(g *file, end int64) (lines [][]byte, ok bool) {
	for g.start < end {
		if g.scan == end { // it was a last line without an end
			line, _ := g.takeLast()
			return append(lines, line), true
		}
		buf := make([]byte, min(end-g.scan, int64(f.o.MaxBytes)))
		part, n, _, err := g.next(buf, f.o.MaxLines, f.o.MaxLine)
		if err != nil || n == 0 {
			g.seek(g.offset)
			return nil, false
		}
		lines = append(lines, part...)
	}
	return lines, true
}

func (f *Follower) moveTo(g *file, offset int64) {
	f.counts.bytes.Add(offset - g.offset)
	g.offset = offset
	f.dirty = true
}

func (f *Follower) saveIfDirty() {
	if f.dirty {
		f.save()
	}
}

// save writes the cursor. That it can't be written is reported and does not stop the following: a line that comes twice
// after a crash is better than none.
func (f *Follower) save() {
	f.dirty = false
	if f.o.Cursor == "" {
		return
	}
	c := cursor{Version: cursorVersion, Pattern: f.o.Path, Looked: f.last, Pending: f.handed, Files: make([]fileState, 0, len(f.files))}
	for _, g := range f.files {
		c.Files = append(c.Files, g.state())
	}
	if err := f.journal.write(&c); err != nil {
		f.dirty = true
		f.problems.Set("cursor", event.Finding{
			Level: "error", Subject: f.o.Cursor, Text: fmt.Sprintf("after a restart lines may come twice: %v", err),
			Mend: "free space in, or let this program write to, " + filepath.Dir(f.o.Cursor),
		})
		return
	}
	f.problems.Clear("cursor")
}

// wait pauses for d and reports whether ctx still lives.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
