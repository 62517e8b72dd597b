package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Journal says what of the systemd journal is followed: entries of any of the identifiers or units; without either, all.
type Journal struct {
	Identifiers []string // SYSLOG_IDENTIFIER
	Units       []string // _SYSTEMD_UNIT
	Directory   string   // of the journal's files; empty: the system's
	Program     string   // journalctl
}

const (
	maxEntry     = 512 << 10 // bytes of an entry as JSON; a byte takes up to four characters
	maxWaiting   = 32        // entries that were read and not handed on
	maxComplaint = 2048      // bytes of what journalctl complained
)

// journal follows the systemd journal by a journalctl of its own. Its position is a cursor of the journal's, which survives
// rotation; what was vacuumed before it was read is noticed and reported.
type journal struct {
	o        Journal
	host     string
	out      outbox[journalPosition]
	problems *trouble.Kept
	log      *slog.Logger

	overlong, cut, malformed, gaps atomic.Int64
}

// journalPosition is the entry that was handed on last.
type journalPosition struct {
	Cursor string `json:"cursor"` // empty: before the first
	Filter string `json:"filter"` // under which the entry was found; another may not find it
}

func newJournal(o Journal, c *Options, dir string) *journal {
	if o.Program == "" {
		o.Program = "journalctl"
	}
	j := &journal{o: o, host: c.Host, log: c.Log, problems: trouble.New(c.Log, "a road for logs")}
	j.out = outbox[journalPosition]{
		host: c.Host, origin: "journal", name: "journal", road: event.RoadJournal, publish: c.Publish,
		file: stateFile{path: filepath.Join(dir, "journal.json")}, problems: j.problems, log: c.Log,
	}
	return j
}

// run follows until ctx ends; journalctl is started again whenever it ends.
func (j *journal) run(ctx context.Context, _ *tail.Watcher) error {
	if err := j.out.open(); err != nil {
		return err
	}
	defer j.out.close()
	if j.out.resend(ctx) != nil {
		return nil // ctx ended
	}
	const longest = 30 * time.Second
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, longest) {
		began := time.Now()
		err := j.begin(ctx)
		if err == nil {
			err = j.follow(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > longest {
			pause = 100 * time.Millisecond
		}
		j.complain(err)
		wait(ctx, pause)
	}
	return nil
}

func (j *journal) complain(err error) {
	if err == nil {
		return // it was killed, or ended by itself: started again
	}
	mend := "does journalctl run as this user (root, or a member of systemd-journal)? If it complains of the cursor, stop the agent, remove " +
		j.out.file.path + " and start it"
	if errors.Is(err, exec.ErrNotFound) {
		mend = "install systemd's journalctl, or set agent.journal.follow: off"
	}
	j.problems.Set("journalctl", event.Finding{
		Level: trouble.Error, Subject: "journal", Text: fmt.Sprintf("is not followed: %v; tried again", err), Mend: mend,
	})
}

// begin finds the place to follow from where no earlier run left one: behind what the journal holds already.
func (j *journal) begin(ctx context.Context) error {
	if j.out.known {
		return nil
	}
	cmd := exec.CommandContext(ctx, j.o.Program, j.args("--lines=1")...)
	var said bytes.Buffer
	cmd.Stderr = &limited{w: &said, left: maxComplaint}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", j.o.Program, err, bytes.TrimSpace(said.Bytes()))
	}
	var last entry
	if line := bytes.TrimSpace(out); len(line) > 0 {
		if err := json.Unmarshal(line, &last); err != nil || last.Cursor == "" {
			return fmt.Errorf("%s: its answer is no entry: %w", j.o.Program, errors.Join(err, errEntryField))
		}
	}
	j.out.move(journalPosition{Cursor: last.Cursor})
	return nil
}

func (j *journal) args(more ...string) []string {
	args := []string{"--quiet", "--no-pager", "--all", "--output=json", "--output-fields=" + entryFields}
	if j.o.Directory != "" {
		// Whose boot is meant by "this one" is not clear there; see follow.
		args = append(args, "--directory="+j.o.Directory, "--merge")
	}
	return append(args, more...)
}

// filter is the matches that journalctl is given, as its manual has them: + separates alternatives.
func (j *journal) filter() []string {
	var out []string
	for _, id := range j.o.Identifiers {
		out = append(out, "SYSLOG_IDENTIFIER="+id)
	}
	if len(j.o.Identifiers) > 0 && len(j.o.Units) > 0 {
		out = append(out, "+")
	}
	for _, unit := range j.o.Units {
		if !strings.Contains(unit, ".") {
			unit += ".service"
		}
		out = append(out, "_SYSTEMD_UNIT="+unit)
	}
	return out
}

// follow hands on what there is, then what comes, until journalctl ends. These are two: one that follows shows the entries of
// one boot only, and what was written before the machine started again must come as well.
func (j *journal) follow(ctx context.Context) error {
	if err := j.pass(ctx, false); err != nil || ctx.Err() != nil {
		return err
	}
	return j.pass(ctx, true)
}

// pass runs one journalctl and hands on what it prints.
func (j *journal) pass(ctx context.Context, follow bool) error {
	args := j.args()
	if follow {
		args = j.args("--follow", "--no-tail")
	}
	at := j.out.state.Position
	if at.Cursor != "" {
		// Not --after-cursor: where that entry is gone, it skips the next one (journalctl before systemd 254).
		args = append(args, "--cursor="+at.Cursor)
	}
	filter := j.filter()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	program, err := spawn(ctx, j.o.Program, append(args, filter...))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = program.out.Close() }) // whatever still holds its other end
	defer stop()
	entries := make(chan entry, maxWaiting)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(entries)
		j.read(ctx, program.out, entries)
	}()
	j.hand(ctx, entries, strings.Join(filter, " "), !follow)
	<-read
	return program.wait()
}

// hand hands entries on, as many at once as are there; all says that the one handed on last should be the first of them.
func (j *journal) hand(ctx context.Context, entries <-chan entry, filter string, all bool) {
	first := true
	for {
		var lines [][]byte
		size, next := 0, ""
		for len(lines) < maxBatchLines && size < maxBatchBytes {
			e, ok, waiting := j.next(ctx, entries, next == "")
			if !ok {
				if waiting {
					break
				}
				if len(lines) == 0 {
					return
				}
				break
			}
			if first {
				first = false
				if j.already(e.Cursor, filter, all) {
					continue
				}
			}
			next = e.Cursor
			if !e.shipped() || string(e.Identifier) == "kokkuri-agent" { // our own words would come round for ever
				continue
			}
			line, cut := e.line(j.host)
			if cut > 0 {
				j.cut.Add(int64(cut))
			}
			lines = append(lines, line)
			size += len(line)
		}
		j.problems.Clear("journalctl")
		at := journalPosition{Cursor: next, Filter: filter}
		switch {
		case next == "":
		case len(lines) == 0:
			j.out.move(at)
		default:
			if j.out.put(ctx, lines, at) != nil {
				return // ctx ended
			}
		}
	}
}

// next is the next entry; where none is there it waits for one if that is asked for, and else says that it would wait.
func (*journal) next(ctx context.Context, entries <-chan entry, block bool) (e entry, ok, waiting bool) {
	if !block {
		select {
		case e, ok = <-entries:
			return e, ok, false
		default:
			return e, false, true
		}
	}
	select {
	case e, ok = <-entries:
	case <-ctx.Done():
	}
	return e, ok, false
}

// already reports whether the first entry is the one that was handed on last. That it is not, although the filter would find
// it, says that the journal was vacuumed meanwhile.
func (j *journal) already(cursor, filter string, all bool) bool {
	at := j.out.state.Position
	if sameEntry(at.Cursor, cursor) {
		return true
	}
	if (all || sameBoot(at.Cursor, cursor)) && at.Cursor != "" && at.Filter == filter {
		j.gaps.Add(1)
		j.problems.Set("gap", event.Finding{
			Level: trouble.Warning, Subject: "journal",
			Text: fmt.Sprintf("entries were vacuumed or rotated away before they were read, since %s; how many nobody knows", time.Now().UTC().Format(time.RFC3339)),
			Mend: "let the journal keep more: SystemMaxUse= and RuntimeMaxUse= in journald.conf; the server must not be away longer than that lasts",
		})
	}
	return false
}

// read reads entries from journalctl's output until it ends. What can't be read is left out and counted.
func (j *journal) read(ctx context.Context, r io.ReadCloser, entries chan<- entry) {
	defer r.Close() //nolint:errcheck // only read from
	lines := lineReader{r: r, longest: maxEntry}
	for {
		line, whole, err := lines.next()
		if err != nil {
			return // the program's end says why
		}
		var e entry
		switch {
		case !whole:
			j.overlong.Add(1)
			continue
		case json.Unmarshal(line, &e) != nil || e.Cursor == "":
			j.malformed.Add(1)
			continue
		}
		select {
		case entries <- e:
		case <-ctx.Done():
			return
		}
	}
}

// findings are what hinders the following now.
func (j *journal) findings() []event.Finding {
	out := j.problems.List()
	if n := j.overlong.Load() + j.malformed.Load(); n > 0 {
		out = append(out, event.Finding{
			Level: trouble.Warning, Subject: "journal", Text: fmt.Sprintf("%d entries were left out: longer than %d KiB or not understood", n, maxEntry>>10),
			Mend: "see what writes them: journalctl -o json",
		})
	}
	return out
}

// journalctl is one that dies with us, even where we are killed.
type journalctl struct {
	out  *os.File
	done chan error
}

// spawn starts a program whose output is read from a pipe.
func spawn(ctx context.Context, program string, args []string) (*journalctl, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	c := &journalctl{out: r, done: make(chan error, 1)}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Stdout, cmd.Stderr = w, &limited{w: &said, left: maxComplaint}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.WaitDelay = 5 * time.Second
		err := cmd.Start()
		_ = w.Close()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Exited() {
			err = nil // by a signal
		}
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(said.Bytes()))
		}
		c.done <- err
	}()
	if err := <-started; err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return c, nil
}

func (c *journalctl) wait() error { return <-c.done }

// limited passes on so many bytes and takes the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	if _, err := l.w.Write(b[:n]); err != nil {
		return 0, err //nolint:wrapcheck // a buffer's
	}
	return len(b), nil
}

// lineReader reads lines of at most longest bytes; of longer ones nothing is kept.
type lineReader struct {
	r       io.Reader
	longest int
	buf     []byte
	from    int // of the unread part of buf
	skip    bool
}

// next returns the next line without its end; whole is false where it was too long. It is valid until the next call.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	const chunk = 16 << 10
	for scan := l.from; ; {
		if i := bytes.IndexByte(l.buf[scan:], '\n'); i >= 0 {
			line, whole = l.buf[l.from:scan+i], !l.skip
			l.from, l.skip = scan+i+1, false
			return line, whole && len(line) <= l.longest, nil
		}
		if l.skip || len(l.buf)-l.from > l.longest {
			l.skip, l.from, l.buf = true, 0, l.buf[:0]
		}
		if l.from > 0 {
			l.buf = l.buf[:copy(l.buf, l.buf[l.from:])]
			l.from = 0
		}
		if len(l.buf) == 0 && cap(l.buf) > 4*chunk {
			l.buf = nil // quiet again: don't hold on to it
		}
		scan = len(l.buf)
		l.buf = slices.Grow(l.buf, chunk)
		n, err := l.r.Read(l.buf[scan:cap(l.buf)])
		l.buf = l.buf[:scan+n]
		if err != nil && n == 0 {
			return nil, false, err //nolint:wrapcheck // io.EOF
		}
	}
}
