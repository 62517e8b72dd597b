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
	"strings"
	"sync/atomic"
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
	BootID      string   // file that says which boot this is; empty: the kernel's
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

	overlong, malformed atomic.Int64
	lost                *losses
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
	if o.BootID == "" {
		o.BootID = "/proc/sys/kernel/random/boot_id"
	}
	j := &journal{o: o, host: c.Host, log: c.Log, problems: trouble.New(c.Log, "a road for logs"), lost: c.lost}
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
	const shortest, longest = 100 * time.Millisecond, 30 * time.Second
	for pause := shortest; ctx.Err() == nil; {
		began := time.Now()
		err := j.begin(ctx)
		if err == nil {
			err = j.follow(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errAnew) {
			pause = shortest
			continue
		}
		if time.Since(began) > longest {
			pause = shortest
		}
		j.complain(err)
		wait(ctx, pause)
		pause = min(2*pause, longest)
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
		// Whose boot is meant by "this one" is not clear there: follow all.
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

// follow hands on what there is, then what comes, until journalctl ends. After the machine started again these are two
// readings: first what is left of the boots before, then all of this one. Not from the cursor on: the clock of a boot may begin
// behind the end of the one before, and by time is how journalctl finds its place among boots.
func (j *journal) follow(ctx context.Context) error {
	at := j.out.state.Position
	if j.o.Directory != "" {
		return j.pass(ctx, reading{follow: true, cursor: at.Cursor})
	}
	boot, err := j.bootID()
	if err != nil {
		return err
	}
	if bootOf(at.Cursor) == boot {
		return j.pass(ctx, reading{follow: true, cursor: at.Cursor})
	}
	if err := j.pass(ctx, reading{cursor: at.Cursor, until: boot}); err != nil || ctx.Err() != nil {
		return err
	}
	return j.pass(ctx, reading{follow: true})
}

// bootID is this boot's, as cursors have it.
func (j *journal) bootID() (string, error) {
	id, err := os.ReadFile(j.o.BootID)
	if err != nil {
		return "", fmt.Errorf("ask the kernel which boot this is: %w", err)
	}
	return strings.ReplaceAll(string(bytes.TrimSpace(id)), "-", ""), nil
}

// reading is what one journalctl is to print.
type reading struct {
	cursor string // the entry that was handed on last; empty: from the beginning
	follow bool   // what comes, too; then of this boot only, unless a directory is read
	until  string // without the entries of this boot
}

// pass runs one journalctl and hands on what it prints.
func (j *journal) pass(ctx context.Context, r reading) error {
	args := j.args()
	if r.follow {
		args = j.args("--follow", "--no-tail")
		if j.o.Directory == "" {
			args = append(args, "--boot")
		}
	}
	if r.cursor != "" {
		// Not --after-cursor: where that entry is gone, it skips the next one (journalctl before systemd 254).
		args = append(args, "--cursor="+r.cursor)
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
	if err := j.hand(ctx, entries, strings.Join(filter, " "), r); err != nil {
		cancel()
		<-read
		_ = program.wait() // it was killed
		return err
	}
	<-read
	return program.wait()
}

// errAnew asks for a journalctl that is started anew.
var errAnew = errors.New("journalctl is to be started anew")

// hand hands entries on, as many at once as are there, until they end. Where the bus did not take some at once, it asks for
// another journalctl: what this one had not read by then may have been vacuumed, which only one that begins anew shows.
func (j *journal) hand(ctx context.Context, entries <-chan entry, filter string, r reading) error {
	first := r.cursor != ""
	for {
		var lines [][]byte
		size, next := 0, ""
		for len(lines) < maxBatchLines && size < maxBatchBytes {
			e, ok, waiting := j.next(ctx, entries, next == "")
			if !ok {
				if waiting {
					break
				}
				if next == "" {
					return nil
				}
				break
			}
			if first {
				first = false
				if j.already(e.Cursor, filter) {
					continue
				}
			}
			if r.until != "" && bootOf(e.Cursor) == r.until {
				continue
			}
			next = e.Cursor
			if !e.shipped() || string(e.Identifier) == "kokkuri-agent" { // our own words would come round for ever
				continue
			}
			line, cut := e.line(j.host)
			j.lost.cut(cut)
			lines = append(lines, line)
			size += len(line)
		}
		j.problems.Clear("journalctl")
		at := journalPosition{Cursor: next, Filter: filter}
		retries := j.out.retries.Load()
		switch {
		case next == "":
		case len(lines) == 0:
			j.out.move(at)
		default:
			if err := j.out.put(ctx, lines, at); err != nil {
				return err // ctx ended
			}
		}
		if r.follow && j.out.retries.Load() != retries {
			return errAnew
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
func (j *journal) already(cursor, filter string) bool {
	at := j.out.state.Position
	if sameEntry(at.Cursor, cursor) {
		return true
	}
	if at.Cursor != "" && at.Filter == filter {
		j.lost.gaps.Add(1)
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
			j.lost.leftOut.Add(1)
			continue
		case json.Unmarshal(line, &e) != nil || e.Cursor == "":
			j.malformed.Add(1)
			j.lost.leftOut.Add(1)
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
